"""Chooses how many lists a search probes, and how many rows it hands on, from questions asked of the
finished index.

Each index is tuned on its own rows, when it is built: how vectors lie differs from collection to collection
and from segment to segment, and a table would be right for none. Three kinds of questions are asked: rows
(without themselves), rows moved away from the data, and the middle between two rows, since what is asked
in words lies off the data. The worst kind decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.inner_products import load_faiss
from regionsearch.collection.segments.building_centroids import unit_rows

QUESTIONS_OF_A_KIND = 32
KINDS = ("rows", "moved rows", "middles")
FEW, MANY = 10, 50
"""Rows asked for when probes are measured; between and beyond them they follow a power of k."""
MOVED_COSINE = 0.8
"""Of a moved row to where it was; the difference points from one random row to another, so that it has
the spectrum of the data."""
SPARES = (1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0)
"""Rows handed on for each one asked for. The caller reads their vectors, at some 3 µs each."""
SPARE_LOSS = 0.01
"""Recall that a smaller spare may cost, of what the probes find above the target."""


@dataclass(frozen=True, eq=False)
class Questions:
    """vectors: (q, d) float32 unit vectors, QUESTIONS_OF_A_KIND of each kind in turn. similarities, places:
    (q, MANY) of the best rows seen so far, best first, by exact inner product; place -1 where there is none.
    """

    vectors: NDArray[np.float32]
    similarities: NDArray[np.float32]
    places: NDArray[np.int64]

    @staticmethod
    def from_sample(sample: NDArray[np.float32]) -> Questions:
        """sample: (n, d) rows of the index, n at least 1."""
        random = np.random.default_rng(1)
        one, two, three = (sample[random.integers(0, len(sample), QUESTIONS_OF_A_KIND)] for _ in range(3))
        away = unit_rows(two - three)
        moved = MOVED_COSINE * one + np.sqrt(1 - MOVED_COSINE**2).astype(np.float32) * away
        vectors = np.concatenate([one, unit_rows(moved), unit_rows(two + three)])
        shape = (len(vectors), MANY + 1)
        return Questions(vectors, np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64))

    def seen(self, rows: NDArray[np.float32], first: int) -> Questions:
        """With the rows at places `first` and on among the answers: rows (n, d)."""
        faiss = load_faiss()
        k = min(self.places.shape[1], len(rows))
        similarities, places = faiss.knn(self.vectors, rows, k, metric=faiss.METRIC_INNER_PRODUCT)
        similarities = np.concatenate([self.similarities, similarities], axis=1)
        places = np.concatenate([self.places, places + first], axis=1)
        best = np.argsort(-similarities, axis=1, kind="stable")[:, : self.places.shape[1]]
        return Questions(
            self.vectors, np.take_along_axis(similarities, best, 1), np.take_along_axis(places, best, 1)
        )

    def truth(self, k: int) -> NDArray[np.int64]:
        """(q, k) places of the right answers; questions that are rows do not find themselves."""
        shifted = self.places.copy()
        shifted[:QUESTIONS_OF_A_KIND, :-1] = shifted[:QUESTIONS_OF_A_KIND, 1:]
        return shifted[:, :k]


@dataclass(frozen=True, slots=True)
class Tuned:
    """probes_few, probes_many: lists for FEW and MANY rows. spare: rows handed on for each one asked for.
    recall: at FEW rows, of the worst kind of question, as measured with them."""

    probes_few: int
    probes_many: int
    spare: float
    recall: float


Ask = Callable[[NDArray[np.float32], int, int], NDArray[np.int64]]
"""Places (q, k) that the index finds for vectors (q, d), k and a number of probes; -1 where there is none."""


def tune(questions: Questions, lists: int, target: float, ask: Ask) -> Tuned:
    """The fewest probes, and then the smallest spare, with which each kind of question finds `target` of
    its right answers, and all together do so by one standard error more. `lists` 0: of an index that reads
    every row."""
    spare = SPARES[-1]
    if lists:
        probes_few = _fewest_probes(questions, lists, FEW, target, ask)
        probes_many = max(probes_few, _fewest_probes(questions, lists, MANY, target, ask))
    else:
        probes_few = probes_many = 1
    truth = questions.truth(FEW)
    found = ask(questions.vectors, round(SPARES[-1] * FEW) + 1, probes_few)
    full = found_shares(questions, truth, found)
    for candidate in SPARES:
        # A question that is a row finds itself too; the place that it takes is not counted.
        shares = found_shares(questions, truth, found[:, : round(candidate * FEW) + 1])
        least = min(target, _by_kind(full).mean(axis=1).min())
        if shares.mean() >= full.mean() - SPARE_LOSS and _by_kind(shares).mean(axis=1).min() >= least:
            spare = candidate
            break
    recall = found_shares(questions, truth, found[:, : round(spare * FEW) + 1])
    return Tuned(probes_few, probes_many, spare, float(min(_by_kind(recall).mean(axis=1))))


def _fewest_probes(questions: Questions, lists: int, k: int, target: float, ask: Ask) -> int:
    truth = questions.truth(k)
    for probes in _steps(lists):
        found = ask(questions.vectors, round(k * SPARES[-1]) + 1, probes)
        shares = found_shares(questions, truth, found)
        error = shares.std() / np.sqrt(len(shares))
        if shares.mean() - error >= target and _by_kind(shares).mean(axis=1).min() >= target:
            return probes
    return lists


def _steps(lists: int) -> list[int]:
    """1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 16, ...: by a fifth or the next number, up to all of them."""
    steps = sorted({round(2**power) for power in np.arange(0, 16, 0.25)})
    return [step for step in steps if step < lists] + [lists]


def found_shares(
    questions: Questions, truth: NDArray[np.int64], found: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(q,) shares of the right answers (q, k) that are among the found places (q, m)."""
    there = truth >= 0
    among = (truth[:, :, None] == found[:, None, :]).any(axis=2) & there
    right = there.sum(axis=1)
    return np.where(right > 0, among.sum(axis=1) / np.maximum(right, 1), 1.0)


def _by_kind(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return shares.reshape(len(KINDS), QUESTIONS_OF_A_KIND)
