"""Declares which fields have columns, and builds those of images that are there already, beside all else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.environment import Environment
from regionsearch.collection.fields.declared_fields import check_indexed_fields
from regionsearch.collection.fields.field_columns import FieldChange
from regionsearch.collection.fields.field_rows import FieldRows
from regionsearch.collection.group_commit import GroupCommit, Publish
from regionsearch.collection.records import CollectionSpec, IndexedField
from regionsearch.collection.search_arms import Change
from regionsearch.collection.spec_rows import rewrite_spec
from regionsearch.errors import Cancelled, CollectionNotFound, DataLoss, FailedPrecondition, StorageFull

_log = logging.getLogger(__name__)
_PIECE_BYTES = 1 << 19
"""That a piece of a column writes, roughly."""


class Declaring:
    """Of one collection that is open for writing."""

    def __init__(
        self,
        environment: Environment,
        rows: CollectionRows,
        writer: GroupCommit,
        publish: Callable[[Change], None],
    ) -> None:
        """publish: makes a committed change seen by searches."""
        self._environment = environment
        self._rows = rows
        self._writer = writer
        self._publish = publish
        self._field_rows = FieldRows(environment, rows)

    def declare(
        self,
        fields: Sequence[IndexedField],
        *,
        progress: Callable[[float], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> CollectionSpec:
        """From now on these fields have columns and no others; returns when all columns are complete.

        Filters read records for a field until its column is. progress: called with 0 to 1. check: may raise
        Cancelled, after which the fields are those of before. A crash leaves the new declaration, which the
        next opening for writing completes (`resume`). Returns the collection's spec.
        Raises InvalidRequest, CollectionNotFound, StorageFull.
        """
        check_indexed_fields(fields)
        before, spec = self._rewrite(tuple(fields))
        try:
            self.finish(progress=progress, check=check)
        except Cancelled:
            self._rewrite(before.indexed_fields)
            self.finish()
            raise
        return spec

    def finish(
        self,
        *,
        progress: Callable[[float], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """Does what a declaration left to do. Raises as `declare`."""
        done = False
        while not done:
            if check is not None:
                check()
            done, share = self.advance()
            if progress is not None:
                progress(share)

    def is_finished(self) -> bool:
        """Whether every column is complete, and the rows of removed ones are gone."""
        with self._environment.transaction() as transaction:
            declaration = self._field_rows.declaration(transaction)
        return not declaration.freed and all(field.is_built for field in declaration.fields)

    def advance(self) -> tuple[bool, float]:
        """One piece, some 20 ms, in its own transaction: whether nothing was left, and the share done."""

        def apply(transaction: Any) -> tuple[tuple[bool, float], Publish | None]:
            counters = self._rows.counters(transaction)
            change, share = self._field_rows.advance(transaction)
            if change is None:
                return (True, share), None
            generation = self._rows.commit_counters(transaction, counters)
            self._environment.keep_room(transaction, _PIECE_BYTES, 1)
            return (False, share), self._publishing(generation, change)

        done, share = self._writer.submit(apply)
        return done, share

    def _rewrite(self, fields: tuple[IndexedField, ...]) -> tuple[CollectionSpec, CollectionSpec]:
        """The spec before and after."""

        def apply(transaction: Any) -> tuple[tuple[CollectionSpec, CollectionSpec], Publish]:
            specs: list[CollectionSpec] = []

            def with_fields(spec: CollectionSpec) -> CollectionSpec:
                specs.append(spec)
                return replace(spec, indexed_fields=fields)

            counters = self._rows.counters(transaction)
            after = rewrite_spec(
                self._environment, transaction, self._rows.name, self._rows.number, with_fields
            )
            change = self._field_rows.declare(transaction, fields)
            generation = self._rows.commit_counters(transaction, counters)
            return (specs[0], after), self._publishing(generation, change)

        before, after = self._writer.submit(apply)
        return before, after

    def _publishing(self, generation: int, change: FieldChange) -> Publish:
        return lambda: self._publish(Change(generation, fields=change))


def resume(declaring: Declaring) -> threading.Thread | None:
    """Completes, in a thread of its own, what a crash left undone; None when there is nothing.

    The thread ends when the directory is closed or the collection dropped; a full disk stops it until the
    next opening, and filters read records until then.
    """
    try:
        if declaring.is_finished():
            return None
    except DataLoss as error:
        _log.error("columns of fields are not completed: %s", error.message)
        return None

    def finish() -> None:
        try:
            declaring.finish()
        except (FailedPrecondition, CollectionNotFound) as error:
            _log.info("columns of fields are not completed now: %s", error.message)
        except StorageFull as error:
            _log.warning("columns of fields are not completed: %s", error.message)

    thread = threading.Thread(target=finish, name="regionsearch-fields", daemon=True)
    thread.start()
    return thread
