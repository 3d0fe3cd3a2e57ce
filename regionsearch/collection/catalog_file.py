"""The places that the catalog's file has on its disk, which LMDB does not look after.

LMDB leaves pages out when it writes: those that are free again when their transaction ends, and those that a
commit without room did not reach. They are holes of the file, counted among its pages, and on a full disk a
later transaction that is given one of them fails.
"""

from __future__ import annotations

import os
from pathlib import Path

_BLOCK_BYTES = 512  # what st_blocks counts


class CatalogFile:
    """Used by one thread at a time, and never while another writes to the file: where a file system cannot
    give places by itself, the system's library writes zeros into what it found to be a hole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._placed = 0
        self.lacking = 0
        """Bytes without a place that `place` could not give one lately."""

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def place(self, end: int) -> None:
        """Every byte before `end` has its place on the disk afterwards; the file is made as long as that.

        Raises OSError, when `lacking` says how much is missing.
        """
        if self._placed >= end:
            return
        try:
            with self.path.open("r+b") as file:
                _fill_holes(file.fileno(), self._placed, end)
        except OSError:
            self.lacking = max(0, end - self.path.stat().st_blocks * _BLOCK_BYTES)
            raise
        self._placed = end
        self.lacking = 0


def _fill_holes(descriptor: int, start: int, end: int) -> None:
    size = os.fstat(descriptor).st_size
    stop = min(size, end)
    while start < stop:
        hole = os.lseek(descriptor, start, os.SEEK_HOLE)
        if hole >= stop:
            break
        start = min(stop, _data_after(descriptor, hole, size))
        os.posix_fallocate(descriptor, hole, start - hole)
    if size < end:
        os.posix_fallocate(descriptor, size, end - size)


def _data_after(descriptor: int, hole: int, size: int) -> int:
    try:
        return os.lseek(descriptor, hole, os.SEEK_DATA)
    except OSError:  # ENXIO: the hole reaches to the end
        return size
