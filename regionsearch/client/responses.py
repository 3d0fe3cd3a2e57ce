"""From the messages of the contract to plain values. Pure functions, shared by both clients."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC

import numpy as np

from regionsearch.client.answers import (
    Answer,
    CollectionInfo,
    DeleteReport,
    Entity,
    Hit,
    ImageSummary,
    LabelSource,
    ModelFingerprint,
    PartScore,
    PixelsKept,
    RerankScore,
    ServerInfo,
    ServerLimits,
    StoredImage,
    StreamReport,
    UpsertedImage,
    UpsertFailure,
    UpsertReport,
    UsedRegion,
)
from regionsearch.client.requests import PIXELS_KEPT
from regionsearch.protobuf_shapes import (
    box_from_message,
    mask_from_message,
    masks_from_messages,
    points_from_message,
    polygon_from_message,
    vector_from_message,
)
from regionsearch.regions import Mask, RegionPrompt
from regionsearch.v1 import collections_pb2, images_pb2, operations_pb2, search_pb2, types_pb2

_PIXELS_NAMES: dict[int, PixelsKept] = {value: name for name, value in PIXELS_KEPT.items()}
_LABEL_SOURCES: dict[int, LabelSource | None] = {
    types_pb2.LABEL_SOURCE_UNSPECIFIED: None,
    types_pb2.LABEL_SOURCE_GIVEN: "given",
    types_pb2.LABEL_SOURCE_PREDICTED: "predicted",
}


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
    )


def _fingerprint(message: types_pb2.Fingerprint) -> ModelFingerprint:
    return ModelFingerprint(message.name, message.weights, message.dimension, message.preprocessing)


def answer(message: search_pb2.SearchResponse) -> Answer:
    return Answer(
        collection=message.collection,
        hits=tuple(
            _hit(hit, mask)
            for hit, mask in zip(message.hits, _masks([hit.entity for hit in message.hits]), strict=True)
        ),
        regions=tuple(_used_region(region) for region in message.regions),
        background=message.background,
        timing_ms=dict(message.timing_ms),
    )


def _hit(message: search_pb2.Hit, mask: Mask | None) -> Hit:
    parts: Mapping[str, types_pb2.PartScore] = message.parts
    return Hit(
        image_id=message.image_id,
        width=message.width,
        height=message.height,
        score=message.score,
        parts={
            # A map has no order on the wire; by name, the same answer is always the same value.
            name: PartScore(parts[name].raw, parts[name].standardised, parts[name].weight)
            for name in sorted(parts)
        },
        entity=_entity(message.entity, mask),
        payload=json.loads(message.payload_json) if message.payload_json else None,
        rerank=_rerank_score(message.rerank) if message.HasField("rerank") else None,
    )


def _rerank_score(message: search_pb2.RerankScore) -> RerankScore:
    return RerankScore(
        message.raw, message.standardised, message.weight, message.joint_score, message.joint_rank
    )


def _used_region(message: search_pb2.UsedRegion) -> UsedRegion:
    prompt = message.prompt
    has_prompt = bool(prompt.points) or any(map(prompt.HasField, ("box", "mask", "polygon")))
    return UsedRegion(
        box=box_from_message(message.box),
        area=message.area,
        mask=mask_from_message(message.mask.run_length) if message.HasField("mask") else None,
        prompt=_prompt(prompt) if has_prompt else None,
    )


def _prompt(message: types_pb2.Region) -> RegionPrompt:
    return RegionPrompt(
        points=points_from_message(message),
        box=box_from_message(message.box) if message.HasField("box") else None,
        mask=mask_from_message(message.mask.run_length) if message.HasField("mask") else None,
        polygon=polygon_from_message(message.polygon) if message.HasField("polygon") else None,
    )


def _masks(entities: Sequence[types_pb2.Entity]) -> list[Mask | None]:
    """The masks of many entities, None where there is none."""
    sent = [entity.mask.run_length for entity in entities if entity.HasField("mask")]
    decoded = iter(masks_from_messages(sent))
    return [next(decoded) if entity.HasField("mask") else None for entity in entities]


def _entity(message: types_pb2.Entity, mask: Mask | None) -> Entity:
    return Entity(
        index=message.index,
        box=box_from_message(message.box),
        area=message.area,
        objectness=message.objectness,
        label=message.label if message.HasField("label") else None,
        label_source=_LABEL_SOURCES[message.label_source],
        mask=mask,
    )


def stored_image(message: images_pb2.ImageRecord) -> StoredImage:
    vectors = None
    if message.HasField("vector"):
        rows = [message.vector, *(entity.vector for entity in message.entities)]
        vectors = np.stack([vector_from_message(row) for row in rows])
    return StoredImage(
        summary=image_summary(message),
        payload=json.loads(message.payload_json),
        entities=tuple(map(_entity, message.entities, _masks(message.entities))),
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


def upsert_report(messages: Iterable[images_pb2.UpsertImagesResponse]) -> UpsertReport:
    """The answers to consecutive batches as one; positions count through all of them."""
    upserted: list[UpsertedImage] = []
    failures: list[UpsertFailure] = []
    entities = 0
    for message in messages:
        before = len(upserted) + len(failures)
        upserted.extend(
            UpsertedImage(image.image_id, before + image.position, image.created, image.version)
            for image in message.upserted
        )
        failures.extend(_failure(failure, before) for failure in message.failures)
        entities += message.entities
    return UpsertReport(tuple(upserted), tuple(failures), entities)


def stream_report(message: images_pb2.UpsertImageStreamResponse) -> StreamReport:
    return StreamReport(
        received=message.received,
        created=message.created,
        replaced=message.replaced,
        failed=message.failed,
        failures=tuple(_failure(failure, 0) for failure in message.failures),
        entities=message.entities,
    )


def _failure(message: images_pb2.UpsertFailure, before: int) -> UpsertFailure:
    return UpsertFailure(message.image_id, before + message.position, message.reason, message.message)


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
        limits=ServerLimits(
            image_megapixels=limits.image_megapixels,
            image_bytes=limits.image_bytes,
            text_characters=limits.text_characters,
            hits=limits.hits,
            batch_images=limits.batch_images,
            message_bytes=limits.message_bytes,
            concurrent_calls=limits.concurrent_calls,
        ),
    )
