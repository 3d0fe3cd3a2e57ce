"""The columns of declared fields in LMDB, changed in the transaction of the write that changes payloads.

Keys of the sub-database `fields`, after the collection's number (u32, big endian):

0                                             -> the declaration: JSON
1, field's number (u16), block (u48)          -> the field's values in 1,024 image numbers (field_block.py)

Every value is sealed (row_seals.py).
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.environment import Environment
from regionsearch.collection.fields.declared_fields import Declaration, DeclaredField
from regionsearch.collection.fields.field_block import BLOCK_BITS, PLACE_IN_BLOCK, FieldBlock
from regionsearch.collection.fields.field_columns import FieldChange, FieldColumn, FieldColumns
from regionsearch.collection.fields.scanned_values import facts_of
from regionsearch.collection.record_layout import Buffer, verify
from regionsearch.collection.records import IndexedField
from regionsearch.collection.row_seals import SEAL_BYTES, open_value, seal_value
from regionsearch.errors import DataLoss
from regionsearch.filters.payload_values import values_at

_PREFIX = struct.Struct(">I")
_BLOCK = struct.Struct(">BHHI")
_DECLARATION = b"\x00"
_FREED_ROWS = 256
"""Deleted in one piece: rows of blocks, some 3 MB."""
_DATABASE = "fields"
_FIELD_BYTES = 7
"""Of a block's key: the collection, 1, and the field."""
_log = logging.getLogger(__name__)


