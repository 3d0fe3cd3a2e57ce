"""Vectors in memory as a source for builds, and a pace that keeps nothing waiting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 700


@dataclass(frozen=True, eq=False)
class ArraySource:
    array: NDArray[np.float32]

    @property
    def rows(self) -> int:
        return len(self.array)

    @property
    def dimension(self) -> int:
        return int(self.array.shape[1])

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        for first in range(0, self.rows, BLOCK_ROWS):
            yield self.array[first : first + BLOCK_ROWS]

    def sample(self, count: int, seed: int) -> NDArray[np.float32]:
        chosen = np.random.default_rng(seed).choice(self.rows, min(count, self.rows), replace=False)
        return self.array[np.sort(chosen)]


@dataclass
class Heard:
    """A pace that remembers what it heard."""

    done: list[float] = field(default_factory=list)

    def threads(self) -> int:
        return 1

    def breathe(self, done: float) -> None:
        self.done.append(done)
