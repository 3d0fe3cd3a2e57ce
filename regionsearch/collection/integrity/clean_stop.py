"""Whether the last writer of a data directory came to its end, and left the catalog as it says.

A writer that closes leaves a file with LMDB's last transaction and a checksum of both meta pages, and the
next one takes it away before it writes. So: a file that matches means a catalog in order; no file, a writer
that was killed (or is at work); a file that does not match, a catalog that was damaged or exchanged since.
LMDB by itself would go back to the commit before the last one when the last one's meta page is damaged, and
say nothing.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regionsearch.collection.integrity.pages import LARGEST_PAGE, PageError, current_meta
from regionsearch.collection.on_disk import replace_by_json, sync
from regionsearch.errors import DataLoss

CLEAN_STOP = "regionsearch.stopped"
UNFINISHED_CLEAN_STOP = CLEAN_STOP + ".new"
_META_BYTES = 2 * LARGEST_PAGE


@dataclass(frozen=True, slots=True)
class CleanStop:
    """transaction: LMDB's last one. metas: crc32 of what both meta pages say. pages: that the file has."""

    transaction: int
    metas: int
    pages: int

    @staticmethod
    def of(data: Path) -> CleanStop:
        """Of the catalog as it lies on the disk. Raises DataLoss when its meta pages are damaged."""
        with data.open("rb") as file:
            start = memoryview(file.read(_META_BYTES))
        try:
            meta = current_meta(start)
        except PageError as error:
            raise DataLoss(f"the catalog '{data}' is damaged: {error}") from error
        metas = zlib.crc32(start[meta.page_size : 2 * meta.page_size], zlib.crc32(start[: meta.page_size]))
        return CleanStop(meta.transaction, metas, meta.last_page + 1)

    def as_json(self) -> dict[str, int]:
        return {"transaction": self.transaction, "metas": self.metas, "pages": self.pages}


def write_clean_stop(folder: Path, data: Path) -> None:
    """Called by the writer after its last commit, while it still holds the lock. Raises OSError, DataLoss."""
    values = CleanStop.of(data).as_json()
    unfinished = folder / UNFINISHED_CLEAN_STOP
    replace_by_json(folder / CLEAN_STOP, unfinished, values | {"check": _check(values)})


def stopped_cleanly(folder: Path, data: Path) -> bool:
    """False when no clean stop was left behind, or a damaged one.

    Raises DataLoss when one was, and the catalog is not as it says.
    """
    left = _read(folder)
    if left is None:
        return False
    now = CleanStop.of(data)
    if now != left and _read(folder) == left:  # else a writer began meanwhile
        raise DataLoss(
            f"the catalog '{data}' was closed at transaction {left.transaction} with {left.pages} pages, "
            f"and is now at {now.transaction} with {now.pages}: its first pages were damaged or it was "
            "exchanged, and commits may be missing. Restore a snapshot; or, to go on with what is there, "
            "run `regionsearch verify --repair`"
        )
    return now == left


def remove_clean_stop(folder: Path) -> None:
    """Before the first write: from now on only closing makes the catalog trusted again. Raises OSError."""
    found = False
    for name in (CLEAN_STOP, UNFINISHED_CLEAN_STOP):
        if (folder / name).exists():
            (folder / name).unlink()
            found = True
    if found:
        sync(folder)


def _read(folder: Path) -> CleanStop | None:
    try:
        values: Any = json.loads((folder / CLEAN_STOP).read_text("ascii"))
        check = values.pop("check")
        return CleanStop(**values) if check == _check(values) else None
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None  # none, or one that says nothing: the catalog is examined


def _check(values: Mapping[str, int]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())
