"""How good a ranking is, with every image weighted.

Each measure takes a ranking's relevance and the weights of its images in many draws at once; the plain
measure is the draw in which every image weighs one. An image of weight w stands for w images at one
place of the ranking: it is retrieved w times, and when it is relevant it is w relevant images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS = 10
CALIBRATION_HITS = 10
"""Hits of each query whose scores are held against what was relevant."""


def average_precision(relevant: NDArray[np.bool_], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean, over the relevant images, of the precision at their place.

    relevant: (ranked,) best first. weights: (draws, ranked). Returns (draws,), NaN where nothing
    relevant has weight.
    """
    places = np.flatnonzero(relevant)
    # Only the places of relevant images are read, so only they are gathered after the one running sum.
    retrieved = np.cumsum(weights, axis=1)[:, places]
    own = weights[:, places]
    found = np.cumsum(own, axis=1)
    total = own.sum(axis=1)
    precision = np.divide(found, retrieved, out=np.zeros(found.shape), where=own > 0)
    return _divide((own * precision).sum(axis=1), total)


def precision_at(k: int, relevant: NDArray[np.bool_], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Relevant images among the first k, over min(k, relevant images).

    Shapes as `average_precision`; the first k are counted by weight.
    """
    before = np.cumsum(weights, axis=1) - weights
    taken = np.clip(k - before, 0, weights)
    total = weights[:, relevant].sum(axis=1)
    return _divide(taken[:, relevant].sum(axis=1), np.minimum(k, total))


def first_holds(
    holds: NDArray[np.bool_], relevant: NDArray[np.bool_], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """1 where the first place with weight is one of `holds`, else 0; NaN where nothing relevant has
    weight. Shapes as `average_precision`."""
    if not relevant.any():
        return np.full(len(weights), np.nan)
    first = (weights > 0).argmax(axis=1)
    return np.where(weights[:, relevant].sum(axis=1) > 0, holds[first].astype(np.float64), np.nan)


def expected_calibration_error(scores: NDArray[np.float64], relevant: NDArray[np.bool_]) -> float | None:
    """How far scores are from shares: over bins of equal count in the order of the scores, the mean of
    |mean score − share relevant|. None without scores.

    After Naeini et al. 2015 with equal-count instead of equal-width bins (Nguyen and O'Connor 2015),
    so that no bin stands on a handful of hits.
    """
    if not len(scores):
        return None
    # Equal scores are ordered by relevance, so that the figure does not depend on the order of queries.
    order = np.lexsort((relevant, scores))
    bins = [part for part in np.array_split(order, CALIBRATION_BINS) if len(part)]
    return float(np.mean([abs(scores[part].mean() - relevant[part].mean()) for part in bins]))


def _divide(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> NDArray[np.float64]:
    quotient: NDArray[np.float64] = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=np.asarray(denominator) > 0)
    return quotient
