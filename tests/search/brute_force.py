"""A small collection of random images, and the answer to a query by scoring every image in loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regionsearch.collection import Collection, ImageRecord
from regionsearch.entities import Entities
from regionsearch.models.embedder import SignalBackground
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, Mask
from regionsearch.search import Placement
from regionsearch.search.calibration import Calibrator
from regionsearch.search.counting import COUNTED_WITHIN, LEAST_COUNT_AGREEMENT, OVERLAPPING, ROUNDING
from regionsearch.search.joint_scoring import JointQuestion, score_jointly
from regionsearch.search.scoring import Scoring, ScoringProfile, shipped_scoring

MODELS = ModelRegistry()
EMBEDDER = MODELS.embedder("dummy")
SEGMENTER = MODELS.segmenter("dummy")
DIMENSION = EMBEDDER.info.dimension
LABELS = ("dog", "cat", None)


class PlainCalibration:
    """Scores are the logistic of the sum, whatever the query."""

    version = "plain"

    def of(self, facts: object) -> Calibrator:
        return Calibrator(0.0, 1.0)

    def to_json(self) -> dict[str, Any]:
        return {"version": self.version}


def plain_scoring() -> Scoring:
    return replace(shipped_scoring(), calibration=PlainCalibration())  # type: ignore[arg-type]


def unit_vectors(generator: np.random.Generator, count: int) -> np.ndarray:
    vectors = generator.standard_normal((count, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def random_record(generator: np.random.Generator, image_id: str) -> ImageRecord:
    """1 to 6 entities, some of them near copies of others, with random boxes, labels and objectness; and a
    payload that follows from its id."""
    width, height = (int(side) for side in generator.integers(10, 40, 2))
    count = int(generator.integers(1, 7))
    vectors = unit_vectors(generator, 1 + count)
    masks = []
    for number in range(count):
        x0, y0 = int(generator.integers(0, width - 2)), int(generator.integers(0, height - 2))
        x1, y1 = int(generator.integers(x0 + 1, width)), int(generator.integers(y0 + 1, height))
        masks.append(Mask.from_box(Box(x0, y0, x1, y1), height, width))
        if number and generator.random() < 0.5:
            near = vectors[number] + 0.2 * vectors[1 + number]
            vectors[1 + number] = near / np.linalg.norm(near)
    found = Entities.from_masks(masks, generator.random(count).astype(np.float32))
    labels = tuple(LABELS[place] for place in generator.integers(0, 3, count))
    return ImageRecord(
        image_id,
        width,
        height,
        replace(
            found, labels=labels, label_sources=tuple(None if each is None else "given" for each in labels)
        ),
        vectors,
        payload=payload_of(image_id),
    )


def payload_of(image_id: str) -> dict[str, Any]:
    number = sum(image_id.encode())
    if image_id.isdigit():
        number = int(image_id)
    payload: dict[str, Any] = {"year": 2000 + number % 20, "tags": [f"t{number % 4}", f"u{number % 7}"]}
    if number % 5:
        payload["colour"] = ("red", "blue", "green")[number % 3]
    return payload | ({"rare": True} if number in (7, 31) else {})


@dataclass(frozen=True)
class Expected:
    """What an image scores by the oracle. total: None when it does not qualify. alone: by ordinal what it
    totals with each entity that may match. apart: those that are hits of their own."""

    total: float | None
    alone: Mapping[int, float]
    apart: Sequence[int] = ()


def expected_of(
    collection: Collection,
    record: ImageRecord,
    question: JointQuestion,
    placements: Sequence[Placement],
    background: Mapping[str, SignalBackground],
    profile: ScoringProfile,
    meets: Callable[[ImageRecord, int], bool] = lambda record, entity: True,
) -> Expected:
    """The image scored by itself; what is wanted of places, names and numbers spelt out in loops. meets: the
    filter, of an entity."""
    wanted = list(placements) or [Placement()] * question.matches
    ordinals = range(len(record.entities))
    own = "entity" if len(question.regions) else "text_entity"

    def looks(entity: int, match: int) -> float:
        if not (meets(record, entity) and may_match(record, entity, wanted[match])):
            return -math.inf
        asked = question.regions[match] if len(question.regions) else question.text
        assert asked is not None
        raw = {
            own: float(record.vectors[1 + entity] @ asked),
            "objectness": float(record.entities.objectness[entity]),
        }
        return sum(
            profile.weights[part] * (value - background[part].mean) / background[part].deviation
            for part, value in raw.items()
        )

    counts = [
        such_things(record, placement, [looks(entity, match) for entity in ordinals], profile.weights[own])
        for match, placement in enumerate(wanted)
    ]
    enough = all(count_fits(each, count) for each, count in zip(wanted, counts, strict=True))
    by_count = [count_agreement_of(each, count) for each, count in zip(wanted, counts, strict=True)]
    graded = any(about_place(placement) or counts_softly(placement) for placement in placements)
    agreed = [
        [agreement_of(record, entity, each) * by_count[match] for match, each in enumerate(wanted)]
        for entity in ordinals
    ]
    scores = score_jointly(
        collection.candidates([record.number]),
        question,
        background,
        profile,
        agreement=np.array(agreed) if graded else None,
        allowed=np.array(
            [
                [meets(record, entity) and may_match(record, entity, each) for each in wanted]
                for entity in ordinals
            ]
        ),
    )
    if not enough or not bool(scores.matched[0]):
        return Expected(None, {})
    with_each = scores.totals_with_each(0)
    alone = {e: float(with_each[e]) for e in ordinals if np.isfinite(with_each[e])}
    return Expected(float(scores.totals[0]), alone, things_apart(record, alone))


def about_place(placement: Placement) -> bool:
    return (placement.part, placement.box, placement.min_area, placement.max_area) != (None,) * 4


def relative_box(record: ImageRecord, entity: int) -> list[float]:
    x0, y0, x1, y1 = (float(edge) for edge in record.entities.boxes[entity])
    return [x0 / record.width, y0 / record.height, x1 / record.width, y1 / record.height]


def distance_from_part(part: str, x: float, y: float) -> float:
    spans = {"left": (0, 1 / 3), "right": (2 / 3, 1), "left_half": (0, 0.5), "right_half": (0.5, 1)}
    rows = {"top": (0, 1 / 3), "bottom": (2 / 3, 1), "top_half": (0, 0.5), "bottom_half": (0.5, 1)}
    across, down = (0.0, 1.0), (0.0, 1.0)
    if part == "centre":
        across = down = (1 / 3, 2 / 3)
    for name in (part, *(part.split("_") if part.count("_") and "half" not in part else ())):
        across, down = spans.get(name, across), rows.get(name, down)
    outside_x = max(across[0] - x, x - across[1], 0.0)
    outside_y = max(down[0] - y, y - down[1], 0.0)
    return math.hypot(outside_x, outside_y)


def agreement_of(record: ImageRecord, entity: int, placement: Placement) -> float:
    x0, y0, x1, y1 = relative_box(record, entity)
    agreement = 1.0
    if placement.part is not None:
        away = distance_from_part(placement.part, (x0 + x1) / 2, (y0 + y1) / 2)
        agreement *= 0.5 ** ((away / placement.tolerance) ** 2)
    if placement.box is not None:
        edges = zip((x0, y0, x1, y1), placement.box.as_tuple(), strict=True)
        away = max(abs(own - asked) for own, asked in edges)
        agreement *= 0.5 ** ((away / placement.tolerance) ** 2)
    area = float(record.entities.areas[entity])
    if placement.min_area is not None and area < placement.min_area:
        agreement *= 0.5 ** (math.log2(placement.min_area / area) ** 2)
    if placement.max_area is not None and area > placement.max_area:
        agreement *= 0.5 ** (math.log2(area / placement.max_area) ** 2) if placement.max_area else 0.0
    return agreement


def may_match(record: ImageRecord, entity: int, placement: Placement) -> bool:
    if placement.label is not None and record.entities.labels[entity] != placement.label:
        return False
    if not placement.strict:
        return True
    x0, y0, x1, y1 = relative_box(record, entity)
    if placement.part is not None and distance_from_part(placement.part, (x0 + x1) / 2, (y0 + y1) / 2) > 0:
        return False
    if placement.box is not None:
        edges = zip((x0, y0, x1, y1), placement.box.as_tuple(), strict=True)
        if max(abs(own - asked) for own, asked in edges) > placement.tolerance:
            return False
    area = float(record.entities.areas[entity])
    if placement.min_area is not None and area < placement.min_area:
        return False
    return placement.max_area is None or area <= placement.max_area


def things_apart(record: ImageRecord, values: Mapping[int, float]) -> list[int]:
    """The entities that are left when, best first, those that overlap a better one are passed over."""
    kept: list[int] = []
    for entity in sorted(values, key=lambda e: (-values[e], e)):
        if all(_covered(record, entity, other) < OVERLAPPING - ROUNDING for other in kept):
            kept.append(entity)
    return kept


def counts_softly(placement: Placement) -> bool:
    counted = placement.min_count is not None or placement.max_count is not None
    return counted and placement.label is None and not placement.strict


def such_things(record: ImageRecord, placement: Placement, values: Sequence[float], loud: float) -> int:
    """values: what each entity's looks say, -inf for one that may not match. loud: the weights of looks."""
    margin = math.inf if placement.label is not None else COUNTED_WITHIN * loud
    such = {e: v for e, v in enumerate(values) if v > -math.inf and v >= max(values) - margin}
    return len(things_apart(record, such))


