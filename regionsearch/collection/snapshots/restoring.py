"""A collection made of a snapshot: invisible until all of it is on disk, then named in one transaction."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regionsearch.collection.aliases import aliased
from regionsearch.collection.catalog import CollectionRows, mark_dropped, unmark_dropped
from regionsearch.collection.collection import Collection
from regionsearch.collection.data_directory import DataDirectory
from regionsearch.collection.on_disk import sync
from regionsearch.collection.records import CollectionSpec
from regionsearch.collection.segment_folders import segment_folder
from regionsearch.collection.snapshots.going_on import Check, Going, Progress
from regionsearch.collection.snapshots.manifest import FileEntry, Manifest, segment_of
from regionsearch.collection.snapshots.row_files import placed, rows_of
from regionsearch.collection.snapshots.sources import SnapshotSource, copy_verified, named, opened, row_file
from regionsearch.collection.snapshots.verifying import require_sound
from regionsearch.collection.spec_rows import put_spec, spec_from_json, stored_spec, take_number
from regionsearch.collection.steps import reached
from regionsearch.collection.validation import check_spec
from regionsearch.errors import (
    CollectionExists,
    DataLoss,
    FailedPrecondition,
    RegionSearchError,
    StorageFull,
)

_BATCH_BYTES = 4 << 20
"""Written in one transaction, so that writes to other collections wait for no more than that."""
_log = logging.getLogger(__name__)


def restore(
    directory: DataDirectory,
    source: Path,
    *,
    name: str = "",
    replace: bool = False,
    progress: Progress | None = None,
    check: Check | None = None,
) -> Collection:
    """Makes a collection of a snapshot, with its versions, times and image numbers, while others are used.

    source: a folder or a tar that `create` wrote. name: of the collection; "" as it was called. replace: a
    collection of this name gives way to it in one step, and is then freed.
    Everything is verified before the first row is written, and again as it is read for that. Until the
    collection has its name its rows count as those of a dropped one: after an error, a cancellation or a
    crash they are freed, at the latest by the next open.

    Raises SnapshotNotFound, DataLoss, UnsupportedFormat, CollectionExists, InvalidRequest (the name),
    Cancelled, StorageFull, ReadOnly.
    """
    directory.writing()
    with opened(Path(source)) as (snapshot, manifest):
        spec = dataclasses.replace(manifest.spec, name=name or manifest.spec.name)
        check_spec(spec)
        check_name(directory, spec.name, replace=replace)
        going = Going(2 * sum(entry.size for entry in manifest.files), progress, check)
        reached("restore: source opened")
        require_sound(snapshot, manifest, going)
        reached("restore: verified")
        number = _begin(directory)
        try:
            for rows in _batches(snapshot, manifest, number, going):
                _put(directory, rows)
            reached("restore: rows copied")
            _copy_files(directory, snapshot, manifest, number, going)
            reached("restore: files copied")
            going.on()
            old = _publish(directory, spec, manifest, number, replace=replace)
        except BaseException:
            _undo(directory, number)
            raise
    directory.unpublished.discard(number)
    reached("restore: published")
    if old is not None:
        directory.forget(spec.name, old)
        directory.finish_drops()
    going.done()
    return directory.collection(spec.name)


def check_name(directory: DataDirectory, name: str, *, replace: bool) -> None:
    """Raises CollectionExists when nothing could be restored under this name as things are now."""
    with directory.environment.transaction() as transaction:
        _replaced(directory, transaction, name, replace=replace)


def _replaced(directory: DataDirectory, transaction: Any, name: str, *, replace: bool) -> int | None:
    """The number of the collection that has the name now. Raises CollectionExists unless it may give way."""
    stored = stored_spec(directory.environment, transaction, name)
    leads_to = aliased(directory.environment, transaction, name)
    if leads_to is not None:
        raise CollectionExists(
            f"'{name}' is an alias of collection '{leads_to}': restore under another name, then switch the "
            "alias"
        )
    if stored is None:
        return None
    if not replace:
        raise CollectionExists(
            f"collection '{name}' exists already: give another name, or say that it is to be replaced "
            "(`--replace` on the command line)"
        )
    return spec_from_json(stored)[1]


def _begin(directory: DataDirectory) -> int:
    """A number whose rows count as dropped from now on."""

    def apply(transaction: Any) -> tuple[int, None]:
        number = take_number(directory.environment, transaction)
        mark_dropped(directory.environment, transaction, number)
        directory.unpublished.add(number)
        return number, None

    return int(directory.writing().submit(apply))


def _batches(
    snapshot: SnapshotSource, manifest: Manifest, number: int, going: Going
) -> Iterator[list[tuple[str, bytes, bytes]]]:
    """(sub-database, key, value) of the new collection's rows, some megabytes at a time."""
    for entry in manifest.files:
        if not entry.holds_rows:
            continue
        batch: list[tuple[str, bytes, bytes]] = []
        size = 0
        where = f"{named(snapshot.path)}: '{entry.name}'"
        for database, key, value in rows_of(row_file(snapshot, entry), where):
            new_key, new_value = placed(where, database, key, value, number)
            batch.append((database, new_key, new_value))
            size += len(new_value)
            if size >= _BATCH_BYTES:
                yield batch
                going.on(size)
                batch, size = [], 0
        if batch:
            yield batch
            going.on(size)


