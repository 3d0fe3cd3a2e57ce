"""Filters over the view of a collection: which columns answer them, and what must be read of records."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.environment import Environment
from regionsearch.collection.fields.entity_truth import count_truth, entity_truth
from regionsearch.collection.fields.field_columns import FieldColumn, FieldColumns
from regionsearch.collection.fields.matching import Matching
from regionsearch.collection.fields.read_of_part import ReadOfPart
from regionsearch.collection.fields.scanned_values import ScannedValues, Scanning
from regionsearch.collection.segments.record_vectors import LeaveOut
from regionsearch.collection.segments.view import Part, View
from regionsearch.filters import EVERYTHING, Condition, Expression, Field, conditions_of, parse
from regionsearch.filters.evaluation import Cost, Mask, evaluate, spread, with_any

_KEPT = 16
"""Answers of the current view that are kept by the text of their filter: 1.1 MB at 1,000,000 entities."""
_NO_VIEW = View((), 0)
_TRIES = 5
"""While records vanish under a scan, the filter is asked again of a newer view: so often at most."""
_IMAGE_FIELDS_OF_THE_VIEW = frozenset({"entities"})


class Filtering:
    """Of one open collection. Any thread may ask."""

    def __init__(
        self,
        environment: Environment,
        rows: CollectionRows,
        current: Callable[[], View],
        leave_out: LeaveOut,
    ) -> None:
        """current: the view with every write that was acknowledged before the call. leave_out: what takes
        images out of it whose records are damaged."""
        self._environment = environment
        self._rows = rows
        self._current = current
        self._leave_out = leave_out
        self._changing = threading.Lock()
        # Without their view, which would keep what searches saw before it: files of removed segments too.
        self._answers: OrderedDict[str, tuple[weakref.ref[View], Matching]] = OrderedDict()

    def matching_in(self, view: View, where: str, transaction: Any) -> Matching:
        """What satisfies the filter in a view, with records as a read transaction of that moment has them.

        Raises as `matching`, and DataLoss when a record that had to be read is damaged."""
        scanning = Scanning(ScannedValues(), self._rows, lambda: nullcontext(transaction))
        found = self._evaluated(parse(where), view, scanning)[0]
        for error in scanning.damaged.values():
            raise error
        return found

    def matching(self, where: str) -> Matching:
        """What satisfies the filter now; a blank one is satisfied by everything. An image whose record had to
        be read and is damaged is left out, here and in later searches.

        Raises InvalidFilter, CollectionNotFound.
        """
        expression = parse(where)
        for last_try in (False,) * (_TRIES - 1) + (True,):
            view = self._current()
            known = self._answer(where, view)
            if known is not None:
                return known
            scanning = Scanning(view.fields.scanned, self._rows, self._environment.transaction)
            found, is_whole = self._evaluated(expression, view, scanning)
            if scanning.damaged:
                self._leave_out(scanning.damaged)
            if is_whole or last_try:
                break
        if is_whole:
            self._keep(where, found)
        return found

    def _answer(self, where: str, view: View) -> Matching | None:
        with self._changing:
            known = self._answers.get(where)
            if known is None or known[0]() is not view:
                return None
            self._answers.move_to_end(where)
        return replace(known[1], view=view)

    def _keep(self, where: str, found: Matching) -> None:
        with self._changing:
            for text in [text for text, (of, _) in self._answers.items() if of() is not found.view]:
                del self._answers[text]
            self._answers[where] = weakref.ref(found.view), replace(found, view=_NO_VIEW)
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)

    def _evaluated(self, expression: Expression, view: View, scan: Scanning) -> tuple[Matching, bool]:
        """What satisfies the filter in a view, and whether all records that had to be read were still there
        and sound.

        Images whose record is gone have been deleted or replaced since, and are left out; so are damaged
        ones."""
        unindexed = {
            condition.field: None
            for condition in conditions_of(expression)
            if _is_scanned(condition.field, view)
        }
        rows, images = [], []
        overfull: set[str] = set()
        for part in view.parts:
            columns = _PartColumns(view.fields, part, unindexed, scan, overfull)
            if expression == EVERYTHING:
                rows.append(part.live_rows)
                images.append(part.live)
                continue
            truth = evaluate(expression, columns, part.live)
            live = part.live
            unread = [*scan.missing, *scan.damaged]
            if unread:
                live = live & ~np.isin(part.image_numbers, unread)
            if truth.images is not None:
                of_images = truth.images & live
                images.append(of_images)
                rows.append(spread(of_images, part.starts))
            else:
                assert truth.entities is not None
                of_entities = truth.entities
                if part.dead_images or live is not part.live:
                    of_entities &= spread(live, part.starts)
                rows.append(of_entities)
                images.append(with_any(of_entities, part.starts))
        building = {field.keys for field in view.fields.fields if not field.is_built}
        notes = _notes(tuple(unindexed), building, overfull, scan)
        return (
            Matching(
                view,
                tuple(rows),
                tuple(images),
                sum(int(np.count_nonzero(mask)) for mask in rows),
                sum(int(np.count_nonzero(mask)) for mask in images),
                notes,
            ),
            not (scan.missing or scan.damaged),
        )


@dataclass(frozen=True, eq=False)
class _PartColumns:
    """One part of a view, as `evaluate` asks it. unindexed: all fields of the filter that have no column.
    overfull: names of fields of whose images some have more values than columns hold."""

    fields: FieldColumns
    part: Part
    unindexed: Mapping[Field, None]
    scan: Scanning
    overfull: set[str]
    read: dict[tuple[Field, ...], ReadOfPart] = field(default_factory=dict)

    @property
    def starts(self) -> NDArray[np.int64]:
        return self.part.starts

    def cost(self, condition: Condition) -> Cost:
        if condition.field.root == "entity":
            return 1
        return 2 if condition.field in self.unindexed else 0

    def of_entities(self, condition: Condition) -> Mask:
        return entity_truth(condition, self.part)

    def of_images(self, condition: Condition, wanted: Mask) -> Mask:
        asked = condition.field
        if asked.root == "image" and asked.path[0] in _IMAGE_FIELDS_OF_THE_VIEW:
            return count_truth(condition, self.part)
        column = self.fields.get(asked.path) if asked.root == "payload" else None
        if column is None:
            return self._scanned(condition, wanted, tuple(self.unindexed))
        truth = column.truth(condition, self.part.image_numbers)
        self._add_unread(column, condition, wanted, truth)
        return truth

    def _add_unread(self, column: FieldColumn, condition: Condition, wanted: Mask, truth: Mask) -> None:
        """Sets the truth of images that have more values than columns hold."""
        unread = column.unread(self.part.image_numbers)
        unread = unread[wanted[unread]]
        if len(unread):
            self.overfull.add(str(condition.field))
            mask = np.zeros(len(truth), bool)
            mask[unread] = True
            truth[unread] = self._scanned(condition, mask, (condition.field,))[unread]

    def _scanned(self, condition: Condition, wanted: Mask, fields: tuple[Field, ...]) -> Mask:
        if fields not in self.read:
            self.read[fields] = ReadOfPart(self.scan, fields, self.part.image_numbers, self.part.live)
        return self.read[fields].truth(condition, wanted)


def _is_scanned(field: Field, view: View) -> bool:
    if field.root == "payload":
        return view.fields.get(field.path) is None
    return field.root == "image" and field.path[0] not in _IMAGE_FIELDS_OF_THE_VIEW


def _notes(
    unindexed: tuple[Field, ...], building: set[tuple[str, ...]], overfull: set[str], scan: Scanning
) -> tuple[str, ...]:
    read = f"{scan.records_read:,} records were read" if scan.records_read else "no record had to be read"
    payload = [str(field) for field in unindexed if field.root == "payload" and field.path not in building]
    unfinished = [str(field) for field in unindexed if field.root == "payload" and field.path in building]
    of_images = [str(field) for field in unindexed if field.root == "image"]
    notes = []
    if payload:
        are = "is not an indexed field" if len(payload) == 1 else "are not indexed fields"
        notes.append(f"{', '.join(payload)} {are}: {read}")
    if unfinished:
        notes.append(f"{', '.join(unfinished)}: the column is still being built; {read}")
    if of_images:
        notes.append(f"{', '.join(of_images)} {'has' if len(of_images) == 1 else 'have'} no column: {read}")
    if overfull:
        names = ", ".join(sorted(overfull))
        notes.append(f"{names}: some images have more values than a column holds; {read}")
    return tuple(notes)
