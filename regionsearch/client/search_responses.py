"""From a SearchResponse to plain values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from regionsearch.client.answers import (
    Answer,
    Entity,
    EntityMatch,
    Hit,
    LabelSource,
    PartScore,
    RegionMatch,
    RerankScore,
    UsedRegion,
)
from regionsearch.protobuf_shapes import (
    box_from_message,
    mask_from_message,
    masks_from_messages,
    points_from_message,
    polygon_from_message,
)
from regionsearch.regions import Mask, RegionPrompt
from regionsearch.v1 import search_pb2, types_pb2

_LABEL_SOURCES: dict[int, LabelSource | None] = {
    types_pb2.LABEL_SOURCE_UNSPECIFIED: None,
    types_pb2.LABEL_SOURCE_GIVEN: "given",
    types_pb2.LABEL_SOURCE_PREDICTED: "predicted",
}


def answer(message: search_pb2.SearchResponse) -> Answer:
    return Answer(
        collection=message.collection,
        hits=tuple(map(_hit, message.hits, _masks_by_index(message.hits))),
        regions=tuple(_used_region(region) for region in message.regions),
        background=message.background,
        timing_ms=dict(message.timing_ms),
        calibration=message.calibration,
        next_page_token=message.next_page_token,
        notes=tuple(message.notes),
    )


def _masks_by_index(hits: Sequence[search_pb2.Hit]) -> list[dict[int, Mask | None]]:
    """The masks of each hit's entities: one is sent where its entity first stands in the hit."""
    found: list[dict[int, Mask | None]] = [{} for _ in hits]
    sent = [
        (by_index, entity)
        for by_index, hit in zip(found, hits, strict=True)
        for entity in _entities_of(hit)
        if entity.HasField("mask")
    ]
    for (by_index, entity), mask in zip(sent, masks_of([entity for _, entity in sent]), strict=True):
        by_index[entity.index] = mask
    return found


def _entities_of(hit: search_pb2.Hit) -> Iterator[types_pb2.Entity]:
    yield hit.entity
    for region_match in hit.matches:
        yield region_match.entity
    for entity_match in hit.entities:
        yield entity_match.entity


def _hit(message: search_pb2.Hit, masks: Mapping[int, Mask | None]) -> Hit:
    parts: Mapping[str, types_pb2.PartScore] = message.parts
    return Hit(
        image_id=message.image_id,
        width=message.width,
        height=message.height,
        score=message.score,
        # A map has no order on the wire; by name, the same answer is always the same value.
        parts={name: _part(parts[name]) for name in sorted(parts)},
        entity=entity_of(message.entity, masks.get(message.entity.index)),
        payload=json.loads(message.payload_json) if message.payload_json else None,
        rerank=_rerank_score(message.rerank) if message.HasField("rerank") else None,
        matches=tuple(
            RegionMatch(
                match.region,
                entity_of(match.entity, masks.get(match.entity.index)),
                match.raw,
                match.standardised,
            )
            for match in message.matches
        ),
        entities=tuple(
            EntityMatch(entity_of(match.entity, masks.get(match.entity.index)), match.score)
            for match in message.entities
        ),
        entity_arm_rank=message.entity_arm_rank if message.HasField("entity_arm_rank") else None,
        global_arm_rank=message.global_arm_rank if message.HasField("global_arm_rank") else None,
    )


def _part(message: types_pb2.PartScore) -> PartScore:
    entity = message.entity if message.HasField("entity") else None
    return PartScore(message.raw, message.standardised, message.weight, entity)


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


def masks_of(entities: Sequence[types_pb2.Entity]) -> list[Mask | None]:
    """The masks of many entities, None where there is none."""
    sent = [entity.mask.run_length for entity in entities if entity.HasField("mask")]
    decoded = iter(masks_from_messages(sent))
    return [next(decoded) if entity.HasField("mask") else None for entity in entities]


def entity_of(message: types_pb2.Entity, mask: Mask | None) -> Entity:
    return Entity(
        index=message.index,
        box=box_from_message(message.box),
        area=message.area,
        objectness=message.objectness,
        label=message.label if message.HasField("label") else None,
        label_source=_LABEL_SOURCES[message.label_source],
        mask=mask,
    )
