"""How many entities of an image are such as the one that matched.

Such entities are those that may be the match (by label and strict conditions) and, when the placement names
no label, look about as much like what is asked as the best of them: not by more than COUNTED_WITHIN
deviations of the background less. What a label names is counted by the label alone. Segmenters find one
thing several times over, whole and in part: of entities that overlap only the best is counted.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from regionsearch.regions import shared_areas
from regionsearch.search.agreement import EntityFacts
from regionsearch.search.joint_scoring import JointScores
from regionsearch.search.placement import Placement

COUNTED_WITHIN = 0.25
"""Deviations of the background. Chosen with OVERLAPPING on annotated photos so that counts are neither too
high nor too low on average; wider windows count twice too many (docs/counts-and-examples.md)."""
OVERLAPPING = 0.3
"""Share of the smaller of two boxes that lies in the other from which both are taken for one thing."""
ROUNDING = 1e-9


def wants_count(placement: Placement) -> bool:
    return placement.min_count is not None or placement.max_count is not None


def within_counts(
    placement: Placement, facts: EntityFacts, scores: JointScores, weights: Mapping[str, float]
) -> NDArray[np.bool_]:
    """(c,) whether each candidate has as many such entities as the placement wants. scores: of the one
    match that the placement is about."""
    least = 1 if placement.min_count is None else placement.min_count
    most = np.inf if placement.max_count is None else placement.max_count
    counts = such_entities(facts, scores, weights, by_label=placement.label is not None)
    within: NDArray[np.bool_] = (counts >= least) & (counts <= most)
    return within


def such_entities(
    facts: EntityFacts, scores: JointScores, weights: Mapping[str, float], *, by_label: bool
) -> NDArray[np.int64]:
    """(c,) how many entities of each candidate could as well be its match; 0 where none may be."""
    # What tells entities apart: pixels, or words where there are none.
    own = "entity" if "entity" in scores.names else "text_entity"
    margin = np.inf if by_label else COUNTED_WITHIN * weights[own]
    counts = np.zeros(len(scores.totals), dtype=np.int64)
    for place in np.flatnonzero(scores.matched).tolist():
        totals = scores.totals_with_each(place)
        such = np.flatnonzero(np.isfinite(totals) & (totals >= totals.max() - margin))
        best_first = such[np.argsort(-totals[such], kind="stable")]
        counts[place] = _apart(facts.boxes[facts.starts[place] + best_first])
    return counts


def _apart(boxes: NDArray[np.float64]) -> int:
    """How many boxes are left when, best first, those that overlap a better one are passed over."""
    overlap = covered_shares(boxes)
    kept: list[int] = []
    for row in range(len(boxes)):
        # Rounding must not decide about boxes that are halves of each other.
        if not kept or overlap[row, kept].max() < OVERLAPPING - ROUNDING:
            kept.append(row)
    return len(kept)


def covered_shares(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, n) the area that two boxes share over that of the smaller one, 0 to 1."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    shares: NDArray[np.float64] = shared_areas(boxes, boxes) / np.minimum(areas[:, None], areas[None, :])
    return shares