def _put(directory: DataDirectory, rows: list[tuple[str, bytes, bytes]]) -> None:
    environment = directory.environment
    size = sum(len(value) for _, _, value in rows)

    def apply(transaction: Any) -> tuple[None, None]:
        for database, key, value in rows:
            if not transaction.put(key, value, overwrite=False, db=environment.database(database)):
                raise _TwiceError(f"the snapshot has the row {key.hex()} of '{database}' twice")
        environment.keep_room(transaction, size, len(rows))
        return None, None

    try:
        directory.writing().submit(apply, size)
    except _TwiceError as error:
        raise DataLoss(str(error)) from error


class _TwiceError(Exception):
    """Not an error of ours: the transaction, which has changes already, must not be committed."""


def _copy_files(
    directory: DataDirectory, snapshot: SnapshotSource, manifest: Manifest, number: int, going: Going
) -> None:
    folder = segment_folder(directory.path, number)
    try:
        for entry in manifest.files:
            if not entry.holds_rows:
                _copy_file(folder, snapshot, entry, going)
        if folder.exists():
            for each in (*folder.iterdir(), folder, folder.parent, directory.path):
                sync(each)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull(f"no space left for data directory '{directory.path}'") from error
        raise FailedPrecondition(f"{named(snapshot.path)} cannot be restored: {error}") from error


def _copy_file(folder: Path, snapshot: SnapshotSource, entry: FileEntry, going: Going) -> None:
    segment, file_name = segment_of(entry.name)
    path = folder / str(segment) / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        copy_verified(snapshot, entry, file.write, going.on)
        file.flush()
        os.fsync(file.fileno())
    going.on(entry.size)


def _publish(
    directory: DataDirectory, spec: CollectionSpec, manifest: Manifest, number: int, *, replace: bool
) -> int | None:
    environment = directory.environment

    def apply(transaction: Any) -> tuple[int | None, None]:
        old = _replaced(directory, transaction, spec.name, replace=replace)
        if old is not None:
            mark_dropped(environment, transaction, old)
        unmark_dropped(environment, transaction, number)
        CollectionRows(environment, spec.name, number).put_counters(transaction, manifest.counters)
        put_spec(environment, transaction, spec, number)
        return old, None

    old: int | None = directory.writing().submit(apply)
    return old


def _undo(directory: DataDirectory, number: int) -> None:
    """Frees what was written; what hinders that is made good by the next open for writing."""
    directory.unpublished.discard(number)
    try:
        directory.finish_drops()
    except RegionSearchError as error:
        _log.warning("what was restored in vain is freed by the next open for writing: %s", error.message)
