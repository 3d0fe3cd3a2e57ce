"""Loads what searches see of a collection, and follows what another process writes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.environment import Environment
from regionsearch.collection.fields.field_columns import FieldColumns
from regionsearch.collection.fields.field_rows import FieldRows
from regionsearch.collection.record_layout import vectors_of, verify
from regionsearch.collection.segments.entity_columns import EntityColumns
from regionsearch.collection.segments.fresh_rows import FreshPart, FreshRows
from regionsearch.collection.segments.manifest import Manifest, SegmentRow
from regionsearch.collection.segments.opening import IndexedPart, SegmentsMovedError, open_segments, scanned
from regionsearch.collection.segments.record_columns import entity_columns
from regionsearch.collection.segments.record_vectors import RecordVectors
from regionsearch.collection.segments.segment import SegmentPart
from regionsearch.collection.segments.segment_files import SegmentFiles
from regionsearch.collection.segments.view import View
from regionsearch.errors import DataLoss

_BATCH_IMAGES = 256
"""Images whose vectors are gathered before they go into the fresh rows: some 20 MB at 33 × 640."""
NOT_LISTED = -1
"""This number and those below it are of rows that are searched like a segment's but have none yet."""
UNSEALED_BYTES = 1 << 30
"""Of vectors that no segment has: more are not read into memory when a collection is loaded."""
UNSEALED_ROWS_A_SEGMENT = 1_000_000
_NOTHING: NDArray[np.int64] = np.empty(0, np.int64)
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class LoadedParts:
    """segments: ascending. frozen: fresh rows that are being sealed. fresh: those after them. segments_at:
    the manifest's next number. last_number: of images, how far all this has come. damaged: numbers of images
    that are left out because their record fails its checksum. view: all of it, as searches see it."""

    segments: list[IndexedPart]
    fresh: FreshRows
    segments_at: int
    last_number: int
    damaged: set[int]
    view: View
    frozen: FreshPart | None = None

    def change(
        self,
        buried: NDArray[np.int64],
        added: Sequence[tuple[int, NDArray[np.float32]]] = (),
        columns: Sequence[EntityColumns] = (),
    ) -> None:
        """Images die wherever they are; others, as of `FreshRows.replace`, are added to the fresh rows."""
        if len(buried):
            self.segments = [part.without(buried) for part in self.segments]
            if self.frozen is not None:
                self.frozen = self.frozen.without(buried)
        self.fresh.replace(buried, added, columns)

    def show(self, generation: int, fields: FieldColumns, records: RecordVectors) -> None:
        """Publishes the view of what is here now."""
        frozen = () if self.frozen is None else (self.frozen,)
        self.view = View((*self.segments, *frozen, self.fresh.part), generation, records, fields)