def count_fits(placement: Placement, count: int) -> bool:
    """Whether the number of such things lets the image be a hit."""
    if counts_softly(placement) or (placement.min_count is None and placement.max_count is None):
        return True
    return (placement.min_count or 1) <= count <= (placement.max_count or math.inf)


def count_agreement_of(placement: Placement, count: int) -> float:
    if not counts_softly(placement) or count == 0:
        return 1.0
    distance = 0.0
    if placement.min_count is not None and count < placement.min_count:
        distance = math.log2(placement.min_count / count)
    if placement.max_count is not None and count > placement.max_count:
        distance = math.log2(count / placement.max_count)
    return LEAST_COUNT_AGREEMENT + (1 - LEAST_COUNT_AGREEMENT) * 0.5 ** (distance**2)


def _covered(record: ImageRecord, a: int, b: int) -> float:
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = record.entities.boxes[a], record.entities.boxes[b]
    width, height = min(ax1, bx1) - max(ax0, bx0), min(ay1, by1) - max(ay0, by0)
    if width <= 0 or height <= 0:
        return 0.0
    return float(width * height / min((ax1 - ax0) * (ay1 - ay0), (bx1 - bx0) * (by1 - by0)))


def all_records(collection: Collection) -> dict[str, ImageRecord]:
    return {image_id: collection.get(image_id) for image_id in collection.image_ids()}
