"""The columns of a collection's declared fields in memory: immutable, changed by copies that share blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.fields.declared_fields import DeclaredField
from regionsearch.collection.fields.field_block import BLOCK_BITS, FieldBlock, JoinedBlocks
from regionsearch.collection.fields.scanned_values import ScannedValues
from regionsearch.filters.expression import Condition


@dataclass(frozen=True, eq=False)
class FieldChange:
    """What one write did to columns. declared: all fields after it, None when they are as before.
    blocks: (number of the field, of the block, what it is now; None: empty). rewritten: numbers of images
    whose payload is another one now."""

    blocks: Sequence[tuple[int, int, FieldBlock | None]] = ()
    rewritten: Sequence[int] = ()
    declared: tuple[DeclaredField, ...] | None = None


@dataclass(frozen=True, eq=False)
class FieldColumn:
    """blocks: by number, those that are not empty; block b has image numbers 1024 b to 1024 b + 1023."""

    field: DeclaredField
    blocks: Mapping[int, FieldBlock]

    def truth(self, condition: Condition, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(m,) bool: of which images the condition holds. numbers: (m,) ascending; False for unread ones."""
        return self._joined.truth(condition, numbers)

    def unread(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in numbers (m,), ascending, of images whose values are not in the column."""
        unread = [
            (number << BLOCK_BITS) + block.unread.astype(np.int64)
            for number, block in self.blocks.items()
            if len(block.unread)
        ]
        if not unread:
            return np.empty(0, np.int64)
        return np.flatnonzero(np.isin(numbers, np.concatenate(unread)))

    @cached_property
    def _joined(self) -> JoinedBlocks:
        return JoinedBlocks({number: block.values for number, block in self.blocks.items()})


class FieldColumns:
    """All columns as of one moment; and, shared with those after it, what was read of other fields."""

    def __init__(
        self, columns: Mapping[int, FieldColumn] | None = None, scanned: ScannedValues | None = None
    ) -> None:
        """columns: by the field's number."""
        columns = columns or {}
        self.scanned = scanned or ScannedValues()
        self._columns = MappingProxyType(dict(columns))
        self._by_path = {column.field.keys: column for column in columns.values() if column.field.is_built}

    def get(self, path: tuple[str, ...]) -> FieldColumn | None:
        """The column of a field that is declared and whose column is complete."""
        return self._by_path.get(path)

    def column(self, number: int) -> FieldColumn | None:
        """Of the field of this number, complete or not."""
        return self._columns.get(number)

    @property
    def fields(self) -> tuple[DeclaredField, ...]:
        """All that are declared, in the order of their declaration."""
        return tuple(self._columns[number].field for number in sorted(self._columns))

    def changed(self, change: FieldChange | None) -> FieldColumns:
        """After a write. Blocks that it left alone are shared."""
        if change is None:
            return self
        self.scanned.forget(change.rewritten)
        if change.declared is None and not change.blocks:
            return self
        columns = dict(self._columns)
        if change.declared is not None:
            columns = {
                field.number: (
                    replace(columns[field.number], field=field)
                    if field.number in columns
                    else FieldColumn(field, {})
                )
                for field in change.declared
            }
        blocks = {number: dict(columns[number].blocks) for number, _, _ in change.blocks if number in columns}
        for number, place, block in change.blocks:
            if number not in blocks:
                continue
            if block is None:
                blocks[number].pop(place, None)
            else:
                blocks[number][place] = block
        for number, changed in blocks.items():
            columns[number] = replace(columns[number], blocks=changed)
        return FieldColumns(columns, self.scanned)
