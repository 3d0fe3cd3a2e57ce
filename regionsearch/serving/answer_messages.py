"""From an answer to a SearchResponse."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from regionsearch.errors import AnswerTooLarge
from regionsearch.protobuf_shapes import box_to_message, mask_to_message, masks_to_messages, prompt_to_message
from regionsearch.search.answer import Answer, Hit, MatchedEntity, PartScore, RerankScore, UsedRegion
from regionsearch.v1 import search_pb2 as pb
from regionsearch.v1 import types_pb2

LABEL_SOURCES = {
    None: types_pb2.LABEL_SOURCE_UNSPECIFIED,
    "given": types_pb2.LABEL_SOURCE_GIVEN,
    "predicted": types_pb2.LABEL_SOURCE_PREDICTED,
}

ENTITIES_TOGETHER = 2_000
"""Entities of hits that become messages before their bytes are counted, unless a single hit has more."""

_Outlines: TypeAlias = dict[int, types_pb2.Mask]


def answer_to_message(answer: Answer, request: pb.SearchRequest, most: int) -> pb.SearchResponse:
    """The answer without what the request leaves out; its own time is the stage `serialise`.

    Raises AnswerTooLarge above `most` bytes; what lies further beyond them is not made.
    """
    started = time.perf_counter()
    masks = not request.without_masks
    response = pb.SearchResponse(
        collection=answer.collection,
        regions=[_used_region_to_message(used, masks) for used in answer.regions],
        background=answer.background,
        timing_ms=answer.timing_ms,
        next_page_token=answer.next_page_token,
        calibration=answer.calibration,
        notes=answer.notes,
    )
    size = response.ByteSize()
    for hits in _together(answer.hits):
        outlines = _outlines(hits) if masks else [{} for _ in hits]
        messages = [
            _hit_to_message(hit, its_own, request) for hit, its_own in zip(hits, outlines, strict=True)
        ]
        size += sum(message.ByteSize() for message in messages)
        if size > most:
            raise _too_large(most)
        response.hits.extend(messages)
    response.timing_ms["serialise"] = (time.perf_counter() - started) * 1000
    if response.ByteSize() > most:
        raise _too_large(most)
    return response


def _too_large(most: int) -> AnswerTooLarge:
    return AnswerTooLarge(
        f"the answer has more than {most} bytes (limits.message_bytes): ask for fewer hits, for hits without "
        "masks, or for fewer of their entities"
    )


def _together(hits: Sequence[Hit]) -> Iterator[Sequence[Hit]]:
    """Hits in their order, in groups of at most ENTITIES_TOGETHER, but one hit at least."""
    start, entities = 0, 0
    for place, hit in enumerate(hits):
        entities += 1 + len(hit.matches) + len(hit.entities)
        if entities > ENTITIES_TOGETHER and place > start:
            yield hits[start:place]
            start, entities = place, 1 + len(hit.matches) + len(hit.entities)
    yield hits[start:]


def _outlines(hits: Sequence[Hit]) -> list[_Outlines]:
    """Those of each hit's entities, by index. All are coded in one go."""
    wanted = [{entity.index: entity.mask for entity in _entities_of(hit)} for hit in hits]
    coded = iter(masks_to_messages([mask for masks in wanted for mask in masks.values()]))
    return [{index: next(coded) for index in masks} for masks in wanted]


def _entities_of(hit: Hit) -> Iterator[MatchedEntity]:
    yield hit.entity
    for region_match in hit.matches:
        yield region_match.entity
    for entity_match in hit.entities:
        yield entity_match.entity


def _hit_to_message(hit: Hit, outlines: _Outlines, request: pb.SearchRequest) -> pb.Hit:
    message = pb.Hit(
        image_id=hit.image_id,
        width=hit.width,
        height=hit.height,
        entity=_entity_to_message(hit.entity, outlines),
        score=hit.score,
        entity_arm_rank=hit.entity_arm_rank,
        global_arm_rank=hit.global_arm_rank,
    )
    for match in hit.matches:
        message.matches.add(
            region=match.region,
            entity=_entity_to_message(match.entity, outlines),
            raw=match.raw,
            standardised=match.standardised,
        )
    for further in hit.entities:
        message.entities.add(entity=_entity_to_message(further.entity, outlines), score=further.score)
    if not request.without_payload:
        message.payload_json = payload_to_json(hit.payload)
    if not request.without_parts:
        for name, part in hit.parts.items():
            message.parts[name].CopyFrom(_part_to_message(part))
        if hit.rerank is not None:
            message.rerank.CopyFrom(_rerank_to_message(hit.rerank))
    return message


def _part_to_message(part: PartScore) -> types_pb2.PartScore:
    return types_pb2.PartScore(
        raw=part.raw, standardised=part.standardised, weight=part.weight, entity=part.entity
    )


def _rerank_to_message(found: RerankScore) -> pb.RerankScore:
    return pb.RerankScore(
        raw=found.raw,
        standardised=found.standardised,
        weight=found.weight,
        joint_score=found.joint_score,
        joint_rank=found.joint_rank,
    )


def _entity_to_message(entity: MatchedEntity, outlines: _Outlines) -> types_pb2.Entity:
    x0, y0, x1, y1 = entity.box
    return types_pb2.Entity(
        index=entity.index,
        box=types_pb2.Box(x0=x0, y0=y0, x1=x1, y1=y1),
        area=entity.area,
        objectness=entity.objectness,
        label=entity.label,
        label_source=LABEL_SOURCES[entity.label_source],
        # Outlines are most of an answer's bytes: an entity has its own where it first stands in a hit.
        mask=outlines.pop(entity.index, None),
    )


def _used_region_to_message(used: UsedRegion, masks: bool) -> pb.UsedRegion:
    prompt = used.prompt
    message = pb.UsedRegion(
        box=box_to_message(used.mask.box()), area=used.mask.area, prompt=prompt_to_message(prompt)
    )
    if masks:
        message.mask.CopyFrom(mask_to_message(used.mask))
    else:
        message.prompt.ClearField("mask")
    return message


def payload_to_json(payload: object) -> str:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
