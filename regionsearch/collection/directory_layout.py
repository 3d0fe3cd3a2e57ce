"""The files of a data directory, and how one is created, recognised and refused.

DIR/regionsearch.json    marker: this is a data directory, and of which format
DIR/regionsearch.lock    the writer's lock
DIR/catalog/             LMDB: data.mdb, lock.mdb

The marker is written last, when the catalog is on disk with its own format number: without it, a
directory that holds nothing but the other two is one whose creation was cut short, and is completed.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

from regionsearch.collection.environment import Environment
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
_UNFINISHED_MARKER = MARKER + ".new"
_KIND = "RegionSearch data directory"
_FORMAT_KEY = b"format"
_EMPTY_CATALOG_BYTES = 2 * 65_536
"""LMDB begins a file with two pages, of 64 KiB at the largest."""


def open_directory(path: Path, *, writable: bool, map_size: int) -> tuple[Environment, WriterLock | None]:
    """The errors are those of `DataDirectory`."""
    try:
        return _open_to_write(path, map_size) if writable else _open_to_read(path, map_size)
    except OSError as error:
        raise _refusal(error, path) from error


def _open_to_write(path: Path, map_size: int) -> tuple[Environment, WriterLock]:
    if path.exists() and not path.is_dir():
        raise NotADataDirectory(f"'{path}' is not a directory")
    path.mkdir(parents=True, exist_ok=True)
    _refuse_strangers(path)
    lock = WriterLock(path / LOCK, "exclusive")
    try:
        _refuse_strangers(path)  # again, now that no other process is creating one here
        marked = (path / MARKER).exists()
        if marked:
            _check_marker(path)
            _check_catalog_is_there(path)
        else:
            _remove_unfinished_catalog(path)
            (path / CATALOG).mkdir(exist_ok=True)
        environment = Environment.open(path / CATALOG, writable=True, map_size=map_size, create=not marked)
        try:
            if marked:
                _check_format(environment, path)
            else:
                _complete(environment, path)
        except BaseException:
            environment.close()
            raise
    except BaseException:
        lock.release()
        raise
    return environment, lock


def _open_to_read(path: Path, map_size: int) -> tuple[Environment, WriterLock | None]:
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise NotADataDirectory(f"'{path}' {what}")
    _refuse_strangers(path)
    if not (path / MARKER).exists():
        raise NotADataDirectory(f"'{path}' is no data directory (yet): open it for writing to create one")
    _check_marker(path)
    _check_catalog_is_there(path)
    catalog = path / CATALOG
    # LMDB registers its readers in lock.mdb, so that a writer spares the pages they read.
    registers = _may_write(catalog / "lock.mdb" if (catalog / "lock.mdb").exists() else catalog)
    lock = None if registers else WriterLock(path / LOCK, "shared")
    try:
        environment = Environment.open(catalog, writable=False, map_size=map_size, lock=registers)
        try:
            _check_format(environment, path)
        except BaseException:
            environment.close()
            raise
    except BaseException:
        if lock is not None:
            lock.release()
        raise
    return environment, lock


def _refuse_strangers(path: Path) -> None:
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


def _check_marker(path: Path) -> None:
    try:
        marker = json.loads((path / MARKER).read_text("utf-8"))
    except ValueError as error:
        raise DataLoss(f"'{path / MARKER}' is damaged: {error}") from error
    if not isinstance(marker, dict) or marker.get("kind") != _KIND:
        raise NotADataDirectory(f"'{path / MARKER}' is not the marker of a data directory")
    if marker.get("format") != FORMAT:
        raise UnsupportedFormat(
            f"data directory '{path}' has format {marker.get('format')}; this version reads format {FORMAT}"
        )


def _check_catalog_is_there(path: Path) -> None:
    data = path / CATALOG / "data.mdb"
    if not data.is_file() or data.stat().st_size == 0:
        raise DataLoss(
            f"data directory '{path}' has lost its catalog ('{CATALOG}/data.mdb' is missing or empty); "
            "it is not started empty: restore it, or remove the directory"
        )


def _remove_unfinished_catalog(path: Path) -> None:
    """A crash while LMDB made its file can leave one without content, which it would refuse."""
    data = path / CATALOG / "data.mdb"
    if data.is_file() and data.stat().st_size <= _EMPTY_CATALOG_BYTES and not any(data.read_bytes()):
        data.unlink()


def _complete(environment: Environment, path: Path) -> None:
    with environment.transaction(write=True) as transaction:
        formats = environment.database("format")
        if transaction.get(_FORMAT_KEY, db=formats) is None:
            transaction.put(_FORMAT_KEY, str(FORMAT).encode(), db=formats)
    _check_format(environment, path)
    _sync_folder(path / CATALOG)
    unfinished = path / _UNFINISHED_MARKER
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump({"kind": _KIND, "format": FORMAT}, file)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path / MARKER)
    _sync_folder(path)
    _sync_folder(path.parent)


def _check_format(environment: Environment, path: Path) -> None:
    with environment.transaction() as transaction:
        value = transaction.get(_FORMAT_KEY, db=environment.database("format"))
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


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refusal(error: OSError, path: Path) -> FailedPrecondition | StorageFull:
    where = f"data directory '{path}'"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no space left for {where}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReadOnly(f"{where} cannot be opened: {error.strerror} ('{error.filename}')")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return NotADataDirectory(f"'{path}' lies below something that is not a directory")
    return FailedPrecondition(f"{where} cannot be opened: {error}")
