"""Whether a snapshot is what its manifest says, byte by byte and row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from regionsearch.collection.snapshots.going_on import Check, Going, Progress
from regionsearch.collection.snapshots.manifest import FileEntry, Manifest, SnapshotInfo
from regionsearch.collection.snapshots.row_files import placed, rows_of
from regionsearch.collection.snapshots.sources import (
    SnapshotSource,
    copy_verified,
    named,
    opened,
    problems_of_files,
    row_file,
)
from regionsearch.errors import DataLoss, RegionSearchError, SnapshotNotFound, UnsupportedFormat

_ANYWHERE = 1
"""A number of a collection, to see that rows can be bound to one."""


@dataclass(frozen=True, eq=False)
class SnapshotReport:
    """problems: one line each, none when it is sound. info: None when the manifest cannot be read."""

    ok: bool
    problems: tuple[str, ...]
    info: SnapshotInfo | None


def verify(path: Path, *, progress: Progress | None = None, check: Check | None = None) -> SnapshotReport:
    """Reads everything and says all that is wrong. Raises SnapshotNotFound, FailedPrecondition (it may not
    be read), Cancelled."""
    path = Path(path)
    problems: list[str] = []
    try:
        with opened(path) as (source, manifest):
            info = SnapshotInfo.of(path, manifest)
            going = Going(info.bytes, progress, check)
            problems += problems_of_files(source, manifest)
            there = [entry for entry in manifest.files if source.sizes.get(entry.name) == entry.size]
            rows: Counter[str] = Counter()
            for entry in there:
                problems += [error.message for error in _faults(source, entry, rows, going)]
            if not problems:
                problems += wrong_counts(manifest, rows)
            going.done()
    except (DataLoss, UnsupportedFormat) as error:
        return SnapshotReport(False, (error.message,), None)
    return SnapshotReport(not problems, tuple(problems), info)


def describe(path: Path) -> SnapshotInfo:
    """From its manifest alone. Raises SnapshotNotFound, DataLoss, UnsupportedFormat."""
    with opened(Path(path)) as (_, manifest):
        return SnapshotInfo.of(Path(path), manifest)


def find(folder: Path) -> list[SnapshotInfo]:
    """The snapshots that lie in a folder, in the order of their names; all else is passed over.

    Raises SnapshotNotFound when there is no such folder.
    """
    if not Path(folder).is_dir():
        raise SnapshotNotFound(f"'{folder}' is not a folder")
    infos = []
    for path in sorted(Path(folder).iterdir()):
        if path.name.endswith(".tar") or (path / "manifest.json").is_file():
            try:
                infos.append(describe(path))
            except RegionSearchError:
                continue  # a tar of something else, or a snapshot that `verify` has more to say about
    return infos


def require_sound(source: SnapshotSource, manifest: Manifest, going: Going) -> None:
    """Raises DataLoss with the first thing that is wrong."""
    problems = problems_of_files(source, manifest)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataLoss(f"{named(source.path)}: {problems[0]}{more}")
    rows: Counter[str] = Counter()
    for entry in manifest.files:
        for error in _faults(source, entry, rows, going):
            raise error
    for problem in wrong_counts(manifest, rows):
        raise DataLoss(f"{named(source.path)}: {problem}")


def wrong_counts(manifest: Manifest, rows: Counter[str]) -> list[str]:
    problems = [
        f"it has {rows[name]} rows of '{name}' and should have {manifest.rows.get(name, 0)}"
        for name in sorted({*rows, *manifest.rows})
        if rows[name] != manifest.rows.get(name, 0)
    ]
    images = manifest.counters.images
    problems += [
        f"it has {rows[name]} rows of '{name}' for {images} images"
        for name in ("ids", "records")
        if rows[name] != images
    ]
    return problems


def _faults(
    source: SnapshotSource, entry: FileEntry, rows: Counter[str], going: Going
) -> Iterator[RegionSearchError]:
    try:
        if entry.holds_rows:
            where = f"{named(source.path)}: '{entry.name}'"
            for database, key, value in rows_of(row_file(source, entry), where):
                placed(where, database, key, value, _ANYWHERE)
                rows[database] += 1
            going.on(entry.size)
        else:
            copy_verified(source, entry, lambda block: None, going.on)
            going.on(entry.size)
    except DataLoss as error:
        yield error
