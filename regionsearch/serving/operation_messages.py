"""Operations as messages of the contract."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from regionsearch.contract_names import OPERATION_KINDS, OPERATION_STATES
from regionsearch.serving.operations import Operation, Outcome, SnapshotFacts
from regionsearch.serving.status import operation_error_of
from regionsearch.v1 import operations_pb2 as pb
from regionsearch.v1 import types_pb2


def operation_to_message(operation: Operation) -> pb.Operation:
    return pb.Operation(
        id=operation.id,
        collection=operation.collection,
        kind=OPERATION_KINDS[operation.kind],
        state=OPERATION_STATES[operation.state],
        progress=operation.progress,
        result=None if operation.outcome is None else _outcome_to_message(operation.outcome),
        error=None if operation.error is None else operation_error_of(operation.error),
        created=_moment(operation.created),
        started=_moment(operation.started),
        finished=_moment(operation.finished),
    )


def snapshot_to_message(facts: SnapshotFacts) -> types_pb2.Snapshot:
    return types_pb2.Snapshot(
        name=facts.name,
        collection=facts.collection,
        images=facts.images,
        entities=facts.entities,
        bytes=facts.bytes,
        generation=facts.generation,
        created=_moment(facts.created),
    )


def _outcome_to_message(outcome: Outcome) -> pb.OperationResult:
    snapshot = None if outcome.snapshot is None else snapshot_to_message(outcome.snapshot)
    return pb.OperationResult(
        images=outcome.images, snapshot=snapshot, complete=outcome.complete, notes=outcome.notes
    )


def _moment(when: datetime | None) -> Timestamp | None:
    if when is None:
        return None
    made = Timestamp()
    made.FromDatetime(when)
    return made
