"""Stores finished records of calls, batch by batch, each all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np

from regionsearch.collection import Collection, ImageRecord
from regionsearch.errors import InvalidRequest, RegionSearchError
from regionsearch.models.precomputed import KIND as PRECOMPUTED
from regionsearch.protobuf_shapes import at_field
from regionsearch.serving.backend import Backend
from regionsearch.serving.record_uploads import RECORDS_AT_ONCE, Received, conditions_of, received
from regionsearch.serving.required import DURABILITIES, collection_of
from regionsearch.v1 import images_pb2 as pb

EMBEDDED_TOGETHER = 8
"""Pictures that the embedder is handed at once; the pipeline's own batch."""


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
    with backend.records.turn(context):
        records = _records_of(backend, collection, request, context)
        results = collection.upsert(
            records,
            if_versions=conditions or None,
            idempotency_key=request.idempotency_key,
            durability=DURABILITIES[request.durability],
        )
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
    arrived = []
    for number, upload in enumerate(request.records):
        with at_field(f"records[{number}]"):
            each = received(upload, collection.spec, backend.limits, embeds=embeds)
        arrived.append(each)
    vectors = [each.vectors for each in arrived]
    waiting = [place for place, each in enumerate(arrived) if each.vectors is None]
    for start in range(0, len(waiting), EMBEDDED_TOGETHER):
        places = waiting[start : start + EMBEDDED_TOGETHER]
        made = _embedded(backend, collection, [arrived[place] for place in places], context)
        for place, rows in zip(places, made, strict=True):
            vectors[place] = rows
    records = []
    for number, (each, its_own) in enumerate(zip(arrived, vectors, strict=True)):
        assert its_own is not None, "given or made"
        record = each.finished(its_own)
        with at_field(f"records[{number}]"):
            collection.check(record)
        records.append(record)
    return records


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
