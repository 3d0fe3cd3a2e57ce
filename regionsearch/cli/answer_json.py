"""An answer as the JSON of `search --json`."""

from __future__ import annotations

from typing import Any

from regionsearch.regions import RegionPrompt

PARTS = ("entity", "global", "text_entity", "text_image", "placement", "objectness")
"""The order in which the parts of a score are shown: a server's answer has none."""

STAGES = ("decode", "segment", "encode", "entity_arm", "global_arm", "fetch", "joint", "rerank", "serialise")
"""Likewise of the stages that took time."""


def parts_in_order(hit: Any) -> list[tuple[str, Any]]:
    """(name, part) of the parts that a hit has."""
    return sorted(hit.parts.items(), key=lambda named: PARTS.index(named[0]))


def answer_to_json(answer: Any) -> dict[str, Any]:
    """From an answer of the engine or of the client, which name alike."""
    return {
        "regions": [
            {
                "box": list(region.mask.box().as_tuple()),
                "area": region.mask.area,
                "mask": region.mask.to_coco(),
                "prompts": _prompts(region.prompt),
            }
            for region in answer.regions
        ],
        "hits": [_hit(hit) for hit in answer.hits],
        "background": answer.background,
        "calibration": answer.calibration,
        "next_page_token": answer.next_page_token,
        "notes": list(answer.notes),
        "timing_ms": dict(sorted(answer.timing_ms.items(), key=_stage_at)),
    }


def _stage_at(spent: tuple[str, float]) -> int:
    """Its place in the order; a stage that a newer server has comes last."""
    return STAGES.index(spent[0]) if spent[0] in STAGES else len(STAGES)


def _hit(hit: Any) -> dict[str, Any]:
    return {
        "image_id": hit.image_id,
        "score": hit.score,
        "parts": {
            name: {
                "raw": part.raw,
                "standardised": part.standardised,
                "weight": part.weight,
                "entity": part.entity,
            }
            for name, part in parts_in_order(hit)
        },
        "entity": _entity(hit.entity),
        "matches": [
            {
                "region": match.region,
                "entity": _entity(match.entity),
                "raw": match.raw,
                "standardised": match.standardised,
            }
            for match in hit.matches
        ],
        "entities": [{"entity": _entity(match.entity), "score": match.score} for match in hit.entities],
        "entity_arm_rank": hit.entity_arm_rank,
        "global_arm_rank": hit.global_arm_rank,
        "rerank": None
        if hit.rerank is None
        else {
            "raw": hit.rerank.raw,
            "standardised": hit.rerank.standardised,
            "weight": hit.rerank.weight,
            "joint_score": hit.rerank.joint_score,
            "joint_rank": hit.rerank.joint_rank,
        },
        "payload": dict(hit.payload),
        "width": hit.width,
        "height": hit.height,
    }


def _entity(entity: Any) -> dict[str, Any]:
    box = entity.box if isinstance(entity.box, tuple) else entity.box.as_tuple()
    return {
        "index": entity.index,
        "box": list(box),
        "area": entity.area,
        "objectness": entity.objectness,
        "label": entity.label,
        "label_source": entity.label_source,
        "mask": entity.mask.to_coco(),
    }


def _prompts(prompt: RegionPrompt) -> list[dict[str, Any]]:
    """What was pointed at, one entry a part."""
    parts: list[dict[str, Any]] = []
    if prompt.box is not None:
        parts.append({"box": list(prompt.box.as_tuple())})
    if prompt.mask is not None:
        parts.append({"mask": prompt.mask.to_coco()})
    if prompt.polygon is not None:
        parts.append({"polygon": [[list(corner) for corner in ring] for ring in prompt.polygon.rings]})
    parts.extend({"point": [point.x, point.y], "positive": point.positive} for point in prompt.points)
    return parts
