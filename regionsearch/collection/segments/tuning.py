"""Chooses how much a search looks at, and how many rows it hands on, from questions asked of the
finished index.

Each index is tuned on its own rows, when it is built: how vectors lie differs from collection to collection
and from segment to segment, and a table would be right for none. Three kinds of questions are asked: rows
(without themselves), the middle between two rows, and vectors far from any row, since what is asked in words
lies there. The worst kind decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.segments.building_centroids import unit_rows
from regionsearch.collection.segments.tuning_answers import BestRows, found_shares

FAR_MISSED = 2.0
"""Times the share that others may miss: as hard as that, these stand for the hardest phrases, not for all."""
QUESTIONS_OF_A_KIND = 32
KINDS = ("rows", "far from rows", "middles")
FEW, MANY = 10, 50
"""Rows asked for when effort is measured; between and beyond them it follows a power of k."""
FAR_COSINE = 0.25
"""Of a question to the row that it was, moved in a random direction. Phrases are the hardest questions in the
compact models' space, and what they need is what such questions need (docs/vector-index.md)."""
HEADROOM = 0.3
"""Of the share that may be missed: the aim lies so much above the target, since what people ask is neither
a row nor a moved one."""
WORTH_RECALL = 0.01
"""Where the aim is out of reach: what less effort may lose against the most."""
MORE_EFFORT = 1.5
"""Times the least that suffices: what is tried for a smaller spare."""
SPARES = (1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0)
"""Rows handed on for each one asked for. The caller reads their vectors, at some 3 µs each."""


@dataclass(frozen=True, eq=False)
class Questions:
    """best: of QUESTIONS_OF_A_KIND questions of each kind in turn, the MANY best rows and one more."""

    best: BestRows

    @staticmethod
    def from_sample(sample: NDArray[np.float32]) -> Questions:
        """sample: (n, d) rows of the index, n at least 1."""
        random = np.random.default_rng(1)
        one, two, three = (sample[random.integers(0, len(sample), QUESTIONS_OF_A_KIND)] for _ in range(3))
        away = unit_rows(random.standard_normal(one.shape, np.float32))
        far = FAR_COSINE * one + np.float32(math.sqrt(1 - FAR_COSINE**2)) * away
        vectors = np.concatenate([one, unit_rows(far), unit_rows(two + three)])
        return Questions(BestRows.of(vectors, MANY + 1))

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(q, d) float32."""
        return self.best.vectors

    def seen(self, rows: NDArray[np.float32], first: int) -> Questions:
        """With the rows (n, d) at places `first` and on among the answers."""
        return Questions(self.best.seen(rows, np.arange(first, first + len(rows))))

    def truth(self, k: int) -> NDArray[np.int64]:
        """(q, k) places of the right answers; questions that are rows do not find themselves."""
        shifted = self.best.places.copy()
        shifted[:QUESTIONS_OF_A_KIND, :-1] = shifted[:QUESTIONS_OF_A_KIND, 1:]
        return shifted[:, :k]


@dataclass(frozen=True, slots=True)
class Tuned:
    """effort_few, effort_many: lists to probe, or candidates of a graph, for FEW and MANY rows.
    spare: rows handed on for each one asked for. recall: at FEW rows, of the worst kind of question, as
    measured with them."""

    effort_few: int
    effort_many: int
    spare: float
    recall: float


Ask = Callable[[NDArray[np.float32], int, int], NDArray[np.int64]]
"""Places (q, k) that the index finds for vectors (q, d), k and an effort; -1 where there is none."""


def tune(questions: Questions, most: int, target: float, ask: Ask, row_cost: float) -> Tuned:
    """The effort and spare that cost least among those with which rows and middles find `target` of their
    right answers, together by one standard error more, and far questions their share; where that is out of
    reach, the least effort with which the worst kind finds about as many as with the most.

    most: effort that is possible, 0 for an index that reads every row. row_cost: of handing on one more row,
    where 1 is the cost of one more unit of effort.
    """
    truth = questions.truth(FEW)
    aim = target + HEADROOM * (1 - target)
    best: Tuned | None = None
    least_cost = math.inf
    tried: list[Tuned] = []
    for effort in _steps(most):
        if best is not None and effort > MORE_EFFORT * best.effort_few:
            break
        found = ask(questions.vectors, round(SPARES[-1] * FEW) + 1, effort)
        # A question that is a row finds itself too; the place that it takes is not counted.
        by_spare = [found_shares(truth, found[:, : round(spare * FEW) + 1]) for spare in SPARES]
        tried.append(Tuned(effort, effort, SPARES[-1], _worst_kind(by_spare[-1])))
        reached = [place for place, shares in enumerate(by_spare) if _reaches(shares, aim)]
        if reached:
            spare = SPARES[reached[0]]
            cost = effort + row_cost * FEW * spare
            if cost < least_cost:
                best, least_cost = Tuned(effort, effort, spare, _worst_kind(by_spare[reached[0]])), cost
    if best is None:
        # Out of reach whatever the effort: no more of it than brings anything.
        best = next(each for each in tried if each.recall >= tried[-1].recall - WORTH_RECALL)
    return replace(best, effort_many=_effort_for_many(questions, most, best, aim, ask))


def _effort_for_many(questions: Questions, most: int, few: Tuned, aim: float, ask: Ask) -> int:
    truth = questions.truth(MANY)
    tried: list[tuple[int, float]] = []
    for effort in _steps(most):
        if effort >= few.effort_few:
            shares = found_shares(truth, ask(questions.vectors, round(MANY * few.spare) + 1, effort))
            if _reaches(shares, aim):
                return effort
            tried.append((effort, _worst_kind(shares)))
    return next(effort for effort, recall in tried if recall >= tried[-1][1] - WORTH_RECALL)


def _worst_kind(shares: NDArray[np.float64]) -> float:
    return float(_by_kind(shares).mean(axis=1).min())


def _reaches(shares: NDArray[np.float64], target: float) -> bool:
    rows, far, middles = _by_kind(shares)
    near = np.concatenate([rows, middles])
    error = near.std() / np.sqrt(len(near))
    return bool(
        min(rows.mean(), middles.mean()) >= target
        and near.mean() - error >= target
        and far.mean() >= 1 - FAR_MISSED * (1 - target)
    )


def _steps(most: int) -> list[int]:
    """1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 16, ...: by a fifth or the next number, up to all of them."""
    steps = sorted({round(2**power) for power in np.arange(0, 16, 0.25)})
    return [step for step in steps if step < most] + [max(1, most)]


def _by_kind(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return shares.reshape(len(KINDS), QUESTIONS_OF_A_KIND)
