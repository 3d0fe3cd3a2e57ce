"""Overwrites what deleted rows leave in the catalog's file.

LMDB never clears what it frees. Bytes of a deleted row stay in three places: in pages that are free; in pages
of its trees, between the table of nodes and the nodes, where taking one out has moved others; and behind a
long value, in what its last page has left. Values that are written to use up the free pages would reach the
first kind alone. So the pages that the trees use are walked, and everything that lies outside them and in
their gaps becomes zeros in the file itself. LMDB reads none of these bytes: it finds nodes by the table,
lengths in the nodes, and a free page is made anew before it is used.

Only with the right to write, so that no page comes into use meanwhile, and only when no reader sees an older
state than the last, whose pages are free by now. A crash in between leaves zeros where nothing was.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator

from regionsearch.collection.environment import Environment
from regionsearch.collection.integrity.pages import CatalogPages, PageError, current_meta
from regionsearch.errors import DataLoss, StorageFull

_log = logging.getLogger(__name__)
READERS_SECONDS = 30.0
"""How long readers of older states are waited for."""
_KEPT_BUFFERS = 16_384
"""LMDB keeps the memory of pages that it wrote and uses it again without clearing it: so many are cleared,
64 MiB. It keeps as many as its largest transaction had, which is never more than the file has pages."""
_PIECE_BYTES = 1 << 20
_SECONDS_BETWEEN_LOOKS = 0.02
_PENDING = b"scrub"
_HEADER_BYTES = 16
_BOUNDS = struct.Struct("<HH")
_BOUNDS_AT = 12


def scrub(
    environment: Environment,
    *,
    check: Callable[[], None] | None = None,
    readers_seconds: float = READERS_SECONDS,
) -> int | None:
    """Clears whatever no row holds. Other writes wait meanwhile.

    Returns the bytes that were not zero before, or None when readers, of this process or others, held an
    older state all the time: then nothing was cleared. Raises Cancelled, DataLoss.
    """
    _clear_buffers(environment)
    # Twice, so that both of LMDB's meta pages lead to a state without the rows that were deleted last.
    for _ in range(2):
        if not environment.turn_over():
            raise StorageFull(f"no space left for data directory '{environment.catalog.parent}'")
    until = time.monotonic() + readers_seconds
    while True:
        if check is not None:
            check()
        with environment.transaction(write=True):
            oldest = environment.oldest_reader()
            if oldest is None or oldest >= environment.last_transaction():
                return _clear_file(environment)
        if time.monotonic() >= until:
            return None
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def mark_pending(environment: Environment) -> None:
    """The next open for writing scrubs as well: what LMDB keeps in this process's memory of the rows that are
    about to be deleted can reach the file once more, and the process may end before it has scrubbed."""
    with environment.transaction(write=True) as transaction:
        transaction.put(_PENDING, b"1", db=environment.database("format"))


def scrub_if_pending(environment: Environment) -> None:
    """Called by an open for writing, before its first write."""
    with environment.transaction() as transaction:
        if transaction.get(_PENDING, db=environment.database("format")) is None:
            return
    try:
        cleared = scrub(environment, readers_seconds=0.0)
    except (DataLoss, StorageFull) as error:
        # What is whole of it can be used all the same; the next open tries again.
        _log.warning("what was purged may have left bytes in the catalog's file: %s", error.message)
        return
    if cleared is not None:
        with environment.transaction(write=True) as transaction:
            transaction.delete(_PENDING, db=environment.database("format"))


class _NeverCommittedError(Exception):
    pass


def _clear_buffers(environment: Environment) -> None:
    """A transaction that fills pages with zeros and is then given up: nothing reaches the disk."""
    pages = min(environment.used_until() // environment.page_size + 1, _KEPT_BUFFERS)
    zeros = bytes(environment.page_size - _HEADER_BYTES)
    formats = environment.database("format")
    try:
        with environment.transaction(write=True) as transaction:
            for number in range(pages):
                transaction.put(b"zeros%d" % number, zeros, db=formats)
            raise _NeverCommittedError
    except (_NeverCommittedError, StorageFull):
        # A map that is nearly full has no room for as many; the next open scrubs again.
        return


def _clear_file(environment: Environment) -> int:
    path = environment.catalog / "data.mdb"
    cleared = 0
    with path.open("r+b", buffering=0) as file:
        # Not closed here: it goes with the last view of it, and an error's traceback may hold views.
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        # Zeros are compared with what is there, so that a page that is clear is not written.
        for start, end in _UsedPlaces(data).unused():
            for at in range(start, end, _PIECE_BYTES):
                stop = min(at + _PIECE_BYTES, end)
                stale = stop - at - bytes(data[at:stop]).count(0)
                if stale:
                    os.pwrite(file.fileno(), bytes(stop - at), at)
                    cleared += stale
        os.fsync(file.fileno())
    return cleared


class _UsedPlaces(CatalogPages):
    """Walks all trees of the last state and remembers where in their pages nothing lies."""

    def __init__(self, data: memoryview) -> None:
        self._faults: list[str] = []
        self._gaps: list[tuple[int, int]] = []
        self._bytes = data
        try:
            meta = current_meta(data)
        except PageError as error:
            raise DataLoss(f"the catalog is damaged, so it cannot be scrubbed: {error}") from error
        super().__init__(data, meta, self._faults.append)
        self._page_bytes = meta.page_size
        for name, tree in self.sub_databases().items():
            for _ in self.rows(name, tree):
                pass
        self.check_free_pages()
        if self._faults:
            raise DataLoss(f"the catalog is damaged, so it cannot be scrubbed: {self._faults[0]}")

    def unused(self) -> Iterator[tuple[int, int]]:
        """(start, end) of every place in the file that no tree reads, ascending within each kind."""
        size = self._page_bytes
        first = None
        for page, owner in enumerate(self._owner):
            free = owner != 1
            if free and first is None:
                first = page
            elif not free and first is not None:
                yield first * size, page * size
                first = None
        if first is not None:
            yield first * size, len(self._bytes)
        yield from self._gaps

    def _open_page(self, page: int, kind: int) -> tuple[int, tuple[int, ...]]:
        start, places = super()._open_page(page, kind)
        lower, upper = _BOUNDS.unpack_from(self._bytes, start + _BOUNDS_AT)
        self._gaps.append((start + lower, start + upper))
        return start, places

    def _overflow(self, at: int, value_bytes: int) -> tuple[memoryview, int]:
        value, pages = super()._overflow(at, value_bytes)
        page = int.from_bytes(self._bytes[at : at + 8], "little")
        start = page * self._page_bytes
        self._gaps.append((start + _HEADER_BYTES + value_bytes, start + pages * self._page_bytes))
        return value, pages
