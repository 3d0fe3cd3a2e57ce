"""The files of a data directory, and how one is created, recognised and refused.

DIR/regionsearch.json    marker: this is a data directory, and of which format
DIR/regionsearch.lock    the writer's lock
DIR/regionsearch.stopped left by a writer that closed (integrity/clean_stop.py)
DIR/catalog/             LMDB: data.mdb, lock.mdb

The marker is written last, when the catalog is on disk with its own format number: without it, a
directory that holds nothing but the other two is one whose creation was cut short, and is completed.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from regionsearch.collection.environment import Environment
from regionsearch.collection.integrity.clean_stop import (
    remove_clean_stop,
    stopped_cleanly,
    write_clean_stop,
)
from regionsearch.collection.integrity.examination import examine_catalog
from regionsearch.collection.integrity.migration import FORMAT_KEY, MIGRATING, migrate
from regionsearch.collection.integrity.problems import Problem
from regionsearch.collection.on_disk import replace_by_json, sync
from regionsearch.collection.steps import reached
from regionsearch.collection.writer_lock import WriterLock
from regionsearch.errors import (
    DataLoss,
    FailedPrecondition,
    NotADataDirectory,
    ReadOnly,
    StorageFull,
    UnsupportedFormat,
)

FORMAT = 2
MARKER = "regionsearch.json"
LOCK = "regionsearch.lock"
CATALOG = "catalog"
DATA = "data.mdb"
_OLD_FORMAT = 1
_UNFINISHED_MARKER = MARKER + ".new"
_KIND = "RegionSearch data directory"
_EMPTY_CATALOG_BYTES = 2 * 65_536
"""LMDB begins a file with two pages, of 64 KiB at the largest."""
_NAMED_PROBLEMS = 3
_log = logging.getLogger(__name__)


def open_directory(
    path: Path, *, writable: bool, map_size: int, examine: bool = True
) -> tuple[Environment, WriterLock | None]:
    """examine: whether the catalog is examined first when its last writer did not close it; False for who has
    done so. The errors are those of `DataDirectory`."""
    try:
        opened = _open_to_write if writable else _open_to_read
        return opened(path, map_size, examine)
    except OSError as error:
        raise _refusal(error, path) from error


def _open_to_write(path: Path, map_size: int, examine: bool) -> tuple[Environment, WriterLock]:
    if path.exists() and not path.is_dir():
        raise NotADataDirectory(f"'{path}' is not a directory")
    path.mkdir(parents=True, exist_ok=True)
    refuse_strangers(path)
    lock = WriterLock(path / LOCK, "exclusive")
    try:
        refuse_strangers(path)  # again, now that no other process is creating one here
        marked = (path / MARKER).exists()
        found: tuple[Problem, ...] = ()
        old = False
        if marked:
            old = check_marker(path, writable=True) == _OLD_FORMAT
            _check_catalog_is_there(path)
            found = _examined(path) if examine else ()
        else:
            _remove_unfinished_catalog(path)
            (path / CATALOG).mkdir(exist_ok=True)
        create = old or not marked
        if create:
            remove_clean_stop(path)
        environment = Environment.open(path / CATALOG, writable=True, map_size=map_size, create=create)
        try:
            environment.damaged = found
            if marked and not old:
                _check_format(environment, path)
                remove_clean_stop(path)
            else:
                _complete(environment, path)
        except BaseException:
            environment.close()
            raise
    except BaseException:
        lock.release()
        raise
    return environment, lock


def _open_to_read(path: Path, map_size: int, examine: bool) -> tuple[Environment, WriterLock | None]:
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise NotADataDirectory(f"'{path}' {what}")
    refuse_strangers(path)
    if not (path / MARKER).exists():
        raise NotADataDirectory(f"'{path}' is no data directory (yet): open it for writing to create one")
    check_marker(path, writable=False)
    _check_catalog_is_there(path)
    found = _examined(path) if examine and not writer_is_at_work(path) else ()
    catalog = path / CATALOG
    # LMDB registers its readers in lock.mdb, so that a writer spares the pages they read.
    registers = _may_write(catalog / "lock.mdb" if (catalog / "lock.mdb").exists() else catalog)
    lock = None if registers else WriterLock(path / LOCK, "shared")
    try:
        environment = Environment.open(catalog, writable=False, map_size=map_size, lock=registers)
        try:
            environment.damaged = environment.damaged or found
            _check_format(environment, path)
        except BaseException:
            environment.close()
            raise
    except BaseException:
        if lock is not None:
            lock.release()
        raise
    return environment, lock


def close_directory(path: Path, environment: Environment, lock: WriterLock | None) -> None:
    """Closes what `open_directory` opened. A writer leaves word behind that it stopped in good order."""
    environment.close()
    if lock is None:
        return
    if lock.excludes_others:
        try:
            write_clean_stop(path, path / CATALOG / DATA)
        except (OSError, DataLoss) as error:
            _log.warning("'%s' will be examined when it is opened again: %s", path, error)
    lock.release()


def writer_is_at_work(path: Path) -> bool:
    """Whether a process holds the directory for writing, as far as its lock file tells: one on another host
    counts as living. Never takes the lock, which would refuse a writer that begins this moment."""
    try:
        holder = (path / LOCK).read_text("utf-8", "replace").split()
    except OSError:
        return False
    if len(holder) != 4 or not holder[1].isdigit():
        return False
    return holder[3] != socket.gethostname() or Path(f"/proc/{holder[1]}").exists()


def _examined(path: Path) -> tuple[Problem, ...]:
    """Damage that is no reason to refuse the directory; nothing is looked at after a clean stop.

    Raises DataLoss, naming what is wrong, what it costs and what to do.
    """
    data = path / CATALOG / DATA
    if stopped_cleanly(path, data):
        return ()
    problems = examine_catalog(data, thorough=False).problems
    stopping = [problem for problem in problems if problem.stops]
    if stopping:
        mended = all(problem.repair == "repair" for problem in stopping)
        raise DataLoss(
            f"data directory '{path}' was not closed by its last writer, and its catalog is damaged: "
            f"{_first(stopping)}. "
            + ("`regionsearch verify --repair` mends it" if mended else "Restore a snapshot")
            + "; `regionsearch verify` tells all that is wrong"
        )
    for problem in problems:
        _log.error("data directory '%s': %s", path, problem)
    return problems


def _first(problems: Sequence[Problem]) -> str:
    some = "; ".join(str(problem) for problem in problems[:_NAMED_PROBLEMS])
    return some + (f"; and {len(problems) - _NAMED_PROBLEMS} more" if len(problems) > _NAMED_PROBLEMS else "")


def refuse_strangers(path: Path) -> None:
    names = {entry.name for entry in path.iterdir()}
    if not names or MARKER in names:
        return
    if LOCK in names and names <= {LOCK, CATALOG, _UNFINISHED_MARKER}:
        return
    some = ", ".join(sorted(names)[:3])
    raise NotADataDirectory(
        f"'{path}' is not empty and no data directory (it holds {some}"
        f"{', …' if len(names) > 3 else ''}): nothing there was touched"
    )


def check_marker(path: Path, *, writable: bool) -> int:
    """The format that the marker names: this one, or, for writing, an older one."""
    try:
        marker = json.loads((path / MARKER).read_text("utf-8"))
    except ValueError as error:
        raise DataLoss(f"'{path / MARKER}' is damaged: {error}") from error
    if not isinstance(marker, dict) or marker.get("kind") != _KIND:
        raise NotADataDirectory(f"'{path / MARKER}' is not the marker of a data directory")
    if marker.get("format") == _OLD_FORMAT:
        if writable:
            return _OLD_FORMAT
        raise UnsupportedFormat(
            f"data directory '{path}' has format {_OLD_FORMAT}; this version reads format {FORMAT}: "
            "open it for writing once (`serve`, `index` and `verify --repair` do), which migrates it"
        )
    if marker.get("format") != FORMAT:
        raise UnsupportedFormat(
            f"data directory '{path}' has format {marker.get('format')}; this version reads format {FORMAT}"
        )
    return FORMAT


def _check_catalog_is_there(path: Path) -> None:
    data = path / CATALOG / DATA
    if not data.is_file() or data.stat().st_size == 0:
        raise DataLoss(
            f"data directory '{path}' has lost its catalog ('{CATALOG}/data.mdb' is missing or empty); "
            "it is not started empty: restore it, or remove the directory"
        )


def _remove_unfinished_catalog(path: Path) -> None:
    """A crash while LMDB made its file can leave one without content, which it would refuse."""
    data = path / CATALOG / DATA
    if data.is_file() and data.stat().st_size <= _EMPTY_CATALOG_BYTES and not any(data.read_bytes()):
        data.unlink()


def _complete(environment: Environment, path: Path) -> None:
    """Gives the catalog this format, whether it has none yet or an older one, and marks the directory."""
    with environment.transaction(write=True) as transaction:
        formats = environment.database("format")
        stored = transaction.get(FORMAT_KEY, db=formats)
        old = stored is not None and bytes(stored) in (str(_OLD_FORMAT).encode(), MIGRATING)
        if stored is None:
            transaction.put(FORMAT_KEY, str(FORMAT).encode(), db=formats)
    if old:
        migrate(environment)
    _check_format(environment, path)
    sync(path / CATALOG)
    write_marker(path, FORMAT)
    sync(path.parent)
    if old:
        reached("migrate: marked")


def write_marker(path: Path, number: int) -> None:
    """Says that the directory is one of ours, of this format. Raises OSError."""
    unfinished = path / _UNFINISHED_MARKER
    replace_by_json(path / MARKER, unfinished, {"kind": _KIND, "format": number})


def _check_format(environment: Environment, path: Path) -> None:
    with environment.transaction() as transaction:
        value = transaction.get(FORMAT_KEY, db=environment.database("format"))
        stored = None if value is None else bytes(value)
    if stored is None:
        raise DataLoss(f"the catalog of data directory '{path}' does not say its format: it is damaged")
    if stored != str(FORMAT).encode():
        raise UnsupportedFormat(
            f"the catalog of data directory '{path}' has format {stored.decode('ascii', 'replace')}; "
            f"this version reads format {FORMAT}"
        )


def _may_write(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK, effective_ids=True)


def _refusal(error: OSError, path: Path) -> FailedPrecondition | StorageFull:
    where = f"data directory '{path}'"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no space left for {where}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReadOnly(f"{where} cannot be opened: {error.strerror} ('{error.filename}')")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return NotADataDirectory(f"'{path}' lies below something that is not a directory")
    return FailedPrecondition(f"{where} cannot be opened: {error}")
