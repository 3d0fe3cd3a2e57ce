"""One LMDB environment: opened once a process, never used across a fork, closed after its last reader."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import lmdb

from regionsearch.collection.catalog_file import CatalogFile
from regionsearch.collection.integrity.problems import Problem
from regionsearch.errors import (
    DataDirectoryInUse,
    DataLoss,
    FailedPrecondition,
    ReadOnly,
    RegionSearchError,
    StorageFull,
    UnsupportedFormat,
)

DEFAULT_MAP_SIZE = 1 << 40
"""Bytes of address space, 1 TiB: sparse, so it costs nothing until it is filled, and is never resized."""
MAX_READERS = 1_024
ROOM_TO_DELETE = 1 << 20
"""Bytes that adding writes leave, for deleting copies pages too."""
_DISK_WATCHED_BYTES = 4 << 30
"""On a disk with less left, the catalog's file has the room to delete behind its end, so that nobody else
takes it."""
_PAGES_A_ROW = 8
"""That a row copies besides its own bytes: a path in each of the trees that lead to it."""
_WATCHED_FILL = 0.5
NEARLY_FULL_BYTES = 64 << 20
"""As much as one group commit writes."""
FREE_TAIL_BYTES = 16 << 20
"""A catalog that is shorter than it says by more than this has lost something; less can be pages that
were free when its writer was killed."""
_LOOKS_AT_SIZE = 5
_SECONDS_BETWEEN_LOOKS = 0.02
SUB_DATABASES = (
    "format",
    "collections",
    "counters",
    "backgrounds",
    "dropped",
    "ids",
    "records",
    "hashes",
    "pixels",
    "segments",
    "fields",
    "idempotency",
    "aliases",
)
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_log = logging.getLogger(__name__)
_open_here: dict[tuple[int, int], Environment] = {}
_open_here_lock = threading.Lock()


def says_no_space(error: BaseException) -> bool:
    """Whether an error of the system, or of a library that quotes the system, is for lack of room."""
    return any(os.strerror(number) in str(error) for number in _NO_SPACE)


def storage_error(error: lmdb.Error, path: Path) -> RegionSearchError:
    """What an LMDB error means to a caller."""
    text = str(error)
    if isinstance(error, lmdb.MapFullError):
        return StorageFull(f"the map of data directory '{path}' is full (map_size)")
    # Of what a disk's last bytes take a part of, LMDB says that there was an input/output error.
    if says_no_space(error) or (os.strerror(errno.EIO) in text and _bytes_left(path) < NEARLY_FULL_BYTES):
        return StorageFull(
            f"no space left for data directory '{path}': its disk is full; make room beside it, or delete"
        )
    if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.PanicError)):
        return DataLoss(f"the catalog of data directory '{path}' is damaged: {text}")
    if isinstance(error, lmdb.VersionMismatchError):
        return UnsupportedFormat(f"the catalog of data directory '{path}' has another LMDB version: {text}")
    return RegionSearchError(f"the catalog of data directory '{path}' failed: {text}")


def _bytes_left(path: Path) -> int:
    """By which the catalog's file can grow on its disk, and under this process's limit."""
    system = os.statvfs(path)
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    left = system.f_bavail * system.f_frsize
    if limit == resource.RLIM_INFINITY:
        return left
    size = max((file.stat().st_size for file in path.glob("*/data.mdb")), default=0)
    return max(0, min(left, limit - size))


class _Ending(Protocol):
    def end(self, why: str = ...) -> None: ...


class Environment:
    """LMDB does not allow a second open in one process, so opens of one catalog share this."""

    def __init__(self, catalog: Path, handle: Any, *, writable: bool) -> None:
        self.catalog = catalog
        self.writable = writable
        self._handle = handle
        self._process = os.getpid()
        self._opens = 1
        self._transactions = 0
        self._idle = threading.Condition()
        self._databases: dict[str, Any] = {}
        self._long_reads: set[_Ending] = set()
        self._page_size = int(handle.stat()["psize"])
        self._file = CatalogFile(catalog / "data.mdb")
        self._writing = threading.RLock()
        self._wanted = 0
        self.damaged: tuple[Problem, ...] = ()
        """What was found when the catalog was examined, and is served without."""

    @staticmethod
    def open(
        catalog: Path, *, writable: bool, map_size: int, create: bool = False, lock: bool = True
    ) -> Environment:
        """Opens `catalog`, a folder that exists, or shares what this process has open.

        create: makes what is missing; otherwise that is DataLoss.
        lock: False only where nothing can be written: without it LMDB cannot see this reader.
        Raises DataDirectoryInUse when this process has it open for reading and asks to write,
        DataLoss, UnsupportedFormat, ReadOnly, StorageFull.
        """
        status = catalog.stat()
        key = (status.st_dev, status.st_ino)
        with _open_here_lock:
            shared = _open_here.get(key)
            if shared is not None and shared._process == os.getpid():
                if writable and not shared.writable:
                    raise DataDirectoryInUse(
                        f"'{catalog.parent}' is open for reading in this process ({os.getpid()}): "
                        "close that before it is opened for writing"
                    )
                shared._opens += 1
                return shared
            try:
                handle = lmdb.open(
                    os.fspath(catalog),
                    map_size=map_size,
                    readonly=not writable,
                    create=create,
                    lock=lock,
                    max_dbs=len(SUB_DATABASES),
                    max_readers=MAX_READERS,
                )
            except lmdb.Error as error:
                raise _open_error(error, catalog) from error
            environment = Environment(catalog, handle, writable=writable)
            try:
                environment._refuse_cut_file()
                if lock:
                    handle.reader_check()
                environment._open_databases(create=create)
            except BaseException:
                handle.close()
                raise
            _open_here[key] = environment
            return environment

    def _refuse_cut_file(self) -> None:
        """Reading a mapped page beyond the end of its file would kill the process.

        LMDB leaves pages out that are free at the end of a commit, so a whole file may lack some; a
        writer fills them up at once. A reader beside it may come in between, and looks again.
        """
        for _ in range(_LOOKS_AT_SIZE):
            size = (self.catalog / "data.mdb").stat().st_size
            expected = self._expected_bytes()
            if size >= expected:
                return
            if self.writable and size >= expected - FREE_TAIL_BYTES:
                self._fill_up_file()
                return
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        raise DataLoss(
            f"'{self.catalog / 'data.mdb'}' was cut: it has {size} bytes and should have {expected}; "
            "if its writer was killed this moment, open the directory for writing once"
        )

    def _expected_bytes(self) -> int:
        return (int(self._handle.info()["last_pgno"]) + 1) * self._page_size

    def _fill_up_file(self) -> None:
        """Gives every page of the file its place on the disk, and room to delete behind it, so that a delete
        finds it when nothing else is left there. What does not fit is tried again by the next write.

        Nothing is raised: it follows a commit, which whoever asked for it must not take for one that failed.
        """
        expected = self._expected_bytes()
        try:
            self._file.place(expected)
            left = _bytes_left(self.catalog.parent)
            end = min(expected + self._room_to_delete(), self._map_size())
            if left < _DISK_WATCHED_BYTES and end - self._file.size <= left:
                self._file.place(end)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                _log.warning("free pages of '%s' get no place on the disk now: %s", self.catalog, error)

    def _map_size(self) -> int:
        return int(self._handle.info()["map_size"])

    def _room_to_delete(self) -> int:
        return min(ROOM_TO_DELETE, self._map_size() // 8)

    def _open_databases(self, *, create: bool) -> None:
        try:
            for name in SUB_DATABASES:
                self._databases[name] = self._handle.open_db(name.encode(), create=create)
        except lmdb.NotFoundError as error:
            raise DataLoss(f"the catalog in '{self.catalog}' lacks a part: {error}") from error
        except lmdb.Error as error:
            raise storage_error(error, self.catalog.parent) from error

    def database(self, name: str) -> Any:
        return self._databases[name]

    def refuse_fork(self) -> None:
        """Raises FailedPrecondition in a fork of the process that opened this: its threads are not there."""
        if os.getpid() != self._process:
            raise FailedPrecondition(
                f"data directory '{self.catalog.parent}' was opened by process {self._process} and "
                f"cannot be used in its fork {os.getpid()}: open it after the fork"
            )

    @contextlib.contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[Any]:
        """A transaction whose values are views of the map (writes: bytes that LMDB owns), valid inside.

        Committed, and on disk, when the block ends; aborted when it raises. LMDB's errors leave as ours.
        Raises FailedPrecondition after a fork or `close`.
        """
        self.refuse_fork()
        with self._idle:
            if self._opens == 0:
                raise FailedPrecondition(f"data directory '{self.catalog.parent}' is closed")
            self._transactions += 1
        try:
            # LMDB lets one write at a time anyway; here the file's places are given before the next.
            with self._writing if write else contextlib.nullcontext():
                self._wanted = 0 if write else self._wanted
                with self._handle.begin(write=write, buffers=True) as transaction:
                    yield transaction
                if write:
                    self._fill_up_file()
        except lmdb.Error as error:
            raise storage_error(error, self.catalog.parent) from error
        finally:
            with self._idle:
                self._transactions -= 1
                if self._transactions == 0:
                    self._idle.notify_all()

    def used_until(self) -> int:
        """Bytes up to the last page that is or was in use; it never falls."""
        return self._expected_bytes()

    def used(self) -> int:
        """Bytes of the pages that hold something."""
        with self.transaction() as transaction:
            pages = 2  # LMDB's own
            for database in (None, *self._databases.values()):
                stat = transaction.stat(database) if database else self._handle.stat()
                pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return int(pages) * self._page_size

    def room(self) -> int:
        """Bytes that the catalog can have: those of the map, or what its file has on the disk and that has
        left."""
        on_disk = self._file.size - self._file.lacking + _bytes_left(self.catalog.parent)
        return min(self._map_size(), on_disk)

    def room_left(self) -> int:
        """Bytes by which the catalog can still grow at its end."""
        return max(0, self.room() - self._expected_bytes())

    def fill(self) -> float:
        """Share of its room that is in use, 0 to 1; room is what map and disk allow, less what is kept for
        deleting."""
        return min(1.0, self.used() / max(1, self.room() - self._room_to_delete()))

    def ends_with(self, read: _Ending) -> Callable[[], None]:
        """Has `close` end a long read first, instead of waiting for it. Returns what undoes that."""
        self._long_reads.add(read)
        return lambda: self._long_reads.discard(read)

    def keep_room(self, transaction: Any, size: int, rows: int) -> None:
        """Called by writes that add: makes them fail (StorageFull, now or later) before map or disk are so
        full that nothing can be deleted any more, for deleting copies pages too.

        size: bytes that the caller adds. rows: in which they are.
        """
        self._wanted += size + size // 4 + _PAGES_A_ROW * rows * self._page_size
        left = _bytes_left(self.catalog.parent)
        if left < NEARLY_FULL_BYTES + self._wanted or self._file.lacking:
            self._keep_room_on_disk()
        elif self.used_until() >= _WATCHED_FILL * self._map_size():
            self._keep_room_in_map(transaction)

    def _keep_room_on_disk(self) -> None:
        """The file gets its places before the commit: pages that it would leave out may find none later."""
        self._fill_up_file()
        expected = self._expected_bytes()
        wanted = self._wanted + self._room_to_delete()
        room = self.room()
        if expected + wanted <= room:
            try:
                self._file.place(expected + wanted)
                return
            except OSError as error:
                if error.errno not in _NO_SPACE:
                    raise
                room = self._file.size - self._file.lacking  # a quota, of which the disk does not tell
        if room - self.used() < wanted:
            raise StorageFull(
                f"no space left for data directory '{self.catalog.parent}': what is left is kept for deleting"
            )

    def _keep_room_in_map(self, transaction: Any) -> None:
        # Page by page, for the free ones need not lie side by side.
        names = [b"room%d" % number for number in range(self._room_to_delete() // self._page_size)]
        for name in names:
            transaction.put(name, bytes(self._page_size - 100), db=self._databases["format"])
        for name in names:
            transaction.delete(name, db=self._databases["format"])

    @property
    def page_size(self) -> int:
        """Bytes."""
        return self._page_size

    def last_transaction(self) -> int:
        """The number of the last that was committed."""
        return int(self._handle.info()["last_txnid"])

    def oldest_reader(self) -> int | None:
        """The transaction whose state the oldest reader of any process sees; None without readers."""
        self._handle.reader_check()
        lines = [line.split() for line in self._handle.readers().splitlines()]
        seen = [int(words[2]) for words in lines if len(words) == 3 and words[2].isdigit()]
        return min(seen, default=None)

    def turn_over(self) -> bool:
        """Commits next to nothing: LMDB uses what a transaction freed again from the second after it on.

        False when there is no room even for that.
        """
        try:
            with self.transaction(write=True) as transaction:
                transaction.put(b"turn", os.urandom(8), db=self._databases["format"])
        except StorageFull:
            return False
        return True

    def close(self) -> None:
        """Gives up one open; after the last one, waits for transactions under way and closes."""
        with _open_here_lock:
            if os.getpid() != self._process:
                return
            with self._idle:
                if self._opens > 1:
                    self._opens -= 1
                    return
                self._opens = 0
            for read in list(self._long_reads):
                read.end("was ended by closing the data directory")
            with self._idle:
                self._idle.wait_for(lambda: self._transactions == 0)
            for key in [key for key, value in _open_here.items() if value is self]:
                del _open_here[key]
            self._handle.close()


def _open_error(error: lmdb.Error, catalog: Path) -> RegionSearchError:
    text = str(error)
    if os.strerror(errno.EACCES) in text or os.strerror(errno.EROFS) in text:
        return ReadOnly(f"the catalog in '{catalog}' cannot be opened for writing: {text}")
    if os.strerror(errno.ENOMEM) in text:
        return FailedPrecondition(
            f"no address space for the map of '{catalog}' (a limit on virtual memory?): "
            "choose a smaller map_size"
        )
    return storage_error(error, catalog.parent)
