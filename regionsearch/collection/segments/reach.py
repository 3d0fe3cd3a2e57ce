"""How far a search looks in one index: decided question by question, since they are not equally hard.

What is asked in words lies far from every row, and the rows nearest to it are spread over many more lists
than those of a question that is like a row. How far a question lies shows when it is compared with the
centroids, which every search begins with. Lists are then probed while their centroid's similarity falls
short of the best one's by a share of it at most, as in SPANN (Chen et al., NeurIPS 2021); the share that
suffices was measured when the index was built, for near questions and for far ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW, MANY = 10, 50
"""Rows asked for when reach is measured; between and beyond them it follows a power of k."""
NEAR_ENOUGH = 5
"""Allowed rows in the lists within reach, for each row asked for, among which the answers are."""
EVERYTHING = 1e9
"""A level that no list is beyond."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What one sort of question needs.

    similarity: of such questions to their best centroid. level: by what share of that similarity lists may
    fall short; of a graph, the length of its candidate list. spare: rows handed on for each one asked for.
    """

    similarity: float = 0.0
    level: float = EVERYTHING
    spare: float = 1.0


@dataclass(frozen=True, slots=True)
class Reaches:
    """near, far: of questions like the rows, and of questions far from all. growth: times as many lists are
    probed for MANY rows as for FEW. far_lists: that far questions come to for FEW, in the mean."""

    near: Reach = Reach()
    far: Reach = Reach()
    growth: float = 1.0
    far_lists: float = 1.0

    @staticmethod
    def from_parameters(parameters: Mapping[str, Any]) -> Reaches:
        """Of an index that was not tuned, since it has no rows: everything."""
        if "near" not in parameters:
            return Reaches()
        near, far = Reach(**parameters["near"]), Reach(**parameters["far"])
        return Reaches(near, far, float(parameters["growth"]), float(parameters["far_lists"]))

    def parameters(self) -> dict[str, Any]:
        """JSON-able, as `from_parameters` takes them."""
        return asdict(self)

    def of(self, best: float) -> Reach:
        """For a question with this similarity to its best centroid: between the two as it lies between
        them."""
        apart = self.near.similarity - self.far.similarity
        way = min(1.0, max(0.0, (best - self.far.similarity) / apart)) if apart > 0 else 0.0
        # In doubt a question is a far one: half way there it is a quarter near.
        nearness = way**2
        return Reach(
            # What a share is taken of: to questions still farther away no less is probed.
            max(best, self.far.similarity),
            self.far.level + nearness * (self.near.level - self.far.level),
            self.far.spare + nearness * (self.near.spare - self.far.spare),
        )

    def times(self, k: float) -> float:
        """As many lists as for FEW rows, for k."""
        return max(1.0, math.pow(k / FEW, math.log(self.growth) / math.log(MANY / FEW)))

    def under_a_filter(self, lists: int, k: int, rows_each: float, share: float) -> float:
        """Lists for a question that reaches `lists` of `rows_each` rows, when this share of all rows, below
        1, is allowed: as many allowed rows, at least, are compared as there would be rows without a filter.

        Where too few of the rows that are near are allowed, the answers lie beyond them, and the question is
        as far from them as far ones are.
        """
        enough = lists * rows_each * share >= NEAR_ENOUGH * k
        # k of the allowed rows are about as far away as k / share of all.
        times = max(1 / share, self.times(k / share) / self.times(k))
        return times * (lists if enough else max(float(lists), self.far_lists))


def lists_within(similarities: NDArray[np.float32], reach: Reach) -> int:
    """How many lists, at least 1, a question with these similarities (l,) to the centroids reaches."""
    least = float(similarities.max()) - reach.level * abs(reach.similarity)
    return max(1, int(np.count_nonzero(similarities >= least)))


def nearest_lists(similarities: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """(count,) numbers of the lists with the largest similarities (l,), best first; all when there are not
    more."""
    if count < len(similarities):
        chosen = np.argpartition(similarities, len(similarities) - count)[len(similarities) - count :]
    else:
        chosen = np.arange(len(similarities))
    nearest: NDArray[np.int64] = chosen[np.argsort(-similarities[chosen], kind="stable")].astype(np.int64)
    return nearest
