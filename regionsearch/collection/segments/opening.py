"""The segments that a manifest lists, opened; those that cannot be are searched in their records."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from regionsearch.collection.segments.entity_columns import EntityColumns
from regionsearch.collection.segments.manifest import SegmentRow
from regionsearch.collection.segments.record_vectors import RecordVectors
from regionsearch.collection.segments.scanned_part import ScannedPart
from regionsearch.collection.segments.segment import SegmentPart
from regionsearch.collection.segments.segment_files import SegmentFiles
from regionsearch.errors import DataLoss

IndexedPart = SegmentPart | ScannedPart
_log = logging.getLogger(__name__)


class SegmentsMovedError(Exception):
    """A file has gone because its segment is not listed any more: the manifest is to be read again."""


def open_segments(
    rows: Sequence[SegmentRow],
    known: Mapping[int, IndexedPart],
    files: SegmentFiles,
    records: RecordVectors,
    is_listed: Callable[[int], bool],
) -> list[IndexedPart]:
    """In the order of `rows`; those that are `known` by their number are taken over as they are, others have
    all their rows alive. A damaged one is named in the log. Raises SegmentsMovedError."""
    parts: list[IndexedPart] = []
    for row in rows:
        part = known.get(row.number)
        if part is None:
            try:
                part = SegmentPart.open(files.folder(row.number), row)
            except (DataLoss, FileNotFoundError, RuntimeError) as error:  # FAISS: RuntimeError
                # Files of a segment that was merged away go one by one, at any moment.
                if not is_listed(row.number):
                    raise SegmentsMovedError from error
                what = _what_is_wrong(error)
                _log.error(
                    "collection '%s': index segment %d is damaged (%s); its images are searched in their "
                    "records until it is rebuilt",
                    records.name,
                    row.number,
                    what,
                )
                part = scanned(row, records)
        parts.append(part)
    return parts


def _what_is_wrong(error: Exception) -> str:
    if isinstance(error, DataLoss):
        return error.message
    return f"'{error.filename}' is missing" if isinstance(error, FileNotFoundError) else str(error)


def scanned(row: SegmentRow, records: RecordVectors) -> ScannedPart:
    """The images that a segment covers, as their records are now; damaged ones are left out."""
    numbers, counts, columns = [], [0], []
    for number, count, column in records.columns(row.first, row.last):
        numbers.append(number)
        counts.append(count)
        columns.append(column)
    return ScannedPart(
        np.array(numbers, np.int64),
        np.cumsum(counts, dtype=np.int64),
        np.ones(len(numbers), bool),
        EntityColumns.concatenated(columns) if columns else EntityColumns.empty(),
        row,
        records,
    )
