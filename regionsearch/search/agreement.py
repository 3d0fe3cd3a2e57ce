"""How far the entities of candidates agree with what a query wants of the place, size and name of a match.

Every condition gives an agreement from 0 to 1 that falls as 2^-(d / t)², a bell without corners: 1 where the
condition holds, one half at d = t. What is wanted together is multiplied.

* part of the frame: d is the distance of the middle of the entity's box from the part, fractions of the
  frame's sides; t the tolerance.
* box: d is the distance between the two boxes' edges, that of the worst of the four; t the tolerance.
* area: d counts by how many factors of two the area is too small or too large; t is one such factor.

Strict: the middle lies in the part; no edge is further than the tolerance from the box's; the area is
within its bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Candidates
from regionsearch.regions import Box, FramePart
from regionsearch.search.placement import Placement

Values = NDArray[np.float64]

_LOW, _MIDDLE, _HIGH, _ANY = (0.0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1.0), (0.0, 1.0)
PART_RANGES: dict[FramePart, tuple[tuple[float, float], tuple[float, float]]] = {
    "left": (_LOW, _ANY),
    "right": (_HIGH, _ANY),
    "top": (_ANY, _LOW),
    "bottom": (_ANY, _HIGH),
    "centre": (_MIDDLE, _MIDDLE),
    "top_left": (_LOW, _LOW),
    "top_right": (_HIGH, _LOW),
    "bottom_left": (_LOW, _HIGH),
    "bottom_right": (_HIGH, _HIGH),
    "left_half": ((0.0, 0.5), _ANY),
    "right_half": ((0.5, 1.0), _ANY),
    "top_half": (_ANY, (0.0, 0.5)),
    "bottom_half": (_ANY, (0.5, 1.0)),
}
"""Of x and of y, fractions of the frame's sides; both ends belong to the part."""


@dataclass(frozen=True, eq=False)
class EntityFacts:
    """Of the n entities of all candidates, one after the other.

    boxes: (n, 4) float64, fractions of the image's width and height. areas: (n,) mask over image. labels: n.
    starts: (c + 1,) the first entity of each candidate, and n.
    """

    boxes: Values
    areas: Values
    labels: Sequence[str | None]
    starts: NDArray[np.int64]

    @staticmethod
    def of(candidates: Candidates) -> EntityFacts:
        counts = np.diff(candidates.entity_starts)
        sides = np.repeat(np.tile(candidates.sizes, 2), counts, axis=0).astype(np.float64)
        return EntityFacts(
            candidates.boxes.astype(np.float64) / sides,
            candidates.areas.astype(np.float64),
            [None] * len(sides) if candidates.labels is None else candidates.labels,
            candidates.entity_starts,
        )


def is_about_place(placement: Placement) -> bool:
    """Whether it wants anything of the entity's place or size."""
    wanted = (placement.part, placement.box, placement.min_area, placement.max_area)
    return any(each is not None for each in wanted)


def agreements(placements: Sequence[Placement], facts: EntityFacts) -> Values | None:
    """(n, p) 0 to 1, of every entity with each placement; None when no placement is about place or size.

    A placement that wants nothing is agreed with by all.
    """
    if not any(map(is_about_place, placements)):
        return None
    return np.stack([agreement(placement, facts) for placement in placements], axis=1)


def agreement(placement: Placement, facts: EntityFacts) -> Values:
    """(n,) 0 to 1: the product of what is wanted of place and size."""
    agreed = np.ones(len(facts.areas))
    if placement.part is not None:
        agreed *= _bell(distance_from_part(placement.part, facts.boxes) / placement.tolerance)
    if placement.box is not None:
        agreed *= _bell(distance_from_box(placement.box, facts.boxes) / placement.tolerance)
    if placement.min_area is not None or placement.max_area is not None:
        agreed *= _bell(_from_areas(placement, facts.areas))
    return agreed


def allowed(placements: Sequence[Placement], facts: EntityFacts) -> NDArray[np.bool_] | None:
    """(n, p) whether an entity may be the match of each placement; None when all may be all."""
    if not any(placement.label is not None or _is_strict(placement) for placement in placements):
        return None
    return np.stack([_may_match(placement, facts) for placement in placements], axis=1)


def _is_strict(placement: Placement) -> bool:
    return placement.strict and is_about_place(placement)


def _may_match(placement: Placement, facts: EntityFacts) -> NDArray[np.bool_]:
    may = np.ones(len(facts.areas), dtype=np.bool_)
    if placement.label is not None:
        may &= np.array([label == placement.label for label in facts.labels], dtype=np.bool_)
    if placement.strict:
        if placement.part is not None:
            may &= distance_from_part(placement.part, facts.boxes) == 0
        if placement.box is not None:
            may &= distance_from_box(placement.box, facts.boxes) <= placement.tolerance
        if placement.min_area is not None:
            may &= facts.areas >= placement.min_area
        if placement.max_area is not None:
            may &= facts.areas <= placement.max_area
    return may


def _bell(distance: Values) -> Values:
    bell: Values = np.exp2(-(distance**2))
    return bell


def distance_from_part(part: FramePart, boxes: Values) -> Values:
    """(n,) distance of each box's middle from a part of the frame."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    x, y = (
        np.maximum(np.maximum(least - middles[:, axis], middles[:, axis] - most), 0.0)
        for axis, (least, most) in enumerate(PART_RANGES[part])
    )
    distance: Values = np.hypot(x, y)
    return distance


def distance_from_box(wanted: Box, boxes: Values) -> Values:
    """(n,) distance of the edge that lies furthest from its own of the wanted box."""
    distance: Values = np.abs(boxes - np.array(wanted.as_tuple())).max(axis=1)
    return distance


def _from_areas(placement: Placement, areas: Values) -> Values:
    """(n,) by how many factors of two an area lies outside its bounds."""
    least = 0.0 if placement.min_area is None else placement.min_area
    most = 1.0 if placement.max_area is None else placement.max_area
    # A bound of 0 is infinitely many factors below any area.
    with np.errstate(divide="ignore"):
        distance: Values = np.maximum(np.maximum(np.log2(least / areas), np.log2(areas / most)), 0.0)
    return distance
