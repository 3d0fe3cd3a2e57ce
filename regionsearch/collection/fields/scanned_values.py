"""Values of fields without a column: read from records when a filter asks, remembered within bounds."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.fields.field_block import BLOCK_BITS, BLOCK_IMAGES, PLACE_IN_BLOCK
from regionsearch.collection.record_layout import Buffer, format_time, read_header
from regionsearch.errors import DataLoss
from regionsearch.filters.expression import Field, Instant
from regionsearch.filters.meaning import ImageFacts
from regionsearch.filters.payload_values import values_at
from regionsearch.filters.value_column import ValueColumn

REMEMBERED_BYTES = 64 << 20
"""Of values of one collection: some twenty fields of 125,000 images."""
_FIELDS_BEFORE_A_COUNT = 256
_RECORDS_AT_ONCE = 256
"""Read between two chances for other threads: some 2 ms."""


@dataclass(frozen=True, eq=False)
class KnownValues:
    """Of a field in one block: whose values are known, (1024,) bool, and the values."""

    known: NDArray[np.bool_]
    values: ValueColumn

    @property
    def bytes(self) -> int:
        return self.values.bytes + BLOCK_IMAGES


class ScannedValues:
    """Shared by all views of one open collection; payloads that change are forgotten when they do."""

    def __init__(self, *, remembered_bytes: int = REMEMBERED_BYTES) -> None:
        self._room = remembered_bytes
        self._bytes = 0
        self._blocks: OrderedDict[tuple[Field, int], KnownValues] = OrderedDict()
        self._fields: set[Field] = set()
        self._changing = threading.Lock()
        # Payloads that change while a scan is under way, which may have read them before.
        self._changed_meanwhile: list[set[int]] = []

    def forget(self, numbers: Iterable[int]) -> None:
        """Called when the payloads of these images have changed, before the write is acknowledged."""
        places: dict[int, list[int]] = {}
        with self._changing:
            for number in numbers:
                places.setdefault(number >> BLOCK_BITS, []).append(number & PLACE_IN_BLOCK)
                for changed in self._changed_meanwhile:
                    changed.add(number)
            for field in self._fields if self._blocks else ():
                for block in places:
                    remembered = self._blocks.get((field, block))
                    if remembered is not None and remembered.known[places[block]].any():
                        known = remembered.known.copy()
                        known[places[block]] = False
                        self._blocks[field, block] = KnownValues(known, remembered.values)

    @contextmanager
    def watched(self) -> Iterator[set[int]]:
        """Numbers of images whose payload changes meanwhile, as they do."""
        changed: set[int] = set()
        with self._changing:
            self._changed_meanwhile.append(changed)
        try:
            yield changed
        finally:
            with self._changing:
                self._changed_meanwhile = [each for each in self._changed_meanwhile if each is not changed]

    def remembered(self, field: Field, block: int) -> KnownValues:
        """What is known of a field in a block."""
        with self._changing:
            found = self._blocks.get((field, block))
            if found is not None:
                self._blocks.move_to_end((field, block))
                return found
        return KnownValues(np.zeros(BLOCK_IMAGES, bool), ValueColumn.empty(BLOCK_IMAGES))

    def remember(self, field: Field, block: int, new: KnownValues, changed: set[int]) -> None:
        """All but what changed since it was read."""
        with self._changing:
            stale = [number & PLACE_IN_BLOCK for number in changed if number >> BLOCK_BITS == block]
            if stale:
                known = new.known.copy()
                known[stale] = False
                new = KnownValues(known, new.values)
            old = self._blocks.pop((field, block), None)
            self._bytes += new.bytes - (0 if old is None else old.bytes)
            self._blocks[field, block] = new
            while self._bytes > self._room:
                _, dropped = self._blocks.popitem(last=False)
                self._bytes -= dropped.bytes
            self._fields.add(field)
            if len(self._fields) > _FIELDS_BEFORE_A_COUNT:
                self._fields = {each for each, _ in self._blocks}


class Scanning:
    """What one filter reads. records_read: so far. missing: numbers of images whose record was gone.
    damaged: those whose record is damaged."""

    def __init__(
        self,
        remembered: ScannedValues,
        rows: CollectionRows,
        transaction: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        """transaction: begins one to read in; each piece has one of its own."""
        self._remembered = remembered
        self._rows = rows
        self._transaction = transaction
        self.records_read = 0
        self.missing: set[int] = set()
        self.damaged: dict[int, DataLoss] = {}

    def values(
        self, fields: Sequence[Field], numbers: NDArray[np.int64]
    ) -> dict[Field, dict[int, ValueColumn]]:
        """By field, of payloads and images, and by block: the values of the images of these numbers, which
        ascend; those of others may be missing or old.

        Reads the records of those that are not remembered, each once for all fields, in pieces between
        which other threads get their turn. Raises CollectionNotFound.
        """
        of_block = numbers >> BLOCK_BITS
        bounds = np.flatnonzero(np.concatenate([[True], of_block[1:] != of_block[:-1], [True]])).tolist()
        values: dict[Field, dict[int, ValueColumn]] = {field: {} for field in fields}
        with self._remembered.watched() as changed:
            for first, end in pairwise(bounds):
                block = int(of_block[first])
                places = numbers[first:end] & PLACE_IN_BLOCK
                for field, column in self._block_values(fields, block, places, changed):
                    values[field][block] = column
        return values

    def _block_values(
        self, fields: Sequence[Field], block: int, places: NDArray[np.int64], changed: set[int]
    ) -> Iterator[tuple[Field, ValueColumn]]:
        remembered = {field: self._remembered.remembered(field, block) for field in fields}
        unknown = {field: places[~remembered[field].known[places]] for field in fields}
        to_read = np.unique(np.concatenate(list(unknown.values())))
        keys = tuple({field.path[0] for field in fields if field.root == "payload" and len(unknown[field])})
        facts = self._read((to_read + (block << BLOCK_BITS)).tolist(), keys)
        for field, old in remembered.items():
            if not len(unknown[field]):
                yield field, old.values
                continue
            asked = unknown[field].tolist()
            found = {place: values_of(field, facts[place]) for place in asked if place in facts}
            known = old.known.copy()
            known[unknown[field]] = True
            # The column still holds the old values of images that were forgotten; they go here.
            new = KnownValues(known, old.values.changed(asked, found))
            self._remembered.remember(field, block, new, changed)
            yield field, new.values

    def _read(self, numbers: list[int], keys: tuple[str, ...]) -> dict[int, ImageFacts]:
        """By place in their block. keys: of the payload, that are asked for."""
        facts: dict[int, ImageFacts] = {}
        for begin in range(0, len(numbers), _RECORDS_AT_ONCE):
            with self._transaction() as transaction:
                self._rows.counters(transaction)
                for number in numbers[begin : begin + _RECORDS_AT_ONCE]:
                    value = self._rows.record(transaction, number)
                    if value is None:
                        self.missing.add(number)
                        continue
                    key = self._rows.record_key(number)
                    self.records_read += 1
                    try:
                        facts[number & PLACE_IN_BLOCK] = facts_of(value, key, number, keys)
                    except DataLoss as error:
                        self.damaged[number] = error
            # Lets go of the interpreter's lock: searches and writes beside a long scan do not wait for it.
            time.sleep(0)
        return facts


def facts_of(value: Buffer, key: bytes, number: int, keys: tuple[str, ...] | None = None) -> ImageFacts:
    """What filters ask of an image, from its record, of which only the header's checksum is compared.

    keys: of the payload, that matter: one that has none of them is not parsed, and comes empty; None: all do.
    Raises DataLoss."""
    header = read_header(value, key)
    start = header.id_start
    labels = start + header.id_bytes
    payload = labels + header.labels_bytes
    coded = bytes(value[payload : payload + header.payload_bytes])
    if keys is not None and not any(_written(each) in coded for each in keys):
        coded = b""
    try:
        return ImageFacts(
            id=str(value[start:labels], "utf-8"),
            width=header.width,
            height=header.height,
            entities=header.entities,
            version=header.version,
            updated=header.updated,
            content_hash=header.content_hash,
            payload=json.loads(coded) if coded else {},
        )
    except ValueError as error:
        raise DataLoss(f"the record of image number {number} cannot be read: {error}") from error


@lru_cache(1_024)
def _written(key: str) -> bytes:
    """A key as payloads are encoded (record_layout.encode_payload)."""
    return json.dumps(key, ensure_ascii=False).encode()


def values_of(field: Field, facts: ImageFacts) -> Sequence[Any]:
    """The values of a field of the payload or the image; times as texts."""
    if field.root == "payload":
        return values_at(facts.payload, field.path)
    value = facts.value(field.path[0])
    if value is None:
        return ()
    return (format_time(value.microseconds),) if isinstance(value, Instant) else (value,)
