"""From the messages of the contract to plain values. Pure functions, shared by both clients."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC

import numpy as np

from regionsearch.client.answers import (
    DeleteReport,
    ImageSummary,
    ServerInfo,
    ServerLimits,
    StoredImage,
    StreamReport,
    UpsertedImage,
    UpsertFailure,
    UpsertReport,
)
from regionsearch.client.search_responses import entity_of, masks_of
from regionsearch.client.stored_answers import ImageCount, RecordStreamReport
from regionsearch.errors import InvalidImage
from regionsearch.protobuf_shapes import vector_from_message
from regionsearch.v1 import images_pb2, operations_pb2


def stored_image(message: images_pb2.ImageRecord) -> StoredImage:
    vectors = None
    if message.HasField("vector"):
        rows = [message.vector, *(entity.vector for entity in message.entities)]
        vectors = np.stack([vector_from_message(row) for row in rows])
    return StoredImage(
        summary=image_summary(message),
        payload=json.loads(message.payload_json) if message.payload_json else {},
        entities=tuple(map(entity_of, message.entities, masks_of(message.entities))),
        vectors=vectors,
        pixels=message.pixels if message.HasField("pixels") else None,
    )


def image_summary(message: images_pb2.ImageSummary | images_pb2.ImageRecord) -> ImageSummary:
    return ImageSummary(
        image_id=message.image_id,
        width=message.width,
        height=message.height,
        content_hash=message.content_hash,
        entity_count=message.entity_count,
        version=message.version,
        updated=message.updated.ToDatetime(tzinfo=UTC),
    )


def upsert_report(
    messages: Iterable[images_pb2.UpsertImagesResponse], unreadable: Mapping[int, InvalidImage]
) -> UpsertReport:
    """The answers to consecutive batches as one; positions count through all of them.

    unreadable: by position, why a file could not be sent; the server knows only that nothing came of it.
    """
    upserted: list[UpsertedImage] = []
    failures: list[UpsertFailure] = []
    entities = 0
    for message in messages:
        before = len(upserted) + len(failures)
        upserted.extend(
            UpsertedImage(image.image_id, before + image.position, image.created, image.version)
            for image in message.upserted
        )
        failures.extend(_failure(failure, before, unreadable) for failure in message.failures)
        entities += message.entities
    return UpsertReport(tuple(upserted), tuple(failures), entities)


def stream_report(
    message: images_pb2.UpsertImageStreamResponse, unreadable: Mapping[int, InvalidImage]
) -> StreamReport:
    return StreamReport(
        received=message.received,
        created=message.created,
        replaced=message.replaced,
        failed=message.failed,
        failures=tuple(_failure(failure, 0, unreadable) for failure in message.failures),
        entities=message.entities,
    )


def records_report(messages: Iterable[images_pb2.UpsertRecordsResponse]) -> UpsertReport:
    """The answers to consecutive messages as one; positions count through all of them."""
    upserted: list[UpsertedImage] = []
    entities = 0
    for message in messages:
        before = len(upserted)
        upserted.extend(
            UpsertedImage(image.image_id, before + image.position, image.created, image.version)
            for image in message.upserted
        )
        entities += message.entities
    return UpsertReport(tuple(upserted), (), entities)


def record_stream_report(message: images_pb2.UpsertRecordStreamResponse) -> RecordStreamReport:
    return RecordStreamReport(message.messages, message.created, message.replaced, message.entities)


def image_count(message: images_pb2.CountImagesResponse) -> ImageCount:
    return ImageCount(message.images, message.entities, tuple(message.notes))


def _failure(
    message: images_pb2.UpsertFailure, before: int, unreadable: Mapping[int, InvalidImage]
) -> UpsertFailure:
    position = before + message.position
    error = unreadable.get(position)
    if error is not None:
        return UpsertFailure(message.image_id, position, error.reason, error.message)
    return UpsertFailure(message.image_id, position, message.reason, message.message)


def delete_report(message: images_pb2.DeleteImagesResponse) -> DeleteReport:
    return DeleteReport(message.deleted, message.missing)


def server_info(message: operations_pb2.GetServerInfoResponse) -> ServerInfo:
    limits = message.limits
    return ServerInfo(
        version=message.version,
        embedders=tuple(message.embedders),
        segmenters=tuple(message.segmenters),
        default_embedder=message.default_embedder,
        default_segmenter=message.default_segmenter,
        snapshots=message.snapshots,
        limits=ServerLimits(
            image_megapixels=limits.image_megapixels,
            image_bytes=limits.image_bytes,
            text_characters=limits.text_characters,
            hits=limits.hits,
            regions=limits.regions,
            examples=limits.examples,
            candidates=limits.candidates,
            batch_queries=limits.batch_queries,
            batch_images=limits.batch_images,
            batch_records=limits.batch_records,
            message_bytes=limits.message_bytes,
            concurrent_calls=limits.concurrent_calls,
        ),
    )
