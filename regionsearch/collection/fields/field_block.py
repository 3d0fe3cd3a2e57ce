"""The values of one declared field in 1,024 image numbers: one row of LMDB, one piece of a column in memory.

values, texts, bytes of texts (u32), unread images (u16), flags (u8), kind of all values or 255 (u8)
| bits (i64) | instants of texts (i64, when flagged) | offsets of texts (u32, one more) | owners (u16)
| unread (u16) | kinds (u8, when mixed) | texts

little endian; the row ends in its seal (row_seals.py).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import DataLoss
from regionsearch.filters.expression import Condition
from regionsearch.filters.sorted_texts import SortedTexts
from regionsearch.filters.value_column import MIXED, ValueColumn

BLOCK_BITS = 10
BLOCK_IMAGES = 1 << BLOCK_BITS
"""Image numbers of a block: a write rewrites one such row a field, some 10 KB of numbers; opening a
collection of 125,000 images reads 122 of them a field."""
PLACE_IN_BLOCK = BLOCK_IMAGES - 1
"""The bits of an image number that are its place in its block."""
MAX_VALUES = 64
MAX_TEXT_BYTES = 1_024
"""Of one image in one field: an image that has more is read when a filter asks, so that a row is bounded
(1.7 MB) whatever payloads hold."""
_HEADER = struct.Struct("<IIIHBB")
_HAS_INSTANTS = 1


@dataclass(frozen=True, eq=False)
class FieldBlock:
    """values: of the block's images by their place in it. unread: (u,) uint16, places of images that have
    values which are not here. stamp: the row's seal, by which a changed row is told from this one."""

    values: ValueColumn
    unread: NDArray[np.uint16]
    stamp: bytes = b""

    @staticmethod
    def empty() -> FieldBlock:
        return FieldBlock(ValueColumn.empty(BLOCK_IMAGES), np.empty(0, np.uint16))

    @property
    def is_empty(self) -> bool:
        return not len(self.values.owners) and not len(self.unread)

    def changed(self, without: Iterable[int], added: Mapping[int, list[Any]]) -> FieldBlock | None:
        """The same with the values of some places gone and those of others there; None when nothing changed.

        added: by place, all values of the image as `values_at` finds them."""
        kept = {place: values for place, values in added.items() if values and not is_too_much(values)}
        unread = [place for place, values in added.items() if is_too_much(values)]
        leaving = np.zeros(BLOCK_IMAGES, bool)
        leaving[[*without, *added]] = True
        if not kept and not unread and not (leaving[self.values.owners].any() or leaving[self.unread].any()):
            return None
        remaining = self.unread[~leaving[self.unread]]
        return FieldBlock(
            self.values.changed(np.flatnonzero(leaving).tolist(), kept),
            np.sort(np.concatenate([remaining, np.array(unread, np.uint16)])),
        )

    def encoded(self, *, with_instants: bool) -> bytes:
        """Without the seal. with_instants: whether texts that are times are kept as such too."""
        values, texts = self.values, self.values.texts
        flags = _HAS_INSTANTS if with_instants else 0
        return b"".join(
            [
                _HEADER.pack(
                    len(values.bits), len(texts), len(texts.joined), len(self.unread), flags, values.kind
                ),
                values.bits.astype("<i8").tobytes(),
                texts.instants.astype("<i8").tobytes() if with_instants else b"",
                texts.offsets.astype("<u4").tobytes(),
                values.owners.astype("<u2").tobytes(),
                self.unread.astype("<u2").tobytes(),
                values.kinds.tobytes() if values.kind == MIXED else b"",
                texts.joined,
            ]
        )

    @staticmethod
    def decoded(value: bytes, stamp: bytes) -> FieldBlock:
        """Views of `value`. Raises DataLoss unless it is as long as it says."""
        if len(value) < _HEADER.size:
            raise DataLoss(f"a block of a field has {len(value)} bytes, less than its header")
        count, texts, text_bytes, unread, flags, kind = _HEADER.unpack_from(value)
        instants = texts if flags & _HAS_INSTANTS else 0
        sizes = (8 * count, 8 * instants, 4 * (texts + 1), 2 * count, 2 * unread, count * (kind == MIXED))
        ends = np.cumsum([_HEADER.size, *sizes]).tolist()
        if len(value) != ends[-1] + text_bytes:
            raise DataLoss(f"a block of a field has {len(value)} bytes, not {ends[-1] + text_bytes}")

        def array(place: int, dtype: str, length: int) -> NDArray[Any]:
            return np.frombuffer(value, dtype, length, ends[place])

        table = SortedTexts(
            value[ends[-1] :], array(2, "<u4", texts + 1), array(1, "<i8", texts) if instants else None
        )
        kinds = array(5, "u1", count) if kind == MIXED else np.full(count, kind, np.uint8)
        column = ValueColumn.of_run(
            BLOCK_IMAGES, array(3, "<u2", count), kinds, array(0, "<i8", count), table
        )
        return FieldBlock(column, array(4, "<u2", unread), stamp)


def is_too_much(values: list[Any]) -> bool:
    """Whether an image has more values, or more bytes of texts, than a block holds of one."""
    if len(values) <= 1 and not (values and isinstance(values[0], str | int | Mapping)):
        return False
    count = text_bytes = 0
    for value in values:
        count += 1
        if isinstance(value, str):
            text_bytes += len(value.encode())
        elif isinstance(value, Mapping):
            count += len(value)
            text_bytes += sum(len(key.encode()) for key in value)
        elif isinstance(value, int) and value.bit_length() > 63:
            text_bytes += len(str(value))
    return count > MAX_VALUES or text_bytes > MAX_TEXT_BYTES


class JoinedBlocks:
    """The values of many blocks as one column, so that a condition is answered for all images at once."""

    def __init__(self, values: Mapping[int, ValueColumn]) -> None:
        """values: by the block's number."""
        self._blocks = np.array(sorted(values), np.int64)
        self._column = (
            ValueColumn.joined([values[block] for block in self._blocks.tolist()]) if values else None
        )

    def truth(self, condition: Condition, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(m,) bool, the caller's: of which of the images with these numbers (m,), ascending, the condition
        holds; of none whose block is not here, as they have no values."""
        if self._column is None or not len(numbers):
            return np.zeros(len(numbers), bool)
        # One block more, of which nothing holds, for images of blocks that are not here.
        truth = np.concatenate([self._column.truth(condition), np.zeros(BLOCK_IMAGES, bool)])
        of_block = numbers >> BLOCK_BITS
        firsts = np.flatnonzero(np.concatenate([[True], of_block[1:] != of_block[:-1]]))
        blocks = of_block[firsts]
        row = np.searchsorted(self._blocks, blocks)
        row[row == len(self._blocks)] = 0
        row = np.where(self._blocks[row] == blocks, row, len(self._blocks)) << BLOCK_BITS
        places = np.repeat(row, np.diff(np.append(firsts, len(numbers))))
        places += numbers & PLACE_IN_BLOCK
        found: NDArray[np.bool_] = truth[places]
        return found
