"""From messages about collections and operations to plain values. Pure functions, shared by both clients."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from regionsearch.client.answers import CollectionInfo, ModelFingerprint
from regionsearch.client.failures import error_of_one
from regionsearch.client.stored_answers import CollectionStats, IndexSegment, Operation, Snapshot
from regionsearch.contract_names import (
    FAVOURS,
    FIELD_KINDS,
    OPERATION_KINDS,
    OPERATION_STATES,
    PIXELS_KEPT,
    by_value,
)
from regionsearch.errors import Cancelled, Unavailable
from regionsearch.v1 import collections_pb2, operations_pb2, types_pb2

_PIXELS_NAMES = by_value(PIXELS_KEPT)
_FIELD_KIND_NAMES = by_value(FIELD_KINDS)
_FAVOUR_NAMES = by_value(FAVOURS)
_KIND_NAMES = by_value(OPERATION_KINDS)
_STATE_NAMES = by_value(OPERATION_STATES)


def collection_info(message: collections_pb2.Collection) -> CollectionInfo:
    return CollectionInfo(
        name=message.name,
        embedder=_fingerprint(message.embedder),
        segmenter=_fingerprint(message.segmenter),
        pixels=_PIXELS_NAMES[message.pixels],
        entity_limit=message.entity_limit,
        images=message.images,
        entities=message.entities,
        stored_bytes=message.stored_bytes,
        generation=message.generation,
        indexed_fields={field.path: _FIELD_KIND_NAMES[field.kind] for field in message.indexed_fields},
        recall_target=message.index.recall_target,
        # A server of an earlier version says nothing of it.
        favour=_FAVOUR_NAMES.get(message.index.favour, "memory"),
        space=message.space,
    )


def collection_stats(message: collections_pb2.CollectionStats) -> CollectionStats:
    return CollectionStats(
        name=message.name,
        images=message.images,
        entities=message.entities,
        embedder=_fingerprint(message.embedder),
        segmenter=_fingerprint(message.segmenter),
        bytes=dict(sorted(message.bytes.items())),
        fresh_rows=message.fresh_rows,
        deleted_rows=message.deleted_rows,
        segments=tuple(map(_segment, message.segments)),
        fill=message.fill,
        generation=message.generation,
        warnings=tuple(message.warnings),
    )


def snapshot(message: types_pb2.Snapshot) -> Snapshot:
    return Snapshot(
        name=message.name,
        collection=message.collection,
        images=message.images,
        entities=message.entities,
        bytes=message.bytes,
        generation=message.generation,
        created=message.created.ToDatetime(tzinfo=UTC),
    )


def operation(message: operations_pb2.Operation) -> Operation:
    result = message.result
    return Operation(
        id=message.id,
        kind=_KIND_NAMES[message.kind],
        collection=message.collection,
        state=_STATE_NAMES[message.state],
        progress=message.progress,
        created=message.created.ToDatetime(tzinfo=UTC),
        started=_moment(message.started) if message.HasField("started") else None,
        finished=_moment(message.finished) if message.HasField("finished") else None,
        images=result.images,
        snapshot=snapshot(result.snapshot) if result.HasField("snapshot") else None,
        complete=result.complete if result.HasField("complete") else None,
        error=error_of_one(message.error) if message.HasField("error") else None,
        notes=tuple(result.notes),
    )


def succeeded(last: Operation | None) -> Operation:
    """last: what was told last. Raises the error that the operation failed with, Cancelled when it was
    cancelled, and Unavailable when the server left off before its end."""
    if last is None or not last.ended:
        raise Unavailable("the server left off telling of the operation before its end")
    if last.error is not None:
        raise last.error
    if last.state == "cancelled":
        raise Cancelled(f"operation {last.id} ({last.kind} of {last.collection!r}) was cancelled")
    return last


def _fingerprint(message: types_pb2.Fingerprint) -> ModelFingerprint:
    return ModelFingerprint(message.name, message.weights, message.dimension, message.preprocessing)


def _segment(message: collections_pb2.IndexSegment) -> IndexSegment:
    return IndexSegment(
        number=message.number,
        images=message.images,
        entities=message.entities,
        deleted_images=message.deleted_images,
        entity_index=message.entity_index,
        image_index=message.image_index,
        bytes=message.bytes,
    )


def _moment(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)
