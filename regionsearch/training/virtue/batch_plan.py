"""Which pairs make up the batch of each step."""

from __future__ import annotations

import heapq
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
    shuffled anew every time the source is through. No pair is twice in a batch: it would be its own
    negative. For that a source is drawn no more often for a batch than it has sub-batches, and begins a
    new round with other pairs than it ended the last one with. Sub-batches are smaller where sources are.
    """

    def __init__(self, sizes: Sequence[int], batch: int, steps: int, seed: int) -> None:
        """sizes: pairs of each source. Raises InvalidRequest if together they do not fill a batch."""
        check_filled(sizes, batch)
        self._sizes = list(sizes)
        self._seed = seed
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}
        size = min(SUB_BATCH, batch, *sizes)
        while sum(each // size for each in sizes) < -(-batch // size):
            size -= 1
        self._cuts = [size] * (batch // size) + ([batch % size] if batch % size else [])
        most = [each // size for each in sizes]
        # Pairs that a batch takes of each source at most.
        self._most = [min(batch, size * times) for times in most]
        self._drawn = _drawn(sizes, most, steps, len(self._cuts), seed)
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
        known, order = self._orders.get(source, (-1, None))
        if order is None or known > round_:
            known, order = 0, self._shuffled(source, 0)
        for next_round in range(known + 1, round_ + 1):
            order = _apart(self._shuffled(source, next_round), order, self._most[source])
        self._orders[source] = (round_, order)
        return order

    def _shuffled(self, source: int, round_: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, 1, source, round_]).permutation(self._sizes[source])


def check_filled(sizes: Sequence[int], batch: int) -> None:
    """Raises InvalidRequest if sources of these sizes together do not fill a batch."""
    if sum(sizes) < batch:
        raise InvalidRequest(
            f"a batch takes {batch} pairs and there are {sum(sizes)}: a pair twice in a batch would "
            "be its own negative; give a smaller --batch"
        )


def _drawn(
    sizes: Sequence[int], most: Sequence[int], steps: int, places: int, seed: int
) -> NDArray[np.int64]:
    """(steps, places): the source of each sub-batch, by size, the i-th `most[i]` times a step at most."""
    shares = np.array(sizes) / sum(sizes)
    random = np.random.default_rng([seed, 0])
    drawn = random.choice(len(sizes), size=(steps, places), p=shares).astype(np.int64)
    counts = np.stack([(drawn == source).sum(axis=1) for source in range(len(sizes))], axis=1)
    for step in np.flatnonzero((counts > np.array(most)).any(axis=1)):
        left = np.array(most)
        for place, source in enumerate(drawn[step]):
            if not left[source]:
                open_ = np.where(left > 0, shares, 0.0)
                drawn[step, place] = source = random.choice(len(sizes), p=open_ / open_.sum())
            left[source] -= 1
    return drawn


def _apart(order: NDArray[np.int64], before: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    """The order, in which pairs wait until they are `window` places behind where they were in the round
    before; window is no more than the pairs."""
    # The place from which on a pair may come: 0 for all but those that the last round ended with.
    earliest = np.zeros(len(order), dtype=np.int64)
    earliest[before[len(order) - window :]] = np.arange(window)
    waiting: list[tuple[int, int]] = []
    placed: list[int] = []
    for pair in order.tolist():
        while waiting and waiting[0][0] <= len(placed):
            placed.append(heapq.heappop(waiting)[1])
        if earliest[pair] <= len(placed):
            placed.append(pair)
        else:
            heapq.heappush(waiting, (int(earliest[pair]), pair))
    placed += [pair for _, pair in sorted(waiting)]
    return np.array(placed, dtype=np.int64)
