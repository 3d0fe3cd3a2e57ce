"""`repair`: rebuilds all that is derived, and takes damaged images out when that is asked for."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lmdb

from regionsearch.collection.catalog import PER_COLLECTION, CollectionRows
from regionsearch.collection.data_directory import DataDirectory
from regionsearch.collection.directory_layout import (
    CATALOG,
    DATA,
    LOCK,
    MARKER,
    close_directory,
    open_directory,
    write_marker,
)
from regionsearch.collection.environment import DEFAULT_MAP_SIZE, SUB_DATABASES, Environment
from regionsearch.collection.fields.field_rows import FieldRows
from regionsearch.collection.integrity.clean_stop import remove_clean_stop
from regionsearch.collection.integrity.derived_checks import DerivedChecks
from regionsearch.collection.integrity.examination import Examination, examine_catalog
from regionsearch.collection.integrity.image_names import with_image_ids
from regionsearch.collection.integrity.problems import Problem
from regionsearch.collection.integrity.row_mending import Change, apply_changes, mend_rows, rows_with
from regionsearch.collection.integrity.verification import (
    Progress,
    VerifyReport,
    check_outside,
    verify,
    wasted_pages,
)
from regionsearch.collection.on_disk import sync
from regionsearch.collection.records import IndexedField
from regionsearch.collection.row_seals import is_sealed, seal_value
from regionsearch.collection.segment_folders import segment_folder
from regionsearch.collection.segments.upkeep_settings import UpkeepSettings
from regionsearch.collection.spec_rows import spec_from_json, stored_names, stored_spec
from regionsearch.collection.writer_lock import WriterLock
from regionsearch.errors import DataLoss

_COLLECTION = struct.Struct(">I")
_PREFIX_BYTES = 4
_NEXT_COLLECTION = b"next_collection"
_NEW = "new"
_COPIED_ROWS = 2_000


def repair(
    path: Path,
    *,
    drop_damaged: bool = False,
    progress: Progress | None = None,
    check: Callable[[], None] | None = None,
) -> VerifyReport:
    """Mends what `verify` calls `repair`, and with `drop_damaged` what it calls `drop`: then images whose
    record is damaged are deleted, and damaged kept pictures. What only a snapshot brings back is left as it
    is, and so is a directory that cannot be opened without it. No process may have it open.

    Returns what `verify` finds afterwards, and what was mended. Raises DataDirectoryInUse while another
    process writes to it, NotADataDirectory, UnsupportedFormat, ReadOnly, StorageFull.
    """
    path = Path(path)
    report = progress or (lambda _: None)
    stop_when = check or (lambda: None)
    lock = WriterLock(path / LOCK, "exclusive") if (path / LOCK).exists() else None
    try:
        found = check_outside(path)
        if any(problem.blocks for problem in found):
            return VerifyReport(tuple(found))
        examined = examine_catalog(
            path / CATALOG / DATA, thorough=True, progress=lambda done: report(done / 4), check=stop_when
        )
        found += [*examined.problems, *wasted_pages(examined)]
        if any(problem.blocks for problem in examined.problems):
            return VerifyReport(tuple(found), examined.images)
        _mend_files(path, examined)
    finally:
        if lock is not None:
            lock.release()
    environment, held = open_directory(path, writable=True, map_size=DEFAULT_MAP_SIZE, examine=False)
    try:
        found = with_image_ids(environment, found)
        found += _mend_catalog(path, environment, examined, drop_damaged, stop_when)
    finally:
        close_directory(path, environment, held)
    after = verify(path, progress=lambda done: report(0.5 + done / 4), check=check)
    if _rebuild_segments(path, after, check):
        after = verify(path, progress=lambda done: report(0.75 + done / 4), check=check)
    report(1.0)
    mended = tuple(problem for problem in dict.fromkeys(found) if problem not in after.problems)
    return VerifyReport(after.problems, after.images, after.fill, mended)


def _mend_files(path: Path, examined: Examination) -> None:
    """What must be in order before LMDB opens the catalog for writing."""
    shutil.rmtree(path / CATALOG / _NEW, ignore_errors=True)
    if examined.lost_pages or any(problem.stops for problem in examined.problems if _is_of_pages(problem)):
        _copy_rows(path / CATALOG)
    try:
        marked = not any(problem.where == MARKER for problem in check_outside(path))
    except DataLoss:
        marked = False
    if not marked:
        write_marker(path, int(examined.format[:1] or 0))
    remove_clean_stop(path)


def _is_of_pages(problem: Problem) -> bool:
    return problem.where == f"{CATALOG}/{DATA}"


def _copy_rows(catalog: Path) -> None:
    """Writes all rows into a new file, without the list of free pages, which takes the place of the old."""
    new = catalog / _NEW
    new.mkdir()
    with (
        lmdb.open(
            os.fspath(catalog),
            readonly=True,
            lock=False,
            max_dbs=len(SUB_DATABASES),
            map_size=DEFAULT_MAP_SIZE,
        ) as old,
        lmdb.open(
            os.fspath(new),
            lock=False,
            max_dbs=len(SUB_DATABASES),
            map_size=DEFAULT_MAP_SIZE,
            sync=False,
        ) as copy,
    ):
        for name in SUB_DATABASES:
            source, target = old.open_db(name.encode(), create=False), copy.open_db(name.encode())
            with old.begin(buffers=True) as reading, reading.cursor(db=source) as cursor:
                found = cursor.first()
                while found:
                    with copy.begin(write=True) as writing:
                        for _ in range(_COPIED_ROWS):
                            writing.put(cursor.key(), cursor.value(), db=target, append=True)
                            found = cursor.next()
                            if not found:
                                break
        copy.sync(True)
    (new / DATA).replace(catalog / DATA)
    new.rmdir()
    sync(catalog)


def _mend_catalog(
    path: Path,
    environment: Environment,
    examined: Examination,
    drop_damaged: bool,
    check: Callable[[], None],
) -> list[Problem]:
    """Mends rows, then what is derived from the records. Returns the problems that the latter had."""
    with environment.transaction() as transaction:
        collections = {}
        for name in stored_names(environment, transaction):
            stored = stored_spec(environment, transaction, name)
            if stored is not None:
                collections[name] = spec_from_json(stored)
    if examined.problems:
        _mend_small_rows(environment, [number for _, number in collections.values()], check)
        for name, (_, number) in collections.items():
            rows = CollectionRows(environment, name, number)
            mend_rows(environment, rows, drop_damaged=drop_damaged, check=check)
    derived = DerivedChecks(path, environment, thorough=True, beside_writer=False)
    derived.run(lambda _: None, check)
    for name, (spec, number) in collections.items():
        of_this = [problem for problem in derived.problems if problem.where.endswith(f"collection '{name}'")]
        if any(problem.where.startswith("field") for problem in of_this):
            rows = CollectionRows(environment, name, number)
            _rebuild_fields(environment, rows, spec.indexed_fields, check)
    _remove_segment_files(path, derived)
    return derived.problems


def _mend_small_rows(environment: Environment, numbers: Sequence[int], check: Callable[[], None]) -> None:
    """Rows that belong to no image: damaged ones are made again where their key says all, or deleted."""
    changes: list[Change] = []
    with environment.transaction() as transaction:
        for key, value in rows_with(transaction, environment, "dropped", b""):
            if not is_sealed("dropped", key, value):
                changes.append(("dropped", key, seal_value("dropped", key, b"")))
        for database in ("aliases", "backgrounds"):
            for key, value in rows_with(transaction, environment, database, b""):
                if not is_sealed(database, key, value):
                    changes.append((database, key, None))
        for database in ("idempotency", "fields", "segments"):
            for number in numbers:
                changes += _all_or_nothing(transaction, environment, database, _COLLECTION.pack(number))
        highest = max([0, *numbers])
        dropped = {key for key, _ in rows_with(transaction, environment, "dropped", b"")}
        for database in PER_COLLECTION:
            for key, _ in rows_with(transaction, environment, database, b""):
                prefix = key[:_PREFIX_BYTES]
                number = _COLLECTION.unpack(prefix)[0]
                highest = max(highest, number)
                if number not in numbers and prefix not in dropped:
                    dropped.add(prefix)
                    changes.append(("dropped", prefix, seal_value("dropped", prefix, b"")))
        stored = transaction.get(_NEXT_COLLECTION, db=environment.database("format"))
        if stored is None or not is_sealed("format", _NEXT_COLLECTION, stored):
            following = seal_value("format", _NEXT_COLLECTION, str(highest + 1).encode())
            changes.append(("format", _NEXT_COLLECTION, following))
    apply_changes(environment, changes, check)


def _all_or_nothing(transaction: Any, environment: Environment, database: str, prefix: bytes) -> list[Change]:
    """Deletes all rows of a collection in a sub-database when one is damaged: they count on each other."""
    rows = [
        (key, is_sealed(database, key, value))
        for key, value in rows_with(transaction, environment, database, prefix)
    ]
    if all(sealed for _, sealed in rows):
        return []
    # The number of a collection's next segment goes on, so that no folder is taken for another's.
    kept = {key for key, sealed in rows if database == "segments" and key == prefix and sealed}
    return [(database, key, None) for key, _ in rows if key not in kept]


def _rebuild_fields(
    environment: Environment,
    rows: CollectionRows,
    fields: Sequence[IndexedField],
    check: Callable[[], None],
) -> None:
    """Deletes the columns of a collection and builds them from its records."""
    prefix = _COLLECTION.pack(rows.number)
    with environment.transaction() as transaction:
        stale: list[Change] = [
            ("fields", key, None) for key, _ in rows_with(transaction, environment, "fields", prefix)
        ]
    apply_changes(environment, stale, check)
    field_rows = FieldRows(environment, rows)
    with environment.transaction(write=True) as transaction:
        field_rows.declare(transaction, fields)
    left = True
    while left:
        check()
        with environment.transaction(write=True) as transaction:
            left = field_rows.advance(transaction)[0] is not None


def _rebuild_segments(path: Path, report: VerifyReport, check: Callable[[], None] | None) -> bool:
    """Builds the index segments whose files are not there from their records. Returns whether there were any
    that could be."""
    if any(problem.stops for problem in report.problems):
        return False
    places = [problem.where for problem in report.problems if problem.where.startswith("index segment")]
    if not places:
        return False
    with DataDirectory(path, "write", upkeep=UpkeepSettings(background=False)) as directory:
        for name in directory.collection_names():
            if any(place.endswith(f"of collection '{name}'") for place in places):
                directory.collection(name).compact(merge=False, check=check)
    return True


def _remove_segment_files(path: Path, derived: DerivedChecks) -> None:
    """Of segments that are not as their records say, which are built again from those, and of none."""
    for number, segment in derived.bad_segments:
        shutil.rmtree(segment_folder(path, number) / str(segment), ignore_errors=True)
    for leftover in derived.leftovers:
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
