"""Chooses how far searches look, and how many rows they hand on, from questions asked of the finished index.

Each index is tuned on its own rows, when it is built: how vectors lie differs from collection to collection
and from segment to segment, and a table would be right for none. Three kinds of questions are asked: rows
(without themselves), the middle between two rows, and vectors far from any row, since what is asked in words
lies there. The first decide for near questions, with an eye on the second, the third for far ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.segments.building_centroids import unit_rows
from regionsearch.collection.segments.reach import EVERYTHING, FEW, MANY, Reach, Reaches
from regionsearch.collection.segments.tuning_answers import BestRows, found_shares

FAR_QUESTIONS, ROW_QUESTIONS, MIDDLE_QUESTIONS = 32, 128, 32
FAR_COSINE = 0.25
"""Of a far question to the middle between two rows that it was moved from, in a random direction. Phrases
need as much as these do in the compact models' space (docs/vector-index.md)."""
FAR = slice(0, FAR_QUESTIONS)
ROWS = slice(FAR_QUESTIONS, FAR_QUESTIONS + ROW_QUESTIONS)
NEAR = slice(FAR_QUESTIONS, FAR_QUESTIONS + ROW_QUESTIONS + MIDDLE_QUESTIONS)
FAR_HEADROOM = 0.3
"""Of the share that may be missed: far questions are aimed so much above the target, since they stand for
words less closely than rows do for what is like rows."""
SAMPLE_ROWS = 1024
"""That questions are made of."""
MIDDLES_MISS = 2.0
"""Times the share that rows may miss: questions of the rows' own kind are like rows, and half as much work
finds as much of them as of middles, where clusters overlap."""
WORTH_RECALL = 0.01
"""Where the aim is out of reach: what less effort may lose against the most."""
MORE_EFFORT = 1.5
"""Times the least that suffices: what is tried for a smaller spare."""
LEVELS = (*(round(0.025 * step, 3) for step in range(40)), 1.0, 1.5, 2.0, EVERYTHING)
"""Shares of its best similarity by which the lists of a question may fall short."""
SPARES = (1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0)
"""Rows handed on for each one asked for. The caller reads their vectors, at some 4 µs each."""
GROWTHS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0)


@dataclass(frozen=True, eq=False)
class Questions:
    """best: of all questions, the far ones, then at NEAR the rows and the middles, the MANY best rows and one
    more."""

    best: BestRows

    @staticmethod
    def from_sample(sample: NDArray[np.float32]) -> Questions:
        """sample: (n, d) rows of the index, n at least 1, others than its centroids were fitted on where
        there are enough: those lie nearer to the centroids than rows do that are asked for."""
        random = np.random.default_rng(1)

        def drawn(count: int) -> NDArray[np.float32]:
            chosen: NDArray[np.float32] = sample[random.integers(0, len(sample), count)]
            return chosen

        away = unit_rows(random.standard_normal((FAR_QUESTIONS, sample.shape[1]), np.float32))
        moved = FAR_COSINE * unit_rows(drawn(FAR_QUESTIONS) + drawn(FAR_QUESTIONS))
        far = moved + np.float32(math.sqrt(1 - FAR_COSINE**2)) * away
        middles = drawn(MIDDLE_QUESTIONS) + drawn(MIDDLE_QUESTIONS)
        vectors = np.concatenate([unit_rows(far), drawn(ROW_QUESTIONS), unit_rows(middles)])
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
        shifted[ROWS, :-1] = shifted[ROWS, 1:]
        return shifted[:, :k]


@dataclass(frozen=True, slots=True)
class Tuned:
    """recall, far_recall: at FEW rows, of near and of far questions, as measured with them."""

    reaches: Reaches
    recall: float
    far_recall: float


@dataclass(frozen=True, eq=False)
class Index:
    """What is tuned.

    ask: places (q, k) that the index finds for these questions with these reaches, for k, and times the lists
    that they reach; -1 where there is none. similarities: (q,) of all questions to their best centroids.
    units: how many lists, or candidates, the question with this number comes to.
    levels: to choose from, rising. row_cost: of handing on one more row, where 1 is the cost of one unit.
    told_apart: whether near and far questions can be, by their similarities.
    """

    ask: Callable[[slice, Reaches, int, float], NDArray[np.int64]]
    units: Callable[[int, Reaches], int]
    similarities: NDArray[np.float32]
    levels: Sequence[float]
    row_cost: float
    told_apart: bool


