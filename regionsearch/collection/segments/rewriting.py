"""One new segment out of what is searched now: fresh rows, or neighbouring segments less their dead rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.inner_products import load_faiss
from regionsearch.collection.records import IndexWish
from regionsearch.collection.segments.building import BuiltIndex, Pace, build_index, centroids_of
from regionsearch.collection.segments.entity_columns import EntityColumns
from regionsearch.collection.segments.fresh_rows import FreshPart
from regionsearch.collection.segments.manifest import SegmentRow
from regionsearch.collection.segments.record_vectors import RecordVectors
from regionsearch.collection.segments.rows_file import NAME, SegmentRows, write_rows
from regionsearch.collection.segments.segment import ENTITIES_FILE, IMAGES_FILE, SegmentPart
from regionsearch.collection.segments.segment_files import SegmentFiles
from regionsearch.collection.segments.vector_sources import FreshSource, RecordSource
from regionsearch.collection.segments.view import Arm, Part
from regionsearch.collection.steps import reached
from regionsearch.errors import StorageFull

Purpose = Literal["seal", "merge", "compact"]
_SHARE_OF_ENTITIES = 0.85
"""Of the time of a build: entities are some eight times as many as images."""
_FILES: tuple[tuple[Arm, str], ...] = (("entities", ENTITIES_FILE), ("images", IMAGES_FILE))
_log = logging.getLogger(__name__)


class RestingPace(Pace, Protocol):
    """How a build shares the machine, also while it reads records."""

    def rest(self) -> None:
        """Called every millisecond of work that holds the interpreter's lock. Raises Cancelled."""


def live_rows(parts: Sequence[Part]) -> SegmentRows:
    """Of all live images of the parts, which ascend."""
    numbers, counts, columns = [], [], []
    for part in parts:
        numbers.append(part.image_numbers[part.live])
        counts.append(np.diff(part.starts)[part.live])
        rows = np.flatnonzero(np.repeat(part.live, np.diff(part.starts)))
        columns.append(part.entities.rows(rows))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    return SegmentRows(np.concatenate(numbers), starts, EntityColumns.concatenated(columns))


def write_segment(
    files: SegmentFiles,
    number: int,
    covers: tuple[int, int],
    parts: Sequence[Part],
    records: RecordVectors,
    wish: IndexWish,
    pace: RestingPace,
    purpose: Purpose,
) -> SegmentRow | None:
    """Writes and syncs the files of segment `number` with the live images of the parts; None when none is
    left. What is returned is not published yet.

    covers: first and last image number. A single part in memory gives its vectors; others are read from
    their records. An image whose record is damaged is left out, with an error in the log.
    Raises what `pace` raises, and leaves nothing then.
    """
    rows = live_rows(parts)
    left_out: set[int] = set()
    while len(rows.image_numbers):
        built, damaged, sums = _written(files, number, parts, rows, records, wish, pace)
        if not damaged:
            reached(_step(purpose, "files written"))
            files.keep(number, pace.rest)
            reached(_step(purpose, "files synced"))
            counts = len(rows.image_numbers), len(rows.entities)
            parameters = built["entities"].parameters, built["images"].parameters
            return SegmentRow(number, *covers, *counts, sums, *parameters)
        left_out |= damaged
        rows = _without(rows, left_out)
    return None


def _written(
    files: SegmentFiles,
    number: int,
    parts: Sequence[Part],
    rows: SegmentRows,
    records: RecordVectors,
    wish: IndexWish,
    pace: RestingPace,
) -> tuple[dict[str, BuiltIndex], set[int], Any]:
    built: dict[str, BuiltIndex] = {}
    damaged: set[int] = set()
    in_memory = parts[0] if len(parts) == 1 and isinstance(parts[0], FreshPart) else None

    def build(folder: Path) -> None:
        write_rows(folder / NAME, rows)
        arm: Arm
        for arm, name in _FILES:
            source: FreshSource | RecordSource
            if in_memory is not None:
                source = FreshSource(in_memory, arm, in_memory.places(rows.image_numbers))
            else:
                counts = np.diff(rows.starts)
                source = RecordSource(records, arm, rows.image_numbers, counts, pace.rest)
            starts = [] if in_memory is not None else [_centroids(files, part, name) for part in parts]
            start = max((each for each in starts if each is not None), key=len, default=None)
            share = (0.0, _SHARE_OF_ENTITIES) if arm == "entities" else (_SHARE_OF_ENTITIES, 1.0)
            built[arm] = build_index(folder / name, source, wish, _Share(pace, share), start=start)
            pace.rest()
            _read_whole(folder / name)
            pace.rest()
            if isinstance(source, RecordSource) and source.damaged:
                for each, error in source.damaged.items():
                    _log.error("image number %d is left out of its index segment: %s", each, error.message)
                damaged.update(source.damaged)
                return

    return built, damaged, files.write(number, build)


def _centroids(files: SegmentFiles, part: Part, name: str) -> NDArray[np.float32] | None:
    """Those of a segment that is merged: the new one's are found sooner from there."""
    return centroids_of(files.folder(part.row.number) / name) if isinstance(part, SegmentPart) else None


def _read_whole(path: Path) -> None:
    """Reads an index once more: FAISS does not say when the last bytes of a file did not fit on the disk.
    Raises StorageFull."""
    faiss = load_faiss()
    try:
        faiss.read_index(str(path))
    except RuntimeError as error:
        raise StorageFull(f"'{path}' was cut while it was written: {error}") from error


def _without(rows: SegmentRows, numbers: set[int]) -> SegmentRows:
    live = ~np.isin(rows.image_numbers, sorted(numbers))
    return live_rows([Part(rows.image_numbers, rows.starts, live, rows.entities)])


def _step(purpose: Purpose, what: str) -> str:
    return f"{purpose}: {what}"


class _Share:
    """A part of a build's progress."""

    def __init__(self, pace: Pace, share: tuple[float, float]) -> None:
        self.threads: Callable[[], int] = pace.threads
        self._pace = pace
        self._share = share

    def breathe(self, done: float) -> None:
        first, last = self._share
        self._pace.breathe(first + (last - first) * done)
