"""Which pairs make up the batch of each step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import InvalidRequest

SUB_BATCH = 64
"""Pairs in a row from one source: as VIRTUE was trained, so that most negatives are of the same kind."""


class BatchPlan:
    """Batches drawn from several sources, as a function of the seed and the step alone: a run that is
    taken up again needs no other memory of where it was.

    A batch is cut into sub-batches (64 pairs, the last one what is left); each comes from one source,
    drawn with a probability proportional to its size, and takes that source's next pairs in an order
    shuffled anew every time the source is through.
    """

    def __init__(self, sizes: Sequence[int], batch: int, steps: int, seed: int) -> None:
        """sizes: pairs of each source. Raises InvalidRequest if together they do not fill a batch."""
        if sum(sizes) < batch:
            raise InvalidRequest(
                f"a batch takes {batch} pairs and there are {sum(sizes)}: a pair twice in a batch would "
                "be its own negative; give a smaller --batch"
            )
        self._sizes = list(sizes)
        self._seed = seed
        self._orders: dict[tuple[int, int], NDArray[np.int64]] = {}
        size = min(SUB_BATCH, batch, *sizes)
        self._cuts = [size] * (batch // size) + ([batch % size] if batch % size else [])
        shares = np.array(sizes) / sum(sizes)
        drawing = np.random.default_rng([seed, 0])
        self._drawn = drawing.choice(len(sizes), size=(steps, len(self._cuts)), p=shares)
        # For each step, how many pairs of each source the steps before it have taken.
        taken = np.zeros((steps, len(sizes)), dtype=np.int64)
        for place, cut in enumerate(self._cuts):
            taken[np.arange(steps), self._drawn[:, place]] += cut
        self._taken_before = np.cumsum(taken, axis=0) - taken

    def batch(self, step: int) -> list[tuple[int, int]]:
        """(source, pair) of every place in the batch of this step, counted from 0."""
        taken = self._taken_before[step].copy()
        places: list[tuple[int, int]] = []
        for source, cut in zip(self._drawn[step].tolist(), self._cuts, strict=True):
            start = int(taken[source])
            places += [(source, self._pair(source, position)) for position in range(start, start + cut)]
            taken[source] += cut
        return places

    def _pair(self, source: int, position: int) -> int:
        round_, place = divmod(position, self._sizes[source])
        return int(self._order(source, round_)[place])

    def _order(self, source: int, round_: int) -> NDArray[np.int64]:
        key = (source, round_)
        if key not in self._orders:
            self._orders = {known: order for known, order in self._orders.items() if known[0] != source}
            self._orders[key] = np.random.default_rng([self._seed, 1, source, round_]).permutation(
                self._sizes[source]
            )
        return self._orders[key]
