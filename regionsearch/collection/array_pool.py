"""Memory that is used again: the copy of 200 candidates' vectors is 17 MB, and asking the system for
fresh pages takes longer than filling them (docs/storage.md has the figures)."""

from __future__ import annotations

import mmap
import weakref
from collections import deque

import numpy as np
from numpy.typing import NDArray

_SMALLEST = 1 << 20


class ArrayPool:
    """Float32 arrays in buffers that return here when the array and every slice of it are gone."""

    def __init__(self, *, keep: int = 4, largest: int = 64 << 20) -> None:
        """keep: buffers kept for later at most. largest: bytes; bigger arrays are not pooled."""
        self._keep = keep
        self._largest = largest
        # No lock: an array can die, and come here, wherever Python collects garbage.
        self._free: deque[mmap.mmap] = deque()

    def empty(self, rows: int, columns: int) -> NDArray[np.float32]:
        """(rows, columns), of any content."""
        size = 4 * rows * columns
        if not _SMALLEST <= size <= self._largest:
            return np.empty((rows, columns), np.float32)
        buffer = self._taken(size)
        # Slices keep this array alive, not the buffer: numpy's views refer to the first array of a chain.
        array = np.frombuffer(buffer, np.float32, rows * columns)
        weakref.finalize(array, self._give_back, buffer).atexit = False
        return array.reshape(rows, columns)

    def _taken(self, size: int) -> mmap.mmap:
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = None
        if buffer is not None and len(buffer) >= size:
            return buffer
        # A power of two, so that answers of about one size share buffers. Private: not shared with forks.
        return mmap.mmap(-1, 1 << (size - 1).bit_length(), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def _give_back(self, buffer: mmap.mmap) -> None:
        if len(self._free) < self._keep:
            self._free.append(buffer)