class FieldRows:
    """Reads and changes the columns of one collection inside a transaction that the caller holds."""

    def __init__(self, environment: Environment, rows: CollectionRows) -> None:
        self._rows = rows
        self._prefix = _PREFIX.pack(rows.number)
        self._database = environment.database(_DATABASE)

    # the declaration

    def declaration(self, transaction: Any) -> Declaration:
        key = self._prefix + _DECLARATION
        value = transaction.get(key, db=self._database)
        return (
            Declaration() if value is None else Declaration.decoded(bytes(open_value(_DATABASE, key, value)))
        )

    def declare(self, transaction: Any, fields: Sequence[IndexedField]) -> FieldChange:
        """From now on these fields have columns, and no others. The columns of new ones are complete at once
        when the collection has no images, and after `advance` has been called often enough otherwise."""
        is_empty = next(self._rows.numbers(transaction), None) is None
        declaration = self.declaration(transaction).with_fields(fields, is_empty=is_empty)
        self._put_declaration(transaction, declaration)
        return FieldChange(declared=declaration.fields)

    def advance(self, transaction: Any) -> tuple[FieldChange | None, float]:
        """One bounded piece of what declaring left to do: up to 1,024 images are read, or 256 rows freed.

        Returns what it changed (None: nothing was left to do), and how much is done, 0 to 1. Pieces may be
        in transactions of their own, with any writes and crashes in between.
        """
        declaration = self.declaration(transaction)
        building = [field for field in declaration.fields if field.built_to is not None]
        if building:
            return self._build_block(transaction, declaration, building)
        if declaration.freed:
            return self._free_rows(transaction, declaration)
        return None, 1.0

    # writes

    def write(
        self,
        transaction: Any,
        *,
        added: Iterable[tuple[int, Mapping[str, Any]]] = (),
        buried: Iterable[int] = (),
    ) -> FieldChange:
        """added: (image number, payload) of new images and of those whose payload was replaced.
        buried: numbers of images that are gone. Each block that they touch is written once."""
        added = list(added)
        rewritten = [number for number, _ in added]
        declaration = self.declaration(transaction)
        if not declaration.fields:
            return FieldChange(rewritten=rewritten)
        payloads: dict[int, dict[int, Mapping[str, Any]]] = {}
        gone: dict[int, list[int]] = {}
        for number, payload in added:
            payloads.setdefault(number >> BLOCK_BITS, {})[number & PLACE_IN_BLOCK] = payload
        for number in buried:
            gone.setdefault(number >> BLOCK_BITS, []).append(number & PLACE_IN_BLOCK)
        changed: list[tuple[int, int, FieldBlock | None]] = []
        for field in declaration.fields:
            for block in sorted({*payloads, *gone}):
                values = {
                    place: values_at(payload, field.keys)
                    for place, payload in payloads.get(block, {}).items()
                }
                new = self._block(transaction, field, block).changed(gone.get(block, ()), values)
                if new is not None:
                    changed.append((field.number, block, self._put_block(transaction, field, block, new)))
        return FieldChange(changed, rewritten)

    # the copy in memory

    def load(self, transaction: Any, known: FieldColumns | None = None) -> FieldColumns:
        """All columns as the transaction sees them. known: earlier ones, whose blocks are taken over where
        their rows are the same. Raises DataLoss when a row does not match its checksum."""
        return self._loaded(transaction, known, self._decoded)

    def load_or_rebuild(self, transaction: Any, known: FieldColumns | None = None) -> FieldColumns:
        """As `load`, but what is damaged is made from the records again, in memory, and logged; without a
        sound declaration there are no columns, and filters read records."""

        def decoded(
            key: Buffer, value: Buffer, before: FieldBlock | None, field: DeclaredField
        ) -> FieldBlock:
            try:
                return self._decoded(key, value, before, field)
            except DataLoss as error:
                block = _block_of(key)
                _log.error(
                    "collection '%s': images from number %d on are read again for field '%s': %s",
                    *(self._rows.name, block << BLOCK_BITS, field.path, error.message),
                )
                return self._from_records(transaction, [field], block)[field.number]

        try:
            return self._loaded(transaction, known, decoded)
        except DataLoss as error:
            _log.error("collection '%s': no field has a column: %s", self._rows.name, error.message)
            return FieldColumns()

    def _loaded(
        self,
        transaction: Any,
        known: FieldColumns | None,
        decoded: Callable[[Buffer, Buffer, FieldBlock | None, DeclaredField], FieldBlock],
    ) -> FieldColumns:
        columns = {}
        for field in self.declaration(transaction).fields:
            before = None if known is None else known.column(field.number)
            blocks = {} if before is None else before.blocks
            columns[field.number] = FieldColumn(
                field,
                {
                    _block_of(key): decoded(key, value, blocks.get(_block_of(key)), field)
                    for key, value in self._block_rows(transaction, field.number)
                },
            )
        return FieldColumns(columns)

    # rows

    def _put_declaration(self, transaction: Any, declaration: Declaration) -> None:
        key = self._prefix + _DECLARATION
        transaction.put(key, seal_value(_DATABASE, key, declaration.encoded()), db=self._database)

    def _key(self, field: int, block: int) -> bytes:
        return self._prefix + _BLOCK.pack(1, field, block >> 32, block & 0xFFFFFFFF)

    def _block(self, transaction: Any, field: DeclaredField, block: int) -> FieldBlock:
        """What the row of a block has, or what the records have when the row is damaged."""
        key = self._key(field.number, block)
        value = transaction.get(key, db=self._database)
        if value is None:
            return FieldBlock.empty()
        try:
            return self._decoded(key, value, None, field)
        except DataLoss as error:
            _log.error("collection '%s': %s; it is built again", self._rows.name, error.message)
            return self._from_records(transaction, [field], block)[field.number]

    def _decoded(
        self, key: Buffer, value: Buffer, known: FieldBlock | None, field: DeclaredField
    ) -> FieldBlock:
        """`known` when the row has its stamp, which depends on every byte of the row. Raises DataLoss."""
        stamp = bytes(value[-SEAL_BYTES:])
        if known is not None and known.stamp == stamp:
            return known
        return FieldBlock.decoded(bytes(open_value(_DATABASE, key, value)), stamp)

    def _from_records(
        self, transaction: Any, fields: Sequence[DeclaredField], block: int
    ) -> dict[int, FieldBlock]:
        """By field's number: its block, from all records of it. Damaged records count as without payload:
        no search finds their images."""
        values: dict[int, dict[int, list[Any]]] = {field.number: {} for field in fields}
        for number, value in self._rows.records_from(transaction, block << BLOCK_BITS):
            if number >> BLOCK_BITS != block:
                break
            key = self._rows.record_key(number)
            try:
                verify(value, key)
                payload = facts_of(value, key, number).payload
            except DataLoss as error:
                _log.error("collection '%s': image number %d: %s", self._rows.name, number, error.message)
                continue
            for field in fields:
                values[field.number][number & PLACE_IN_BLOCK] = values_at(payload, field.keys)
        return {
            number: FieldBlock.empty().changed((), found) or FieldBlock.empty()
            for number, found in values.items()
        }

    def _put_block(
        self, transaction: Any, field: DeclaredField, number: int, block: FieldBlock
    ) -> FieldBlock | None:
        """The block as it is now; None when it is empty and its row is gone."""
        key = self._key(field.number, number)
        if block.is_empty:
            transaction.delete(key, db=self._database)
            return None
        value = seal_value(_DATABASE, key, block.encoded(with_instants=field.kind == "timestamp"))
        transaction.put(key, value, db=self._database)
        return replace(block, stamp=value[-SEAL_BYTES:])

    def _block_rows(self, transaction: Any, field: int) -> Iterator[tuple[Buffer, Buffer]]:
        """(key, value) of a field's rows, ascending."""
        first = self._key(field, 0)
        common = first[:_FIELD_BYTES]
        with transaction.cursor(db=self._database) as cursor:
            if cursor.set_range(first):
                for key, value in cursor.iternext():
                    if key[:_FIELD_BYTES] != common:
                        return
                    yield key, value

    # what declaring leaves to do

    def _build_block(
        self, transaction: Any, declaration: Declaration, building: list[DeclaredField]
    ) -> tuple[FieldChange, float]:
        """The next block of the fields that have come least far, from the records of its images."""
        at = min(field.built_to or 0 for field in building)
        these = [field for field in building if field.built_to == at]
        first = next(self._rows.numbers(transaction, at), None)
        changed: list[tuple[int, int, FieldBlock | None]] = []
        built_to: int | None = None
        if first is not None:
            block = first >> BLOCK_BITS
            built_to = (block + 1) << BLOCK_BITS
            blocks = self._from_records(transaction, these, block)
            changed = [
                (field.number, block, self._put_block(transaction, field, block, blocks[field.number]))
                for field in these
            ]
            if next(self._rows.numbers(transaction, built_to), None) is None:
                built_to = None
        fields = tuple(
            replace(field, built_to=built_to) if field in these else field for field in declaration.fields
        )
        self._put_declaration(transaction, replace(declaration, fields=fields))
        last = max(1, self._rows.counters(transaction).next_number)
        left = [field.built_to for field in fields if field.built_to is not None]
        return FieldChange(changed, declared=fields), min(min(left, default=last) / last, 1.0)

    def _free_rows(self, transaction: Any, declaration: Declaration) -> tuple[FieldChange, float]:
        field = declaration.freed[0]
        keys = []
        for key, _ in self._block_rows(transaction, field):
            keys.append(bytes(key))
            if len(keys) == _FREED_ROWS:
                break
        for key in keys:
            transaction.delete(key, db=self._database)
        if len(keys) < _FREED_ROWS:
            declaration = replace(declaration, freed=declaration.freed[1:])
            self._put_declaration(transaction, declaration)
        return FieldChange(), 0.99 if declaration.freed else 1.0


def _block_of(key: Buffer) -> int:
    """The block's number in a key."""
    return int.from_bytes(key[_FIELD_BYTES:], "big")
