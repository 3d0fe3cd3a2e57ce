"""95% intervals by drawing the photos again.

A draw gives every image a multinomial weight (how often it was drawn), which multiplies its counts as
relevant, as retrieved and as the source of a query. Rankings are not made anew, so all draws and all
modes are compared on the same answers, and ratios of two modes are paired.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DRAWS = 1_000
SEED = 0
PERCENTILES = (2.5, 97.5)


def image_weights(images: int, draws: int = DRAWS, seed: int = SEED) -> NDArray[np.int64]:
    """(draws, images) int64: each row sums to `images`."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1.0 / images), size=draws)


def interval(values: NDArray[np.float64]) -> list[float] | None:
    """Percentiles 2.5 and 97.5 of what the draws gave, those that are undefined (NaN) left out;
    None when all are."""
    defined = values[np.isfinite(values)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, PERCENTILES)
    return [float(low), float(high)]


def mean_of_groups(
    values: NDArray[np.float64], weights: NDArray[np.float64], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The mean over groups of the weighted mean within each, for every draw.

    values: (draws, queries), NaN where a query is undefined in a draw. weights: (draws, queries).
    groups: (queries,) numbers of the groups from 0. Groups without weight in a draw are left out of it;
    a draw without any group is NaN.
    """
    counted = np.where(np.isfinite(values), weights, 0.0)
    membership = np.zeros((len(groups), int(groups.max(initial=-1)) + 1))
    membership[np.arange(len(groups)), groups] = 1.0
    weight = counted @ membership
    total = (counted * np.nan_to_num(values)) @ membership
    present = weight > 0
    means = np.divide(total, weight, out=np.zeros_like(total), where=present)
    count = present.sum(axis=1)
    mean: NDArray[np.float64] = np.full(len(count), np.nan)
    np.divide(means.sum(axis=1), count, out=mean, where=count > 0)
    return mean
