"""How many entities of an image are such as the one that matched.

Such entities are those that may be the match (by label and strict conditions) and, when the placement names
no label, look about as much like what is asked as the best of them: not by more than COUNTED_WITHIN
deviations of the background less. What a label names is counted by the label alone. Segmenters find one
thing several times over, whole and in part: of entities that overlap only the best is counted.

With a label, or where the placement is strict, another number does not match. Otherwise counts are too
uncertain to be conditions (docs/counts-and-examples.md): they lower the agreement with the placement, by
2^-d² for d factors of two that the number is too small or too large, to LEAST_COUNT_AGREEMENT at least.
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
LEAST_COUNT_AGREEMENT = 0.9
"""A number that is seen wrong nearly as often as right must not weigh what a place does: the lower, the more
right photos it cost (docs/counts-and-examples.md)."""


def wants_count(placement: Placement) -> bool:
    return placement.min_count is not None or placement.max_count is not None


def counts_softly(placement: Placement) -> bool:
    """Whether another number lowers the agreement; otherwise, of a placement that wants one, it does not
    match."""
    return wants_count(placement) and placement.label is None and not placement.strict


def count_agreement(placement: Placement, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(c,) from numbers of such entities, 1 at least: 1 where the number is wanted, LEAST_COUNT_AGREEMENT
    at least."""
    least, most = _bounds(placement)
    distance = np.log2(np.maximum(np.maximum(least / counts, counts / most), 1.0))
    agreed: NDArray[np.float64] = np.exp2(-(distance**2))
    return LEAST_COUNT_AGREEMENT + (1 - LEAST_COUNT_AGREEMENT) * agreed


def _bounds(placement: Placement) -> tuple[float, float]:
    least = 1.0 if placement.min_count is None else float(placement.min_count)
    return least, np.inf if placement.max_count is None else float(placement.max_count)


def within_counts(
    placement: Placement, facts: EntityFacts, scores: JointScores, weights: Mapping[str, float]
) -> NDArray[np.bool_]:
    """(c,) whether each candidate has as many such entities as the placement wants. scores: of the one
    match that the placement is about."""
    least, most = _bounds(placement)
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
        counts[place] = len(apart(facts.boxes[facts.starts[place] + best_first]))
    return counts


def best_apart(totals: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Ordinals, ascending, of one image's entities that stand for a thing each: of those that overlap, the
    one with the greatest total, of equal ones the first. totals: (n,), -inf for one that may not match.
    boxes: (n, 4)."""
    some = np.flatnonzero(np.isfinite(totals))
    best_first = some[np.argsort(-totals[some], kind="stable")]
    return np.sort(best_first[apart(boxes[best_first])])


def apart(boxes: NDArray[np.float64]) -> list[int]:
    """The rows that are left when, first ones first, those that overlap an earlier one are passed over.
    boxes: (n, 4)."""
    kept: list[int] = []
    left = np.arange(len(boxes))
    while len(left):
        first, others = int(left[0]), left[1:]
        kept.append(first)
        overlap = covered_shares(boxes[first : first + 1], boxes[others])[0]
        # Rounding must not decide about boxes that are halves of each other.
        left = others[overlap < OVERLAPPING - ROUNDING]
    return kept


def covered_shares(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m) the area that each of n boxes shares with each of m others, over that of the smaller one."""
    own, other = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, others))
    shares: NDArray[np.float64] = shared_areas(boxes, others) / np.minimum(own[:, None], other[None, :])
    return shares
