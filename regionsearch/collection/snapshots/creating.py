"""A snapshot of one collection of a live directory: what it held at one moment, while writes go on."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from regionsearch.collection.catalog import CollectionRows, Counters
from regionsearch.collection.data_directory import DataDirectory
from regionsearch.collection.records import CollectionSpec
from regionsearch.collection.segment_folders import segment_folder
from regionsearch.collection.segments.manifest import Manifest
from regionsearch.collection.snapshots import manifest as described
from regionsearch.collection.snapshots.destinations import SnapshotWriter, writing
from regionsearch.collection.snapshots.going_on import Check, Going, Progress
from regionsearch.collection.snapshots.manifest import FileEntry, SnapshotInfo
from regionsearch.collection.snapshots.row_files import RowFile, collection_rows
from regionsearch.collection.spec_rows import spec_from_json, stored_spec
from regionsearch.collection.steps import reached
from regionsearch.collection.unfinished_snapshots import noted
from regionsearch.errors import CollectionNotFound, InvalidRequest

_ROWS_BETWEEN_CHECKS = 256


def create(
    directory: DataDirectory,
    name: str,
    destination: Path,
    *,
    progress: Progress | None = None,
    check: Check | None = None,
) -> SnapshotInfo:
    """Writes what the collection (or the one an alias leads to) holds at this moment.

    destination: a folder to be made or, when its name ends in `.tar`, a tar. It is written beside, as
    DESTINATION.partial, and renamed when all of it is on disk; a cancelled or failed one leaves nothing. The
    directory may be open for reading, beside a writer. LMDB spares the pages of that moment meanwhile, so
    its file grows by what is written until the rows are copied.

    Raises CollectionNotFound, SnapshotExists, InvalidRequest, Cancelled, DataLoss (a damaged row, named),
    StorageFull, ReadOnly, FailedPrecondition.
    """
    collection = directory.collection(name)
    path = Path(destination)
    _refuse_inside(directory, path)
    with noted(directory.environment, path), writing(path) as writer, ExitStack() as held:
        with directory.environment.transaction() as transaction:
            spec, counters = _at_this_moment(directory, transaction, collection.spec.name, collection.number)
            files = _open_segment_files(directory, transaction, collection.number, held)
            sizes = sum(os.fstat(file.fileno()).st_size for _, _, file in files)
            going = Going(counters.stored_bytes + sizes, progress, check)
            going.on()
            entries, rows = _copy_rows(directory, transaction, collection.number, writer, going)
        reached("snapshot: rows copied")
        for file_name, source, file in files:
            entry = writer.add_file(file_name, source, file, going.on)
            entries.append(entry)
            going.on(entry.size)
        reached("snapshot: files copied")
        manifest = described.Manifest(spec, counters, time.time_ns() // 1_000, rows, tuple(entries))
        writer.synchronise(manifest.to_bytes())
        reached("snapshot: synced")
        going.on()
        writer.publish(replace=False)
    reached("snapshot: renamed")
    going.done()
    return SnapshotInfo.of(path, manifest)


def _refuse_inside(directory: DataDirectory, path: Path) -> None:
    """What is no part of a data directory is swept out of some of its folders, and is lost with it."""
    if path.resolve().is_relative_to(directory.path.resolve()):
        raise InvalidRequest(
            f"'{path}' lies inside the data directory '{directory.path}': take snapshots outside of it",
            field="destination",
        )


def _at_this_moment(
    directory: DataDirectory, transaction: Any, name: str, number: int
) -> tuple[CollectionSpec, Counters]:
    stored = stored_spec(directory.environment, transaction, name)
    if stored is None or spec_from_json(stored)[1] != number:
        raise CollectionNotFound(f"collection '{name}' was dropped")
    rows = CollectionRows(directory.environment, name, number)
    return spec_from_json(stored)[0], rows.counters(transaction)


def _open_segment_files(
    directory: DataDirectory, transaction: Any, number: int, held: ExitStack
) -> list[tuple[str, Path, BinaryIO]]:
    """(name in the snapshot, path, file) of all files of the segments of this moment.

    Whoever merges may remove them, but not from under an open file. One that went before it was opened is
    left out: what is derived is made again after a restore.
    """
    folder = segment_folder(directory.path, number)
    files: list[tuple[str, Path, BinaryIO]] = []
    for segment in Manifest(directory.environment, number).segments(transaction):
        for each in segment.files:
            name = f"segments/{segment.number}/{each.name}"
            path = folder / str(segment.number) / each.name
            with contextlib.suppress(FileNotFoundError):
                files.append((name, path, held.enter_context(path.open("rb"))))
    return files


def _copy_rows(
    directory: DataDirectory, transaction: Any, number: int, writer: SnapshotWriter, going: Going
) -> tuple[list[FileEntry], Counter[str]]:
    entries: list[FileEntry] = []
    rows: Counter[str] = Counter()
    file = RowFile()

    def write() -> None:
        entry = writer.add_bytes(f"rows/{len(entries) + 1:05}.rows", file.take())
        entries.append(entry)

    since = waiting = 0
    for database, key, value in collection_rows(directory.environment, transaction, number):
        file.add(database, key, value)
        rows[database] += 1
        since += len(value)
        waiting += 1
        if waiting >= _ROWS_BETWEEN_CHECKS or file.full:
            going.on(since)
            since = waiting = 0
        if file.full:
            write()
    if not file.empty:
        write()
    return entries, rows
