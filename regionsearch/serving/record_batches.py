"""Stores finished records of calls, batch by batch, each all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import grpc
import numpy as np

from regionsearch.collection import Collection, ImageRecord
from regionsearch.errors import InvalidRecord, InvalidRequest, RegionSearchError
from regionsearch.models.precomputed import KIND as PRECOMPUTED
from regionsearch.protobuf_shapes import at_field, at_record
from regionsearch.serving.backend import Backend
from regionsearch.serving.calls import check_alive
from regionsearch.serving.record_uploads import RECORDS_AT_ONCE, Received, conditions_of, received
from regionsearch.serving.required import DURABILITY_NAMES, collection_of, naming_payload
from regionsearch.v1 import images_pb2 as pb

EMBEDDED_TOGETHER = 8
"""Pictures that the embedder is handed at once; the pipeline's own batch."""
FEW_RECORDS = 8
"""Of a call that waits for no other, unless pictures are to be decoded."""
RUNS_AT_ONCE = 16_000_000
"""Of the masks of a call's records, 64 MB, and some copies of that: records of boxes alone make much of few
bytes."""


def upsert_records(
    backend: Backend,
    collection: Collection,
    request: pb.UpsertRecordsRequest,
    context: grpc.ServicerContext,
) -> pb.UpsertRecordsResponse:
    """Raises InvalidRecord and its kin, naming the record's field, VersionMismatch, StorageFull."""
    if not 1 <= len(request.records) <= RECORDS_AT_ONCE:
        raise InvalidRequest(
            f"there are {len(request.records)} records; 1 to {RECORDS_AT_ONCE} can be (limits.batch_records)",
            field="records",
        )
    conditions = conditions_of(request.records)
    with _turn(backend, request, context):
        records = _records_of(backend, collection, request, context)
        try:
            results = collection.upsert(
                records,
                if_versions=conditions or None,
                idempotency_key=request.idempotency_key,
                durability=DURABILITY_NAMES[request.durability],
            )
        except InvalidRecord:
            _check_each(collection, records)
            raise
    backend.refresh(collection)
    last = {record.image_id: record for record in records}
    return pb.UpsertRecordsResponse(
        upserted=[
            pb.UpsertedImage(
                image_id=result.image_id, position=position, created=result.created, version=result.version
            )
            for position, result in enumerate(results)
        ],
        entities=sum(len(record.entities) for record in last.values()),
    )


def _turn(
    backend: Backend, request: pb.UpsertRecordsRequest, context: grpc.ServicerContext
) -> AbstractContextManager[None]:
    """One call at a time, so that searches keep their share of the interpreter. A few records are read in no
    time: those of many callers are better committed together."""
    if len(request.records) <= FEW_RECORDS and not any(record.image for record in request.records):
        return nullcontext()
    return backend.records.turn(context)


def upsert_record_stream(
    backend: Backend, requests: Iterator[pb.UpsertRecordsRequest], context: grpc.ServicerContext
) -> pb.UpsertRecordStreamResponse:
    """Raises what `upsert_records` raises for the first message that is refused; its metadata then tell
    how many messages before it are stored."""
    response = pb.UpsertRecordStreamResponse()
    collection: Collection | None = None
    first = ""
    try:
        for request in requests:
            if collection is None:
                collection, first = collection_of(backend, request.collection), request.collection
            elif request.collection not in ("", first):
                raise InvalidRequest(
                    f"message {response.messages} of the stream is for collection "
                    f"{request.collection!r:.200}, the first was for {first!r}",
                    field="collection",
                )
            stored = upsert_records(backend, collection, request, context)
            by_id = {image.image_id: image.created for image in stored.upserted}
            response.messages += 1
            response.created += sum(by_id.values())
            if DURABILITY_NAMES[request.durability] == "synced":
                response.replaced += len(by_id) - sum(by_id.values())
            response.entities += stored.entities
    except RegionSearchError as error:
        error.metadata["stored_messages"] = str(response.messages)
        raise
    if collection is None:
        raise InvalidRequest("the stream has no message", field="collection")
    return response


def _records_of(
    backend: Backend,
    collection: Collection,
    request: pb.UpsertRecordsRequest,
    context: grpc.ServicerContext,
) -> list[ImageRecord]:
    embeds = collection.spec.embedder.kind != PRECOMPUTED
    records: dict[int, ImageRecord] = {}
    waiting: dict[int, Received] = {}
    runs = 0

    def embed() -> None:
        made = _embedded(backend, collection, list(waiting.values()), context)
        for (place, each), vectors in zip(waiting.items(), made, strict=True):
            records[place] = each.finished(vectors)
        waiting.clear()

    for number, upload in enumerate(request.records):
        check_alive(context)
        with at_record(number, upload.image_id):
            each = received(upload, collection.spec, backend.limits, embeds=embeds)
            runs += each.runs
            if runs > RUNS_AT_ONCE:
                raise InvalidRecord(
                    f"the masks of {number + 1} records have {runs} runs; those of a call can have "
                    f"{RUNS_AT_ONCE}: send fewer records at once",
                    field="entities",
                )
        if each.vectors is None:
            waiting[number] = each
        else:
            records[number] = each.finished(each.vectors)
        # Now, so that no more decoded pictures are held than are needed.
        if len(waiting) == EMBEDDED_TOGETHER:
            embed()
    if waiting:
        embed()
    return [records[number] for number in range(len(request.records))]


def _check_each(collection: Collection, records: list[ImageRecord]) -> None:
    """Raises InvalidRecord, naming the place of the record that the collection does not take."""
    for number, record in enumerate(records):
        with at_field(f"records[{number}]"), naming_payload():
            collection.check(record)


def _embedded(
    backend: Backend, collection: Collection, arrived: list[Received], context: grpc.ServicerContext
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """(1 + n, d) of each, from its picture and the entities that came with it."""
    embedder = backend.checked_embedder(collection)
    pictures = [each.picture for each in arrived if each.picture is not None]
    # Models run for one call at a time, so that searches beside an upload keep their cores.
    with backend.ingest.turn(context):
        made = embedder.embed_images(pictures, [each.entities for each in arrived])
    return [np.concatenate([vectors.image[None], vectors.entities]) for vectors in made]