class ViewLoader:
    """Of one collection.

    The images that index segments cover come from their files, the others are read from their records. Image
    numbers only grow, so what is new are the last ones; only when images are fewer than that explains are all
    keys read, to find those that are gone.
    """

    def __init__(
        self,
        environment: Environment,
        rows: CollectionRows,
        manifest: Manifest,
        files: SegmentFiles,
        records: RecordVectors,
    ) -> None:
        self._environment = environment
        self._rows = rows
        self._manifest = manifest
        self._files = files
        self._records = records
        self._field_rows = FieldRows(environment, rows)

    def followed(self, known: LoadedParts | None) -> LoadedParts:
        """The state of now, with what can be kept of a known one."""
        parts = {} if known is None else {part.row.number: part for part in known.segments}
        while True:
            with self._environment.transaction() as transaction:
                rows = self._manifest.segments(transaction)
                at = self._manifest.next_number(transaction)
            if known is not None and known.segments_at == at:
                segments = known.segments
            else:
                try:
                    segments = open_segments(rows, parts, self._files, self._records, self._is_listed)
                except SegmentsMovedError:
                    continue
                parts = {part.row.number: part for part in segments}
            with self._environment.transaction() as transaction:
                if self._manifest.next_number(transaction) == at:
                    return self._caught_up(known, segments, at, transaction)

    def leave_out(self, state: LoadedParts, damaged: Mapping[int, DataLoss]) -> None:
        """Shows the state without those of these images that live in it. Each is named in the log."""
        numbers = np.intersect1d(np.array(list(damaged), np.int64), state.view.live_numbers())
        if not len(numbers):
            return
        for number in numbers.tolist():
            self._left_out(number, damaged[number], state.damaged)
        state.change(numbers)
        state.show(state.view.generation, state.view.fields, self._records)

    def _is_listed(self, number: int) -> bool:
        with self._environment.transaction() as transaction:
            return number in {row.number for row in self._manifest.segments(transaction)}

    def _caught_up(
        self, known: LoadedParts | None, segments: list[IndexedPart], at: int, transaction: Any
    ) -> LoadedParts:
        counters = self._rows.counters(transaction)
        sealed = max((part.row.last for part in segments), default=0)
        if known is None:
            segments = [*segments, *self._left_on_disk(segments, sealed, transaction)]
            sealed = max((part.row.last for part in segments), default=0)
            fresh = FreshRows(self._records.dimension)
            state = LoadedParts(segments, fresh, at, sealed, set(), View((), -1))
            state.show(-1, FieldColumns(), self._records)
        else:
            state = known
            # A segment that was built from memory has images whose records were damaged meanwhile.
            damaged = np.array(sorted(state.damaged), np.int64)
            state.segments, state.segments_at = [part.without(damaged) for part in segments], at
            state.fresh.drop_until(sealed)
            state.last_number = max(state.last_number, sealed)
            state.show(state.view.generation, state.view.fields, self._records)
        first = state.last_number + 1
        coming = sum(1 for _ in self._rows.numbers(transaction, first))
        gone = _NOTHING
        if state.view.images + len(state.damaged) + coming != counters.images:
            live = np.fromiter(self._rows.numbers(transaction), np.int64)
            seen = np.concatenate([state.view.live_numbers(), np.array(sorted(state.damaged), np.int64)])
            gone = np.setdiff1d(seen, live)
            state.segments = [part.without(gone) for part in state.segments]
            self._take_in(state, np.setdiff1d(live[live < first], seen), transaction)
        batch: list[tuple[int, NDArray[np.float32]]] = []
        columns: list[EntityColumns] = []
        for number, vectors, column in self._verified(transaction, first, state.damaged):
            batch.append((number, vectors))
            columns.append(column)
            if len(batch) == _BATCH_IMAGES:
                state.fresh.replace(_NOTHING, batch, columns)
                batch, columns = [], []
        state.fresh.replace(gone, batch, columns)
        state.damaged.difference_update(gone.tolist())
        state.last_number = max(state.last_number, counters.next_number - 1)
        # Once, at the end, so that a replaced image is never missing, nor there twice.
        fields = self._field_rows.load_or_rebuild(transaction, state.view.fields)
        state.show(counters.generation, fields, self._records)
        return state

    def _left_on_disk(
        self, segments: Sequence[IndexedPart], sealed: int, transaction: Any
    ) -> list[IndexedPart]:
        """Rows that no segment has, when they are too many for memory (a collection of an older version, or
        one whose segments were given up): searched in their records until they are sealed."""
        unsealed = self._rows.counters(transaction).entities - sum(part.row.entities for part in segments)
        if unsealed * 4 * self._records.dimension <= UNSEALED_BYTES:
            return []
        numbers = np.fromiter(self._rows.numbers(transaction, sealed + 1), np.int64)
        some = np.array_split(numbers, -(-unsealed // UNSEALED_ROWS_A_SEGMENT))
        covered = [(int(each[0]), int(each[-1])) for each in some if len(each)]
        return [
            scanned(SegmentRow(NOT_LISTED - place, first, last, 0, 0, (), {}, {}), self._records)
            for place, (first, last) in enumerate(covered)
        ]

    def _take_in(self, state: LoadedParts, numbers: NDArray[np.int64], transaction: Any) -> None:
        """Images in the range of a segment that does not have them: left out when it was built because their
        records are damaged. If one is not, the segment cannot be trusted, and its records are."""
        for number in numbers.tolist():
            value = self._rows.record(transaction, number)
            try:
                if value is None:
                    continue
                verify(value, self._rows.record_key(number))
            except DataLoss as error:
                self._left_out(number, error, state.damaged)
                continue
            for place, part in enumerate(state.segments):
                if part.row.first <= number <= part.row.last and isinstance(part, SegmentPart):
                    _log.error(
                        "collection '%s': index segment %d lacks image number %d; its images are searched in "
                        "their records until it is rebuilt",
                        self._rows.name,
                        part.row.number,
                        number,
                    )
                    state.segments[place] = scanned(part.row, self._records)

    def _verified(
        self, transaction: Any, first: int, damaged: set[int]
    ) -> Iterable[tuple[int, NDArray[np.float32], EntityColumns]]:
        """Views of the vectors of each image from a number on; those that fail go into `damaged`."""
        for number, value in self._rows.records_from(transaction, first):
            try:
                key = self._rows.record_key(number)
                header = verify(value, key)
                columns = entity_columns(value, key, header)
            except DataLoss as error:
                self._left_out(number, error, damaged)
                continue
            yield number, vectors_of(value, header), columns

    def _left_out(self, number: int, error: DataLoss, damaged: set[int]) -> None:
        if number not in damaged:
            damaged.add(number)
            _log.error(
                "collection '%s': image number %d is left out of searches: %s",
                self._rows.name,
                number,
                error.message,
            )
