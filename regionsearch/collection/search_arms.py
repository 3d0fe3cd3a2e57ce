"""The view of a collection that searches use, kept in step with its records."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.environment import Environment
from regionsearch.collection.fields.field_columns import FieldChange
from regionsearch.collection.group_commit import GroupCommit
from regionsearch.collection.records import IndexWish, SegmentStats
from regionsearch.collection.segments.entity_columns import EntityColumns
from regionsearch.collection.segments.fresh_rows import FreshPart, FreshRows
from regionsearch.collection.segments.manifest import Manifest, SegmentRow
from regionsearch.collection.segments.opening import IndexedPart
from regionsearch.collection.segments.record_vectors import RecordVectors
from regionsearch.collection.segments.scanned_part import ScannedPart
from regionsearch.collection.segments.segment import SegmentPart
from regionsearch.collection.segments.segment_files import SegmentFiles
from regionsearch.collection.segments.view import Allowed, Arm, View
from regionsearch.collection.view_loading import NOT_LISTED, LoadedParts, ViewLoader
from regionsearch.errors import DataLoss

if TYPE_CHECKING:
    from regionsearch.collection.segments.upkeep import Upkeep

_NOTHING: NDArray[np.int64] = np.empty(0, np.int64)
_TRIES = 5
"""Of a search in a newer view, when rows of its own were buried meanwhile."""
_PUBLISHING_SECONDS = 10.0
"""Between a commit and its publication, at the very most."""


@dataclass(frozen=True, eq=False)
class Change:
    """What one committed write did. added: (image number, its (1 + n, d) vectors), ascending.
    columns: of the n entities of each of those. fields: what it did to the columns of payloads."""

    generation: int
    buried: Sequence[int] = ()
    added: Sequence[tuple[int, NDArray[np.float32]]] = ()
    columns: Sequence[EntityColumns] = ()
    fields: FieldChange | None = None


class SearchArms:
    """Loaded by the first search, then kept in step: the images that index segments cover come from their
    files, the others are read from their records.

    Beside this process's writer, each write hands its change over before it is acknowledged. Beside
    another process's, each search compares the collection's generation and that of its segments (two LMDB
    reads) and, when one has moved, reads what is new. Image numbers only grow, so these are the last ones;
    only when images are fewer than that explains are all keys read, to find those that are gone.
    """

    def __init__(
        self,
        environment: Environment,
        rows: CollectionRows,
        dimension: int,
        writer: GroupCommit | None,
        wish: Callable[[], IndexWish],
        upkeep: Upkeep | None = None,
    ) -> None:
        """wish: the collection's, now. upkeep: what keeps its segments; None beside another's writer."""
        self.rows = rows
        self.wish = wish
        self.files = SegmentFiles(environment.catalog.parent, rows.number)
        self.records = RecordVectors(environment, rows, dimension, self._refuse_lost, self.leave_out)
        self.last_search = self.last_write = -float("inf")
        """When, in seconds of `time.monotonic`."""
        self.row_bytes = 4 * dimension
        """Of one row in memory, roughly."""
        self._environment = environment
        self._manifest = Manifest(environment, rows.number)
        self._loader = ViewLoader(environment, rows, self._manifest, self.files, self.records)
        self._dimension = dimension
        self._writer = writer
        self._upkeep = upkeep
        self._last_taken = 0
        self._state: LoadedParts | None = None
        self._changing = threading.RLock()
        self._room = threading.Condition(self._changing)

    # searches

    def current(self) -> View:
        """With every write that was acknowledged before the call. Raises CollectionNotFound."""
        state = self._state
        with self._environment.transaction() as transaction:
            counters = self.rows.counters(transaction)
            if state is not None:
                view = state.view
                if self._writer is not None or (
                    view.generation >= counters.generation
                    and state.segments_at == self._manifest.next_number(transaction)
                ):
                    return view
        with self._changing:
            if self._state is None or self._writer is None:
                known, self._state = self._state, None  # what is half followed must not be seen
                self._state = self._loader.followed(known)
                self._notice()
            return self._state.view

    def search(
        self, arm: Arm, vector: NDArray[np.float32], k: int, matching: Allowed | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `View.search`, in the view of `matching`, or else in the current one, and in the next when
        images were replaced meanwhile or found damaged. Raises CollectionNotFound, DataLoss."""
        self.last_search = time.monotonic()
        for _ in range(_TRIES):
            view = self.current() if matching is None else matching.view
            nearest = view.nearest(arm, vector, k, matching)
            if not nearest.gone or matching is not None:
                break
        return nearest.ids, nearest.similarities

    def leave_out(self, damaged: Mapping[int, DataLoss]) -> None:
        """Searches go on without these images, whose records were read and found damaged: each is named in
        the log once, and counted in `warnings`. To be called in no transaction.

        One that a write has buried since is none of them: it is passed over. Raises CollectionNotFound.
        """
        self.current()
        with self._changing:
            if self._state is not None:
                self._loader.leave_out(self._state, damaged)

    # writes, on the writer's thread

    def publish(self, change: Change) -> None:
        """Called in the order of commits, before each is acknowledged."""
        self.last_write = time.monotonic()
        with self._changing:
            state = self._state
            # Else not loaded yet, or loaded from records that hold this change already.
            if state is not None and change.generation > state.view.generation:
                if change.generation > state.view.generation + 1:
                    # A change before it was committed and could not be published.
                    self._state = None
                else:
                    try:
                        self._apply(state, change)
                    except BaseException:
                        # The records are right; the next search loads the view from them again.
                        self._state = None
                        raise
        self._notice()

    def _notice(self) -> None:
        if self._upkeep is not None:
            self._upkeep.notice(self)

    def _apply(self, state: LoadedParts, change: Change) -> None:
        state.change(np.array(change.buried, np.int64), change.added, change.columns)
        state.damaged.difference_update(change.buried)
        if change.added:
            state.last_number = change.added[-1][0]
        state.show(change.generation, state.view.fields.changed(change.fields), self.records)

    # upkeep, on its thread

    def refuse_fork(self) -> None:
        """Raises FailedPrecondition."""
        self._environment.refuse_fork()

    def loaded(self) -> bool:
        return self._state is not None

    def is_frozen(self) -> bool:
        """Whether rows are frozen that an earlier seal did not finish."""
        state = self._state
        return state is not None and state.frozen is not None

    def unsealed_rows(self) -> int:
        """Entities that no segment has; an estimate that costs one read when nothing is loaded."""
        state = self._state
        if state is not None:
            frozen = 0 if state.frozen is None else len(state.frozen.entities)
            return len(state.fresh.part.entities) + frozen
        with self._environment.transaction() as transaction:
            sealed = sum(row.entities for row in self._manifest.segments(transaction))
            return max(0, self.rows.counters(transaction).entities - sealed)

    def segments(self) -> tuple[IndexedPart, ...]:
        """Those in use, oldest first; loads them."""
        self.current()
        with self._changing:
            return () if self._state is None else tuple(self._state.segments)

    def freeze(self) -> FreshPart | None:
        """The fresh rows, to which nothing is added from now on; None when there are none."""
        self.current()
        with self._changing:
            state = self._state
            if state is None:
                return None
            if state.frozen is None and len(state.fresh.part.image_numbers):
                state.frozen = state.fresh.part
                state.fresh = FreshRows(self._dimension)
                state.show(state.view.generation, state.view.fields, self.records)
            return state.frozen

    def take_segment_number(self) -> int:
        """For the next segment; each is given out once."""
        with self._environment.transaction() as transaction:
            self._last_taken = max(self._last_taken + 1, self._manifest.next_number(transaction))
        return self._last_taken

    def exchange(self, removed: Sequence[int], row: SegmentRow | None, *, frozen: bool) -> None:
        """Publishes a segment, whose files are on disk, in the place of those with these numbers and, if said
        so, of the frozen rows; or takes them out alone. What died since is dead in it.

        Raises CollectionNotFound, StorageFull; ValueError when the segments have changed meanwhile.
        """
        assert self._writer is not None
        part = None if row is None else SegmentPart.open(self.files.folder(row.number), row, verified=True)

        def apply(transaction: Any) -> tuple[None, Callable[[], None]]:
            self.rows.counters(transaction)
            taken = [number for number in removed if number > NOT_LISTED]
            listed = {each.number for each in self._manifest.segments(transaction)}
            if not listed.issuperset(taken) or (row is not None and row.number in listed):
                raise ValueError(f"segments {sorted(taken)} are not those of the manifest: {sorted(listed)}")
            before = self._manifest.next_number(transaction)
            self._manifest.change(transaction, [] if row is None else [row], taken)
            at = self._manifest.next_number(transaction)
            return None, lambda: self._exchanged(set(removed), part, before, at, frozen=frozen)

        self._writer.submit(apply)

    def _exchanged(
        self, removed: set[int], part: SegmentPart | None, before: int, at: int, *, frozen: bool
    ) -> None:
        """before, at: the manifest's next number until then, and now."""
        with self._changing:
            state = self._state
            if state is None or state.segments_at == at:
                return  # not loaded, or loaded after the commit
            if state.segments_at != before or (frozen and state.frozen is None):
                self._state = None  # loaded anew meanwhile: the manifest and the records say what is right
                return
            replaced = [each for each in state.segments if each.row.number in removed]
            kept = [each for each in state.segments if each.row.number not in removed]
            inputs = [*replaced, *([state.frozen] if frozen and state.frozen is not None else [])]
            if part is not None:
                alive = [each.image_numbers[each.live] for each in inputs]
                kept.append(part.living(np.concatenate(alive) if alive else _NOTHING))
                kept.sort(key=lambda each: each.row.first)
            state.segments = kept
            state.segments_at = at
            if frozen:
                state.frozen = None
            state.show(state.view.generation, state.view.fields, self.records)
            self._room.notify_all()

    def wait_for_room(self) -> None:
        """To be called before rows are added, in no transaction: waits, for a bounded time, while so many are
        unsealed that memory would run full."""
        if self._upkeep is not None:
            self._upkeep.wait_for_room(self)

    def wait_until_sealed(self, rows: int, seconds: float) -> None:
        """Until fewer than `rows` entities are unsealed, or nothing is sealed any more; `seconds` at most."""

        def is_over() -> bool:
            stopping = self._upkeep is None or self._upkeep.is_stopping(self)
            return stopping or self._state is None or self.unsealed_rows() < rows

        with self._room:
            self._room.wait_for(is_over, timeout=seconds)

    def stop_waiting(self) -> None:
        """The upkeep ends: whoever waits for it looks again."""
        with self._room:
            self._room.notify_all()

    # what others ask

    def warnings(self) -> list[str]:
        """For people: what keeps segments from being built, and how many images searches leave out."""
        warnings = []
        failure = "" if self._upkeep is None else self._upkeep.failure(self.rows.number)
        if failure:
            warnings.append(f"index segments could not be kept up, which is tried again: {failure}")
        state = self._state
        for part in () if state is None else state.segments:
            if isinstance(part, ScannedPart) and part.row.number > NOT_LISTED:
                warnings.append(
                    f"index segment {part.row.number} is damaged, and searched in its records until it is "
                    "built again (which a process that writes does by itself)"
                )
        if state is not None and state.damaged:
            many = "1 image is" if len(state.damaged) == 1 else f"{len(state.damaged):,} images are"
            warnings.append(
                f"{many} left out of searches, damaged as their records are: `regionsearch verify` names them"
            )
        return warnings

    def segment_stats(self) -> tuple[tuple[SegmentStats, ...], int, int]:
        """Of the segments; fresh rows of both arms; dead rows of both arms that segments still hold.

        Loads the segments when there are some."""
        if self._state is None:
            with self._environment.transaction() as transaction:
                counters = self.rows.counters(transaction)
                if not self._manifest.segments(transaction):
                    return (), counters.images + counters.entities, 0
        view = self.current()
        segments = []
        dead = fresh = 0
        for part in view.parts:
            if not isinstance(part, IndexedPart) or part.row.number <= NOT_LISTED:
                fresh += part.live_row_count + len(part.live) - part.dead_images
                continue
            row = part.row
            kinds = (str(row.entity_index.get("kind", "")), str(row.image_index.get("kind", "")))
            segments.append(
                SegmentStats(row.number, row.images, row.entities, part.dead_images, *kinds, row.size)
            )
            dead += part.dead_images + int(part.starts[-1]) - part.live_row_count
        return tuple(segments), fresh, dead

    def _refuse_lost(self, numbers: NDArray[np.int64], generation: int) -> None:
        """Raises DataLoss unless a write has buried all these images, whose records were missing at that
        generation."""
        deadline = time.monotonic() + _PUBLISHING_SECONDS
        while (view := self.current()).generation < generation and time.monotonic() < deadline:
            time.sleep(0.001)
        lost = np.intersect1d(numbers, view.live_numbers())
        if len(lost):
            raise DataLoss(
                f"the record of image number {lost[0]} of collection '{self.rows.name}' is missing, though "
                "no write has deleted it: `regionsearch verify` says what else is"
            )
