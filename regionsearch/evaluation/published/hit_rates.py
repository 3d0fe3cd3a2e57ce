"""How often the right candidate comes first, and the interval around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from regionsearch.evaluation.bootstrap import image_weights, interval
from regionsearch.evaluation.published.benchmark_inputs import Retrieval

Vectors = Callable[[NDArray[np.int64]], NDArray[np.float32]]

EQUAL = 1e-6
"""Scores closer than this are equal. Inner products of one vector with two equal ones differ by up to 1e-7:
the matrix product adds in another order by row, and networks by place in their batch."""


def hit_rate(scores: NDArray[np.floating], correct: NDArray[np.bool_], k: int) -> float:
    """Whether a right candidate is among the first k, 0 to 1; 0 when none is right.

    Equal scores (to EQUAL) are in no order: the hit counts with the chance that a random order puts a
    right one within the first k. (The official programs leave the order of ties to their sort.)
    """
    if not correct.any():
        return 0.0
    best = scores[correct].max()
    tied = np.abs(scores - best) <= EQUAL
    places = k - int((scores > best + EQUAL).sum())
    count, right = int(tied.sum()), int((tied & correct).sum())
    if places <= 0:
        return 0.0
    if places >= count:
        return 1.0
    return 1.0 - math.comb(count - right, places) / math.comb(count, places)


def hits_of(
    retrieval: Retrieval, queries: Vectors, candidates: Vectors, ks: Sequence[int]
) -> NDArray[np.float64]:
    """(queries, ks): hit rates by inner product.

    queries, candidates: give the vectors (n, d) float32 of places in the retrieval's lists.
    """
    hits = np.empty((len(retrieval.queries), len(ks)))
    everything = candidates(retrieval.choices_of(0)) if retrieval.choices is None and len(hits) else None
    for number in range(len(hits)):
        choices = retrieval.choices_of(number)
        vectors = candidates(choices) if everything is None else everything
        scores = vectors @ queries(np.array([number]))[0]
        correct = np.isin(choices, retrieval.correct[number])
        hits[number] = [hit_rate(scores, correct, k) for k in ks]
    return hits


class Resampled:
    """Means over queries and over draws of the groups (pictures) that they come from."""

    def __init__(self, groups: Sequence[str], seed: int = 0) -> None:
        """groups: of each query; queries of one picture are drawn together."""
        numbers = {name: number for number, name in enumerate(dict.fromkeys(groups))}
        self._of_query = np.array([numbers[name] for name in groups], dtype=np.int64)
        count = len(numbers)
        weights = np.concatenate([np.ones((1, count), dtype=np.int64), image_weights(count, seed=seed)])
        self._weights = weights.astype(np.float64)
        sizes = np.bincount(self._of_query, minlength=count)
        self._total = self._weights @ sizes

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(1 + draws,): the mean of (queries,) values as they are, then in each draw."""
        sums = np.bincount(self._of_query, weights=values, minlength=self._weights.shape[1])
        means: NDArray[np.float64] = self._weights @ sums / self._total
        return means


def shown_mean(draws: NDArray[np.float64], name: str = "hit1") -> dict[str, object]:
    """{name, ci95} of what `Resampled.means` gave."""
    return {name: float(draws[0]), "ci95": interval(draws[1:])}
