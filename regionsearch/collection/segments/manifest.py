"""Which index segments a collection has: rows of the sub-database `segments`.

key                                     | value
collection                              | the number of the next segment: it changes with every publication
collection, segment number (u64)        | JSON: what the segment covers and the checksums of its files
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regionsearch.collection.environment import Environment
from regionsearch.collection.row_seals import open_value, seal_value
from regionsearch.collection.segments.checksums import FileSum

_DATABASE = "segments"
_COLLECTION = struct.Struct(">I")
_KEY = struct.Struct(">IQ")
_NEXT = struct.Struct("<Q")


@dataclass(frozen=True, eq=False)
class SegmentRow:
    """One published segment.

    number: in its collection, never used again. first, last: image numbers that it covers, ends included; no
    other segment covers one of them. images, entities: rows in its files, dead ones included. files: all of
    its files. entity_index, image_index: kind and parameters of the two indexes, as they were built.
    """

    number: int
    first: int
    last: int
    images: int
    entities: int
    files: tuple[FileSum, ...]
    entity_index: Mapping[str, Any]
    image_index: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def pack(self) -> bytes:
        return json.dumps(
            {
                "first": self.first,
                "last": self.last,
                "images": self.images,
                "entities": self.entities,
                "files": {file.name: [file.size, *file.checksums] for file in self.files},
                "entity_index": dict(self.entity_index),
                "image_index": dict(self.image_index),
            }
        ).encode()

    @staticmethod
    def unpack(number: int, value: bytes) -> SegmentRow:
        fields = json.loads(value)
        files = tuple(
            FileSum(name, size, tuple(checksums)) for name, (size, *checksums) in fields.pop("files").items()
        )
        return SegmentRow(number=number, files=files, **fields)


class Manifest:
    """The segments of one collection, read and changed in transactions that the caller holds.

    Rows that do not match their checksum raise DataLoss.
    """

    def __init__(self, environment: Environment, collection: int) -> None:
        self._database = environment.database(_DATABASE)
        self._collection = collection
        self._prefix = _COLLECTION.pack(collection)

    def next_number(self, transaction: Any) -> int:
        """Equal numbers mean equal segments."""
        value = transaction.get(self._prefix, db=self._database)
        return 1 if value is None else int(_NEXT.unpack(open_value(_DATABASE, self._prefix, value))[0])

    def segments(self, transaction: Any) -> list[SegmentRow]:
        """Ascending by the image numbers that they cover."""
        rows = []
        with transaction.cursor(db=self._database) as cursor:
            found = cursor.set_range(self._prefix)
            while found and (key := bytes(cursor.key()))[: len(self._prefix)] == self._prefix:
                if len(key) == _KEY.size:
                    value = bytes(open_value(_DATABASE, key, cursor.value()))
                    rows.append(SegmentRow.unpack(_KEY.unpack(key)[1], value))
                found = cursor.next()
        return sorted(rows, key=lambda row: row.first)

    def change(self, transaction: Any, added: Sequence[SegmentRow], removed: Sequence[int]) -> None:
        """Takes segments out by their numbers and puts others in, whose numbers are the next ones."""
        next_number = self.next_number(transaction)
        for number in removed:
            transaction.delete(_KEY.pack(self._collection, number), db=self._database)
        for row in added:
            key = _KEY.pack(self._collection, row.number)
            transaction.put(key, seal_value(_DATABASE, key, row.pack()), db=self._database)
            next_number = max(next_number, row.number)
        following = seal_value(_DATABASE, self._prefix, _NEXT.pack(next_number + 1))
        transaction.put(self._prefix, following, db=self._database)
