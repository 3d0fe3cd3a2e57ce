"""Vectors read one by one from the records, where they are exact."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.environment import Environment
from regionsearch.collection.index import IMAGE_ORDINAL, image_numbers
from regionsearch.collection.inner_products import products_where_they_lie
from regionsearch.collection.record_layout import HEADER_BYTES, Buffer, vectors_of, verify
from regionsearch.collection.segments.entity_columns import EntityColumns
from regionsearch.collection.segments.record_columns import entity_columns
from regionsearch.collection.segments.view import Arm
from regionsearch.errors import DataLoss

Stored = NDArray[np.float32] | DataLoss | None
_HEAD = struct.Struct("<4sI40xII")
"""Magic, checksum of the rest of the header, entities and dimension."""
_KEY = struct.Struct(">4sQ")
"""Of a record: the collection's prefix and the image's number."""
_MAGIC = b"RSR1"
_CHECKED_FROM = 8
_IMAGES_A_PIECE = 64
"""Records read in one transaction while a segment is built: short enough to hold up nobody."""
_IMAGES_A_SCAN = 1_000

Missing = Callable[[NDArray[np.int64], int], None]
"""Told the numbers of images whose records are not there, and the generation at which they were missed.
Raises DataLoss unless a write has buried them all."""
LeaveOut = Callable[[Mapping[int, DataLoss]], None]
"""Told by image number which records are damaged, in no transaction: searches go on without those images."""


class RecordVectors:
    """Of one collection."""

    def __init__(
        self,
        environment: Environment,
        rows: CollectionRows,
        dimension: int,
        missing: Missing,
        leave_out: LeaveOut,
    ) -> None:
        self.dimension = dimension
        self.name = rows.name
        self.missing = missing
        self.leave_out = leave_out
        self._environment = environment
        self._rows = rows
        self._prefix = rows.record_key(0)[:-8]
        self._database = environment.database("records")

    def of_rows(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Of n rows by their 63-bit ids, which ascend: the vectors (m, d) float32 of those whose records are
        sound, and which those are, (n,) bool; the others were buried meanwhile, or are left out from now on.

        Each record is read once, its header's checksum compared; not that of its body, which would take
        longer than the search. One whose header is damaged, or that lacks the entity, is left out. Raises
        DataLoss when a record is missing that no write has buried.
        """
        numbers, ordinals = image_numbers(ids), ids & IMAGE_ORDINAL
        ordinals[ordinals == IMAGE_ORDINAL] = -1  # an image's own vector comes before those of its entities
        width = 4 * self.dimension
        starts = (HEADER_BYTES + width * (1 + ordinals)).tolist()
        prefix, packed = self._prefix, _KEY.pack
        read: list[Buffer] = []
        missing: list[int] = []
        damaged: list[int] = []
        # One loop without a call of ours in it: it is most of what a search takes beside FAISS.
        head, checksum = _HEAD.unpack_from, zlib.crc32
        with self._environment.transaction() as transaction:
            get, database = transaction.get, self._database
            for row, (number, start) in enumerate(zip(numbers.tolist(), starts, strict=True)):
                key = packed(prefix, number)
                value = get(key, None, database)
                if value is None:
                    missing.append(row)
                    continue
                end = start + width
                if len(value) < end:
                    damaged.append(row)
                    continue
                magic, expected, _, dimension = head(value)
                if (
                    magic != _MAGIC
                    or checksum(value[_CHECKED_FROM:HEADER_BYTES], checksum(key)) != expected
                    or dimension != self.dimension
                ):
                    damaged.append(row)
                    continue
                read.append(value[start:end])
            generation = self._rows.counters(transaction).generation if missing else 0
            vectors = np.frombuffer(b"".join(read), np.float32).reshape(len(read), self.dimension)
        there = np.ones(len(ids), bool)
        if missing:
            there[missing] = False
            self.missing(np.unique(numbers[missing]), generation)
        if damaged:
            there[damaged] = False
            self.leave_out({number: self._damaged() for number in numbers[damaged].tolist()})
        return vectors, there

    def products(
        self, arm: Arm, numbers: NDArray[np.int64], counts: NDArray[np.int64], vector: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Exact similarities to `vector` (d,) of all entities, or the own vectors, of these images, which
        have `counts` entities: (rows,) float32, -inf where a record was buried meanwhile or its header is
        damaged. Raises as above, and DataLoss when a sound record has other entities."""
        found: list[NDArray[np.float32]] = []
        for first in range(0, len(numbers), _IMAGES_A_SCAN):
            some = numbers[first : first + _IMAGES_A_SCAN].tolist()
            blocks: list[NDArray[np.float32]] = []
            gone: list[int] = []
            damaged: dict[int, DataLoss] = {}
            with self._environment.transaction() as transaction:
                for number, count in zip(some, counts[first : first + _IMAGES_A_SCAN].tolist(), strict=True):
                    value = self._rows.record(transaction, number)
                    rows, at = (count, 1) if arm == "entities" else (1, 0)
                    entities = None if value is None else self._entities(number, value)
                    if value is None or entities is None:
                        if value is None:
                            gone.append(number)
                        else:
                            damaged[number] = self._damaged()
                        blocks.append(np.full((rows, self.dimension), np.nan, np.float32))
                        continue
                    if entities != count:
                        raise DataLoss(f"image number {number} has other entities than it was indexed with")
                    at = HEADER_BYTES + 4 * at * self.dimension
                    block = np.frombuffer(value, np.float32, rows * self.dimension, at)
                    blocks.append(block.reshape(rows, self.dimension))
                found.append(products_where_they_lie(blocks, [vector])[0])
                generation = self._rows.counters(transaction).generation if gone else 0
            if gone:
                self.missing(np.array(gone, np.int64), generation)
            if damaged:
                self.leave_out(damaged)
        products = np.concatenate(found) if found else np.empty(0, np.float32)
        products[np.isnan(products)] = -np.inf
        return products

    def pieces(self, numbers: NDArray[np.int64]) -> Iterator[list[tuple[int, Stored]]]:
        """Whole images in the order asked, a few at a time, each transaction closed before they are handed
        on: (number, its (1 + n, d) vectors, copied), None in their place for a record that is not there, and
        DataLoss for one that is damaged, which reading every byte of it shows."""
        for first in range(0, len(numbers), _IMAGES_A_PIECE):
            piece: list[tuple[int, Stored]] = []
            with self._environment.transaction() as transaction:
                for number in numbers[first : first + _IMAGES_A_PIECE].tolist():
                    value = self._rows.record(transaction, number)
                    piece.append((number, None if value is None else self._verified(number, value)))
            yield piece

    def columns(self, first: int, last: int) -> Iterator[tuple[int, int, EntityColumns]]:
        """(image number, how many entities it has, their columns) of the images from `first` to `last` whose
        records are sound."""
        at: int | None = first
        while at is not None:
            piece: list[tuple[int, int, EntityColumns]] = []
            following = None
            with self._environment.transaction() as transaction:
                for count, (number, value) in enumerate(self._rows.records_from(transaction, at)):
                    if number > last:
                        break
                    if count == _IMAGES_A_SCAN:
                        following = number
                        break
                    key = self._rows.record_key(number)
                    try:
                        header = verify(value, key)
                        piece.append((number, header.entities, entity_columns(value, key, header)))
                    except DataLoss:
                        continue  # whoever counts the images finds that one is left out, and says so
            yield from piece
            at = following

    def _verified(self, number: int, value: Buffer) -> NDArray[np.float32] | DataLoss:
        try:
            return vectors_of(value, verify(value, self._rows.record_key(number))).copy()
        except DataLoss as error:
            return error

    def _entities(self, number: int, value: Buffer) -> int | None:
        """How many the record has; None when its header is damaged."""
        if len(value) >= HEADER_BYTES:
            magic, checksum, entities, dimension = _HEAD.unpack_from(value)
            key = zlib.crc32(self._rows.record_key(number))
            if (
                magic == _MAGIC
                and zlib.crc32(value[_CHECKED_FROM:HEADER_BYTES], key) == checksum
                and dimension == self.dimension
                and len(value) >= HEADER_BYTES + 4 * dimension * (1 + entities)
            ):
                return int(entities)
        return None

    def _damaged(self) -> DataLoss:
        return DataLoss("its record's header is damaged; delete the image or index it again")
