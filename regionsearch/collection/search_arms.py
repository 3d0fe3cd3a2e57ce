"""The view of a collection that searches use, kept in step with its records."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.environment import Environment
from regionsearch.collection.fields.field_columns import FieldChange
from regionsearch.collection.fields.field_rows import FieldRows
from regionsearch.collection.record_layout import vectors_of, verify
from regionsearch.collection.segments.entity_columns import EntityColumns
from regionsearch.collection.segments.fresh_rows import FreshRows
from regionsearch.collection.segments.record_columns import entity_columns
from regionsearch.collection.segments.view import View
from regionsearch.errors import DataLoss

_BATCH_IMAGES = 256
"""Images whose vectors are gathered before they go into the fresh rows: some 20 MB at 33 × 640."""
_NOTHING: NDArray[np.int64] = np.empty(0, np.int64)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Change:
    """What one committed write did. added: (image number, its (1 + n, d) vectors), ascending.
    columns: of the n entities of each of those. fields: what it did to the columns of payloads."""

    generation: int
    buried: Sequence[int] = ()
    added: Sequence[tuple[int, NDArray[np.float32]]] = ()
    columns: Sequence[EntityColumns] = ()
    fields: FieldChange | None = None


@dataclass(eq=False)
class _State:
    """view: what searches see. last_number: how far it has come. damaged: numbers of images that are left out
    because their record fails its checksum."""

    view: View
    fresh: FreshRows
    last_number: int
    damaged: set[int]


class SearchArms:
    """Built from the records by the first search, then kept in step.

    Beside this process's writer, each write hands its change over before it is acknowledged. Beside
    another process's, each search compares the collection's generation (one LMDB read) and, when it
    has moved, reads the records that are new. Image numbers only grow, so these are the last ones;
    only when images are fewer than that explains are all keys read, to find those that are gone.
    """

    def __init__(
        self, environment: Environment, rows: CollectionRows, dimension: int, *, is_writer: bool
    ) -> None:
        self._environment = environment
        self._rows = rows
        self._field_rows = FieldRows(environment, rows)
        self._dimension = dimension
        self._is_writer = is_writer
        self._state: _State | None = None
        self._changing = threading.Lock()

    def current(self) -> View:
        """With every write that was acknowledged before the call. Raises CollectionNotFound."""
        state = self._state
        with self._environment.transaction() as transaction:
            counters = self._rows.counters(transaction)
            if state is not None:
                view = state.view
                if self._is_writer or view.generation >= counters.generation:
                    return view
        with self._changing, self._environment.transaction() as transaction:
            if self._state is None:
                fresh = FreshRows(self._dimension)
                begun = _State(View((fresh.part,), -1), fresh, 0, set())
                self._catch_up(begun, transaction)
                self._state = begun
            elif not self._is_writer:
                self._catch_up(self._state, transaction)
            return self._state.view

    def publish(self, change: Change) -> None:
        """Called by the writer's thread in the order of commits, before each is acknowledged."""
        with self._changing:
            state = self._state
            if state is None or change.generation <= state.view.generation:
                return  # not built yet, or built from records that hold this change already
            try:
                buried = np.array(change.buried, np.int64)
                part = state.fresh.replace(buried, change.added, change.columns)
                state.damaged.difference_update(change.buried)
                if change.added:
                    state.last_number = change.added[-1][0]
                state.view = View(
                    (part,), change.generation, fields=state.view.fields.changed(change.fields)
                )
            except BaseException:
                # The records are right; the next search builds the view from them again.
                self._state = None
                raise

    def _catch_up(self, state: _State, transaction: Any) -> None:
        counters = self._rows.counters(transaction)
        first = state.last_number + 1
        fresh = sum(1 for _ in self._rows.numbers(transaction, first))
        gone = _NOTHING
        if state.view.images + len(state.damaged) + fresh != counters.images:
            live = np.fromiter(self._rows.numbers(transaction), np.int64)
            known = np.concatenate([state.view.live_numbers(), np.array(sorted(state.damaged), np.int64)])
            gone = np.setdiff1d(known, live)
        batch: list[tuple[int, NDArray[np.float32]]] = []
        columns: list[EntityColumns] = []
        for number, vectors, column in self._verified(transaction, first, state.damaged):
            batch.append((number, vectors))
            columns.append(column)
            if len(batch) == _BATCH_IMAGES:
                state.fresh.replace(_NOTHING, batch, columns)
                batch, columns = [], []
        part = state.fresh.replace(gone, batch, columns)
        state.damaged.difference_update(gone.tolist())
        state.last_number = max(state.last_number, counters.next_number - 1)
        # Once, at the end, so that a replaced image is never missing, nor there twice.
        fields = self._field_rows.load(transaction, state.view.fields)
        state.view = View((part,), counters.generation, fields=fields)

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
                damaged.add(number)
                _log.error(
                    "collection '%s': image number %d is left out of searches: %s",
                    self._rows.name,
                    number,
                    error.message,
                )
                continue
            yield number, vectors_of(value, header), columns