def tune(questions: Questions, target: float, index: Index) -> Tuned:
    """The level and spare that cost least, for near and for far questions, among those with which they find
    `target` of their right answers and some more; where that is out of reach, the lowest level with which
    they find about as many as with the highest."""
    far_similarity = float(np.median(index.similarities[FAR]))
    near_similarity = float(np.median(index.similarities[NEAR]))
    far, far_recall = _least(questions, FAR, Reach(far_similarity), None, target, index)
    # With what the far ones need: a near question that is farther than most has a share of that.
    beyond = far if index.told_apart else None
    near, recall = _least(questions, NEAR, Reach(near_similarity), beyond, target, index)
    if not index.told_apart or near_similarity <= far_similarity:
        level, spare = max(near.level, far.level), max(near.spare, far.spare)
        near, far = replace(near, level=level, spare=spare), replace(far, level=level, spare=spare)
    reaches = Reaches(near, far)
    growth = max(_growth(questions, which, reaches, target, index) for which in (NEAR, FAR))
    far_lists = float(np.mean([index.units(each, reaches) for each in range(FAR.start, FAR.stop)]))
    return Tuned(replace(reaches, growth=growth, far_lists=far_lists), recall, far_recall)


def _least(
    questions: Questions, which: slice, of: Reach, far: Reach | None, target: float, index: Index
) -> tuple[Reach, float]:
    """The reach, and what is found with it; far: of farther questions, None where it is as this one."""
    truth = questions.truth(FEW)[which]
    best: tuple[Reach, float] | None = None
    least_cost, most_units = math.inf, math.inf
    tried: list[tuple[Reach, float]] = []
    for level in index.levels:
        reach = replace(of, level=level, spare=SPARES[-1])
        reaches = Reaches(reach, far or reach)
        units = float(np.mean([index.units(each, reaches) for each in range(which.start, which.stop)]))
        if units > most_units:
            break
        found = index.ask(which, reaches, round(SPARES[-1] * FEW) + 1, 1.0)
        # A question that is a row finds itself too; the place that it takes is not counted.
        by_spare = [found_shares(truth, found[:, : round(spare * FEW) + 1]) for spare in SPARES]
        tried.append((reach, float(by_spare[-1].mean())))
        reached = [place for place, shares in enumerate(by_spare) if _reaches(shares, target)]
        if reached:
            spare = SPARES[reached[0]]
            most_units = min(most_units, MORE_EFFORT * units)
            cost = units + index.row_cost * FEW * spare
            if cost < least_cost:
                best, least_cost = (replace(reach, spare=spare), float(by_spare[reached[0]].mean())), cost
    if best is None:
        # Out of reach whatever the effort: no more of it than brings anything.
        best = next(each for each in tried if each[1] >= tried[-1][1] - WORTH_RECALL)
    return best


def _growth(questions: Questions, which: slice, reaches: Reaches, target: float, index: Index) -> float:
    truth = questions.truth(MANY)[which]
    handed_on = round(MANY * (reaches.near if which == NEAR else reaches.far).spare) + 1
    tried: list[tuple[float, float]] = []
    for growth in GROWTHS:
        shares = found_shares(truth, index.ask(which, reaches, handed_on, growth))
        if _reaches(shares, target):
            return growth
        tried.append((growth, float(shares.mean())))
    return next(growth for growth, recall in tried if recall >= tried[-1][1] - WORTH_RECALL)


def _reaches(shares: NDArray[np.float64], target: float) -> bool:
    """Far questions and rows by one standard error, far ones by their headroom too."""
    if len(shares) == FAR_QUESTIONS:
        return _surely(shares, target + FAR_HEADROOM * (1 - target))
    rows, middles = shares[:ROW_QUESTIONS], shares[ROW_QUESTIONS:]
    return _surely(rows, target) and float(middles.mean()) >= 1 - MIDDLES_MISS * (1 - target)


def _surely(shares: NDArray[np.float64], target: float) -> bool:
    return bool(shares.mean() - shares.std() / math.sqrt(len(shares)) >= target)
