"""Which entities of an image are the matches of a query: one for each of its regions, all distinct."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

NOT_ALLOWED = -np.inf
MAX_ENUMERATED = 3
"""Matches up to which all combinations are tried at once (27 for three); beyond that scipy's exact
assignment runs image by image."""


def best_rows(values: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(c,) of each image, the row with the largest value; of equal ones the first.

    values: (rows,) one an entity, no NaN. starts: (c + 1,) the first row of each image, and the number of
    rows; every image has at least one.
    """
    largest = np.maximum.reduceat(values, starts[:-1])
    rows = np.flatnonzero(values == np.repeat(largest, np.diff(starts)))
    first: NDArray[np.int64] = rows[np.searchsorted(rows, starts[:-1])]
    return first


def distinct_rows(
    values: NDArray[np.float64], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The rows that p matches take in each image, all different, so that their values' sum is the largest.

    values: (rows, p) of each entity as each match, `NOT_ALLOWED` where it may not be it. starts: as in
    `best_rows`. Returns rows (c, p) and whether there is such an assignment (c,); where there is none,
    rows hold each match's best on its own.
    """
    matches = values.shape[1]
    rows = np.stack([best_rows(values[:, match], starts) for match in range(matches)], axis=1)
    found: NDArray[np.bool_] = np.all(values[rows, np.arange(matches)] > NOT_ALLOWED, axis=1)
    # Where every match has its best entity to itself, no assignment is better.
    contested = np.flatnonzero((np.diff(np.sort(rows, axis=1), axis=1) == 0).any(axis=1))
    if not len(contested):
        return rows, found
    counts = np.diff(starts)[contested]
    own_starts = np.cumsum([0, *counts], dtype=np.int64)
    shift = np.repeat(starts[contested] - own_starts[:-1], counts)
    own = np.arange(len(shift)) + shift
    solve = _enumerated if matches <= MAX_ENUMERATED else _assigned
    each_best = rows[contested] - (starts[contested] - own_starts[:-1])[:, None]
    taken, found[contested] = solve(values[own], own_starts, each_best)
    rows[contested] = own[taken]
    return rows, found


def _enumerated(
    values: NDArray[np.float64], starts: NDArray[np.int64], each_best: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    # The others take at most p - 1 entities, so some best assignment gives each match one of its p best.
    matches = values.shape[1]
    candidates = np.empty((matches, matches, len(starts) - 1), np.int64)
    for match in range(matches):
        left = values[:, match].copy()
        for place in range(matches):
            candidates[match, place] = best_rows(left, starts)
            left[candidates[match, place]] = NOT_ALLOWED
    best = np.full(len(starts) - 1, NOT_ALLOWED)
    rows = each_best.copy()
    for places in itertools.product(range(matches), repeat=matches):
        taken = np.stack([candidates[match, place] for match, place in enumerate(places)], axis=1)
        total = values[taken, np.arange(matches)].sum(axis=1)
        for one, other in itertools.combinations(range(matches), 2):
            total[taken[:, one] == taken[:, other]] = NOT_ALLOWED
        better = total > best
        best[better], rows[better] = total[better], taken[better]
    return rows, best > NOT_ALLOWED


def _assigned(
    values: NDArray[np.float64], starts: NDArray[np.int64], each_best: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    from scipy.optimize import linear_sum_assignment

    rows, found = each_best.copy(), np.zeros(len(starts) - 1, dtype=np.bool_)
    finite = values[np.isfinite(values)]
    # Worse than any allowed assignment, so that it is taken only where there is no other.
    worst = -(np.abs(finite).max(initial=0.0) + 1.0) * 2 * values.shape[1]
    filled = np.where(np.isfinite(values), values, worst)
    for image, (start, end) in enumerate(itertools.pairwise(starts.tolist())):
        if end - start < values.shape[1]:
            continue
        entities, matches = linear_sum_assignment(filled[start:end], maximize=True)
        if np.isfinite(values[start + entities, matches]).all():
            rows[image, matches] = start + entities
            found[image] = True
    return rows, found
