"""What is derived from the records, compared with them: index segments and the columns of declared fields.

Called when the catalog itself was found sound, for it is read through LMDB here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.environment import Environment
from regionsearch.collection.fields.declared_fields import DeclaredField
from regionsearch.collection.fields.field_block import BLOCK_BITS, PLACE_IN_BLOCK, FieldBlock
from regionsearch.collection.fields.field_rows import FieldRows
from regionsearch.collection.integrity.problems import Problem
from regionsearch.collection.record_layout import Buffer, Header, read_header, verify_body
from regionsearch.collection.records import IndexedField
from regionsearch.collection.segment_folders import SEGMENTS, segment_folder
from regionsearch.collection.segments.entity_columns import EntityColumns
from regionsearch.collection.segments.manifest import Manifest, SegmentRow
from regionsearch.collection.segments.record_columns import entity_columns
from regionsearch.collection.segments.segment import SegmentPart
from regionsearch.collection.spec_rows import spec_from_json, stored_names, stored_spec
from regionsearch.errors import DataLoss
from regionsearch.filters.payload_values import values_at

_SLOWER = "searches are slower until it is built again"
_TRIES = 5


class DerivedChecks:
    """directory: the data directory's folder. beside_writer: files may come and go meanwhile.
    thorough: every row of a segment is compared with its record, not only how many there are."""

    def __init__(
        self, directory: Path, environment: Environment, *, thorough: bool, beside_writer: bool
    ) -> None:
        self._directory = directory
        self._environment = environment
        self._thorough = thorough
        self._beside_writer = beside_writer
        self.problems: list[Problem] = []
        self.bad_segments: list[tuple[int, int]] = []
        """Collection's and segment's numbers."""
        self.leftovers: list[Path] = []

    def run(self, progress: Callable[[float], None], check: Callable[[], None]) -> None:
        """progress: 0 to 1, a step a collection. check: raises Cancelled."""
        with self._environment.transaction() as transaction:
            names = stored_names(self._environment, transaction)
        numbers = set()
        for place, name in enumerate(names):
            check()
            progress(place / len(names))
            found: list[Problem] = []
            still: list[int] = []
            of_segments: dict[int, tuple[Problem, bool]] = {}
            for _ in range(_TRIES):
                found, still = [], []
                with self._environment.transaction() as transaction:
                    stored = stored_spec(self._environment, transaction, name)
                    if stored is None:
                        break
                    spec, number = spec_from_json(stored)
                    numbers.add(number)
                    rows = CollectionRows(self._environment, name, number)
                    before = self._published(transaction, number)
                    of_segments = dict(self._segments(transaction, rows, check))
                    found += self._fields(transaction, rows, spec.indexed_fields, check)
                with self._environment.transaction() as transaction:
                    after = self._published(transaction, number)
                    listed = self._listed(transaction, number)
                # Files may have been missing because segments were merged meanwhile: what is not listed any
                # more counts no longer, and what is new is looked at in its turn.
                still = [segment for segment in of_segments if segment in listed]
                if before == after or len(still) == len(of_segments):
                    break
            for segment in still:
                problem, is_damage = of_segments[segment]
                found.append(problem)
                if is_damage:
                    self.bad_segments.append((number, segment))
            self.problems += found
        if not self._beside_writer:
            self.problems += self._leftovers(numbers)
        progress(1.0)

    def _published(self, transaction: Any, number: int) -> int:
        """Changes with every change of the segments; 0 when the note of it is damaged."""
        try:
            return Manifest(self._environment, number).next_number(transaction)
        except DataLoss:
            return 0

    def _listed(self, transaction: Any, number: int) -> set[int]:
        try:
            return {row.number for row in Manifest(self._environment, number).segments(transaction)}
        except DataLoss:
            return set()

    # segments

    def _segments(
        self, transaction: Any, rows: CollectionRows, check: Callable[[], None]
    ) -> Iterator[tuple[int, tuple[Problem, bool]]]:
        """By its number, what is wrong with a segment, and whether its files are to be removed for it."""
        last = 0
        try:
            listed = Manifest(self._environment, rows.number).segments(transaction)
        except DataLoss:
            return  # the catalog's own checks tell
        for row in listed:
            check()
            where = f"index segment {row.number} of collection '{rows.name}'"
            folder = segment_folder(self._directory, rows.number) / str(row.number)
            if row.first <= last:
                problem = Problem("it covers images of another one", where, _SLOWER, "repair")
                yield row.number, (problem, False)
            last = max(last, row.last)
            try:
                part = SegmentPart.open(folder, row)
                fault = self._segment_fault(transaction, rows, row, part)
            except FileNotFoundError:
                yield row.number, (Problem("its files are missing", where, _SLOWER, "repair"), False)
            except DataLoss as error:
                yield row.number, (Problem(error.message, where, _SLOWER, "repair"), True)
            except RuntimeError as error:  # FAISS
                yield row.number, (Problem(str(error), where, _SLOWER, "repair"), True)
            else:
                if fault:
                    costs = "searches miss images, or find what is not there"
                    yield row.number, (Problem(fault, where, costs, "repair"), True)

    def _segment_fault(
        self, transaction: Any, rows: CollectionRows, row: SegmentRow, part: SegmentPart
    ) -> str:
        """The first thing in which its rows differ from the records that it covers, or nothing."""
        numbers = {number: place for place, number in enumerate(part.image_numbers.tolist())}
        for number, value in rows.records_from(transaction, row.first):
            if number > row.last:
                break
            key = rows.record_key(number)
            place = numbers.get(number)
            try:
                header = read_header(value, key)
            except DataLoss:
                continue  # the catalog's own checks tell
            if place is None:
                try:
                    verify_body(value, header)
                except DataLoss:
                    continue  # left out when the segment was built
                return f"it lacks image number {number}"
            start, end = int(part.starts[place]), int(part.starts[place + 1])
            if end - start != header.entities:
                return f"it has {end - start} entities of image number {number}, which has {header.entities}"
            if self._thorough and not _same_columns(
                part.entities.rows(slice(start, end)), _columns(value, key, header)
            ):
                return f"its entities of image number {number} differ from the record's"
        return ""

    def _leftovers(self, known: set[int]) -> Iterator[Problem]:
        root = self._directory / SEGMENTS
        if not root.is_dir():
            return
        for folder in sorted(root.iterdir()):
            if not folder.name.isdecimal() or int(folder.name) not in known:
                yield self._leftover(folder)
                continue
            with self._environment.transaction() as transaction:
                try:
                    segments = Manifest(self._environment, int(folder.name)).segments(transaction)
                except DataLoss:
                    continue
                listed = {str(row.number) for row in segments}
            for path in sorted(folder.iterdir()):
                if path.name not in listed:
                    yield self._leftover(path)

    def _leftover(self, path: Path) -> Problem:
        self.leftovers.append(path)
        where = str(path.relative_to(self._directory))
        return Problem("left over from a crash", where, "its place", "repair")

    # fields

    def _fields(
        self,
        transaction: Any,
        rows: CollectionRows,
        declared: Sequence[IndexedField],
        check: Callable[[], None],
    ) -> Iterator[Problem]:
        field_rows = FieldRows(self._environment, rows)
        try:
            fields = field_rows.declaration(transaction).fields
            columns = field_rows.load(transaction)
        except DataLoss:
            return  # the catalog's own checks tell
        if {(field.path, field.kind) for field in fields} != {(each.path, each.kind) for each in declared}:
            yield Problem(
                "the columns are not those of the declared fields",
                f"fields of collection '{rows.name}'",
                "filters on the others read the records",
                "repair",
            )
            return
        if not fields or not self._thorough:
            return
        wrong: dict[str, int] = {}
        met: dict[int, set[int]] = {field.number: set() for field in fields}
        for block, payloads, damaged in _payload_blocks(transaction, rows):
            check()
            for field in fields:
                column = columns.column(field.number)
                stored = None if column is None else column.blocks.get(block)
                met[field.number].add(block)
                if not damaged and not _same_block(field, block, stored, payloads):
                    wrong.setdefault(field.path, block << BLOCK_BITS)
        for field in fields:
            column = columns.column(field.number)
            if column is not None and set(column.blocks) - met[field.number]:
                wrong.setdefault(field.path, min(set(column.blocks) - met[field.number]) << BLOCK_BITS)
        for path, first in wrong.items():
            yield Problem(
                f"its column differs from the payloads of images from number {first} on",
                f"field {path} of collection '{rows.name}'",
                "filters miss images, or find others",
                "repair",
            )


def _payload_blocks(transaction: Any, rows: CollectionRows) -> Iterator[tuple[int, dict[int, Any], bool]]:
    """(block's number, payloads by place, whether a record of it is damaged)."""
    block, payloads, damaged = -1, dict[int, Any](), False
    for number, value in rows.records_from(transaction, 0):
        if number >> BLOCK_BITS != block:
            if block >= 0:
                yield block, payloads, damaged
            block, payloads, damaged = number >> BLOCK_BITS, {}, False
        try:
            payloads[number & PLACE_IN_BLOCK] = _payload(value, rows.record_key(number))
        except (DataLoss, ValueError):
            damaged = True
    if block >= 0:
        yield block, payloads, damaged


def _payload(value: Buffer, key: Buffer) -> Any:
    header = read_header(value, key)
    at = header.id_start + header.id_bytes + header.labels_bytes
    coded = bytes(value[at : at + header.payload_bytes])
    return json.loads(coded) if coded else {}


def _same_block(
    field: DeclaredField, block: int, stored: FieldBlock | None, payloads: dict[int, Any]
) -> bool:
    if field.built_to is not None and block << BLOCK_BITS >= field.built_to:
        return True  # not built yet
    values = {place: values_at(payload, field.keys) for place, payload in payloads.items()}
    due = FieldBlock.empty().changed((), values) or FieldBlock.empty()
    if stored is None or due.is_empty:
        return (stored is None or stored.is_empty) and due.is_empty
    # Equal values have equal bytes, whatever came and went before.
    return stored.encoded(with_instants=False) == due.encoded(with_instants=False)


def _columns(value: Buffer, key: Buffer, header: Header) -> EntityColumns | None:
    try:
        return entity_columns(value, key, header)
    except DataLoss:
        return None


def _same_columns(stored: EntityColumns, due: EntityColumns | None) -> bool:
    if due is None:
        return True  # the record is damaged, which the catalog's own checks tell
    same = all(
        np.array_equal(getattr(stored, name), getattr(due, name))
        for name in ("areas", "objectness", "boxes", "sources")
    )
    return same and _labels(stored) == _labels(due)


def _labels(columns: EntityColumns) -> list[str | None]:
    return [None if code < 0 else columns.label_table[code] for code in columns.labels.tolist()]
