"""Where the vectors of a new segment come from: memory, or the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.segments.fresh_rows import FreshPart
from regionsearch.collection.segments.record_vectors import RecordVectors
from regionsearch.collection.segments.view import Arm
from regionsearch.errors import DataLoss

BLOCK_BYTES = 4 << 20


class FreshSource:
    """Of the images at these ascending `places` of a part in memory."""

    def __init__(self, part: FreshPart, arm: Arm, places: NDArray[np.int64]) -> None:
        self.dimension = part.image_vectors[0].shape[1]
        self._part = part
        self._arm: Arm = arm
        if arm == "entities":
            chosen = np.zeros(len(part.live), bool)
            chosen[places] = True
            places = np.flatnonzero(np.repeat(chosen, np.diff(part.starts)))
        self._rows = places
        self.rows = len(places)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        size = max(1, BLOCK_BYTES // (4 * self.dimension))
        for first in range(0, self.rows, size):
            yield self._part.gathered(self._arm, self._rows[first : first + size])

    def sample(self, count: int, seed: int) -> NDArray[np.float32]:
        chosen = sampled(self.rows, count, seed)
        return self._part.gathered(self._arm, self._rows[chosen])


class RecordSource:
    """Of images by their ascending `numbers`, which have `counts` entities, read from their records.

    An image whose record is gone, because it was deleted since, or damaged has rows of zeros, and its number
    is in `gone` or, with what is wrong, in `damaged`. rest: called often while records are read.
    """

    def __init__(
        self,
        records: RecordVectors,
        arm: Arm,
        numbers: NDArray[np.int64],
        counts: NDArray[np.int64],
        rest: Callable[[], None],
    ) -> None:
        self.dimension = records.dimension
        self.gone: set[int] = set()
        self.damaged: dict[int, DataLoss] = {}
        self._records = records
        self._arm = arm
        self._numbers = numbers
        self._counts = counts if arm == "entities" else np.ones(len(numbers), np.int64)
        self._rest = rest
        self.rows = int(self._counts.sum())

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        size = max(1, BLOCK_BYTES // (4 * self.dimension))
        kept: list[NDArray[np.float32]] = []
        rows = 0
        for vectors in self._read(self._numbers, self._counts):
            kept.append(vectors)
            rows += len(vectors)
            if rows >= size:
                yield np.concatenate(kept)
                kept, rows = [], 0
        if kept:
            yield np.concatenate(kept)

    def sample(self, count: int, seed: int) -> NDArray[np.float32]:
        chosen = sampled(self.rows, count, seed)
        starts = np.cumsum(self._counts) - self._counts
        images = np.searchsorted(starts, chosen, side="right") - 1
        found = np.empty((len(chosen), self.dimension), np.float32)
        wanted, first = np.unique(images, return_index=True)
        ends = np.append(first[1:], len(chosen))
        read = self._read(self._numbers[wanted], self._counts[wanted])
        for image, begin, end, vectors in zip(wanted, first, ends, read, strict=True):
            found[begin:end] = vectors[chosen[begin:end] - starts[image]]
        return found

    def _read(self, numbers: NDArray[np.int64], counts: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        rows = iter(counts.tolist())
        for piece in self._records.pieces(numbers):
            for number, stored in piece:
                count = next(rows)
                if isinstance(stored, np.ndarray):
                    vectors = stored[1:] if self._arm == "entities" else stored[:1]
                    if len(vectors) == count:
                        yield vectors
                        continue
                    stored = DataLoss(f"it has {len(vectors)} entities instead of {count}")
                if stored is None:
                    self.gone.add(number)
                else:
                    self.damaged[number] = stored
                yield np.zeros((count, self.dimension), np.float32)
            self._rest()


def sampled(rows: int, count: int, seed: int) -> NDArray[np.int64]:
    """min(count, rows) different places below `rows`, ascending."""
    if count >= rows:
        return np.arange(rows)
    chosen = np.random.default_rng(seed).choice(rows, size=count, replace=False, shuffle=False)
    return np.sort(chosen)
