"""Makes the small rows of one collection anew from its records, in bounded transactions."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from regionsearch.collection.catalog import CollectionRows, Counters, IdRow
from regionsearch.collection.environment import Environment
from regionsearch.collection.record_layout import verify
from regionsearch.collection.row_seals import SEAL_BYTES, is_sealed, open_value, seal_value
from regionsearch.errors import RegionSearchError

_PIECE_ROWS = 2_000
_COLLECTION = struct.Struct(">I")
_NUMBER = struct.Struct(">Q")
_PREFIX_BYTES = 4
_SKIPPED_NUMBERS = 1 << 20
"""When a collection has lost the note of its next image number, this many are left out: numbers are never
used again, and those of deleted images are not known any more."""

Change = tuple[str, bytes, bytes | None]
"""Sub-database, key, and the value to put, or None to delete."""


@dataclass(slots=True)
class _Records:
    """rows: by number, the key and the row in `ids` that the record gives it. damaged: numbers. hashes: keys
    in `hashes`."""

    rows: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    damaged: list[int] = field(default_factory=list)
    hashes: set[bytes] = field(default_factory=set)
    entities: int = 0
    stored_bytes: int = 0
    last_number: int = 0


def mend_rows(
    environment: Environment, rows: CollectionRows, *, drop_damaged: bool, check: Callable[[], None]
) -> None:
    """ids, hashes, kept pictures and counters of a collection agree with its records afterwards.

    drop_damaged: damaged records and kept pictures are deleted; otherwise they stay, as does the row of
    `ids` that leads to a damaged record. Raises StorageFull; what was mended until then stays so.
    """
    prefix = _COLLECTION.pack(rows.number)
    with environment.transaction() as transaction:
        records = _read_records(transaction, rows, check)
        changes = [
            *_changes_of_records(records, rows, drop_damaged),
            *_changes_of_ids(transaction, environment, prefix, records, drop_damaged),
            *_changes_of_hashes(transaction, environment, prefix, records),
            *_changes_of_pixels(transaction, environment, prefix, records, drop_damaged),
        ]
    apply_changes(environment, changes, check)
    with environment.transaction(write=True) as transaction:
        rows.put_counters(transaction, _counted(transaction, environment, rows, prefix, records))


def apply_changes(environment: Environment, changes: Sequence[Change], check: Callable[[], None]) -> None:
    """In transactions of a bounded number of rows."""
    for start in range(0, len(changes), _PIECE_ROWS):
        check()
        with environment.transaction(write=True) as transaction:
            for database, key, value in changes[start : start + _PIECE_ROWS]:
                if value is None:
                    transaction.delete(key, db=environment.database(database))
                else:
                    transaction.put(key, value, db=environment.database(database))


def rows_with(
    transaction: Any, environment: Environment, database: str, prefix: bytes
) -> Iterator[tuple[bytes, memoryview]]:
    """Keys and values, views of the map, of all rows of a sub-database whose keys begin so."""
    with transaction.cursor(db=environment.database(database)) as cursor:
        if cursor.set_range(prefix) if prefix else cursor.first():
            for key, value in cursor.iternext():
                if key[: len(prefix)] != prefix:
                    return
                yield bytes(key), value


def _read_records(transaction: Any, rows: CollectionRows, check: Callable[[], None]) -> _Records:
    found = _Records()
    prefix = _COLLECTION.pack(rows.number)
    for number, value in rows.records_from(transaction, 0):
        if number % _PIECE_ROWS == 0:
            check()
        found.last_number = number
        try:
            header = verify(value, rows.record_key(number))
        except RegionSearchError:
            found.damaged.append(number)
            continue
        image_id = bytes(value[header.id_start : header.id_start + header.id_bytes])
        found.rows[number] = (prefix + image_id, IdRow.of(header).pack())
        if header.content_hash:
            found.hashes.add(prefix + bytes.fromhex(header.content_hash) + _NUMBER.pack(number))
    return found


def _changes_of_records(records: _Records, rows: CollectionRows, drop_damaged: bool) -> Iterator[Change]:
    if drop_damaged:
        for number in records.damaged:
            yield "records", rows.record_key(number), None


def _changes_of_ids(
    transaction: Any, environment: Environment, prefix: bytes, records: _Records, drop_damaged: bool
) -> Iterator[Change]:
    due = dict(records.rows.values())
    kept = set() if drop_damaged else set(records.damaged)
    for key, value in rows_with(transaction, environment, "ids", prefix):
        wanted = due.pop(key, None)
        sealed = is_sealed("ids", key, value)
        if wanted is not None:
            if not sealed or bytes(value[:-SEAL_BYTES]) != wanted:
                yield "ids", key, seal_value("ids", key, wanted)
        elif not sealed or IdRow.unpack(value[:-SEAL_BYTES]).number not in kept:
            yield "ids", key, None
    for key, wanted in due.items():
        yield "ids", key, seal_value("ids", key, wanted)


def _changes_of_hashes(
    transaction: Any, environment: Environment, prefix: bytes, records: _Records
) -> Iterator[Change]:
    due = set(records.hashes)
    for key, value in rows_with(transaction, environment, "hashes", prefix):
        if key not in due:
            yield "hashes", key, None
        elif is_sealed("hashes", key, value):
            due.discard(key)
    for key in due:
        yield "hashes", key, seal_value("hashes", key, b"")


def _changes_of_pixels(
    transaction: Any, environment: Environment, prefix: bytes, records: _Records, drop_damaged: bool
) -> Iterator[Change]:
    damaged = set(records.damaged)
    for key, value in rows_with(transaction, environment, "pixels", prefix):
        number = _NUMBER.unpack(key[_PREFIX_BYTES:])[0]
        belongs = number in records.rows or (number in damaged and not drop_damaged)
        if not belongs or (drop_damaged and not is_sealed("pixels", key, value)):
            yield "pixels", key, None


def _counted(
    transaction: Any, environment: Environment, rows: CollectionRows, prefix: bytes, records: _Records
) -> Counters:
    """Of what is there now, as the next generation."""
    stored = transaction.get(prefix, db=environment.database("counters"))
    if stored is not None and is_sealed("counters", prefix, stored):
        before = Counters.unpack(open_value("counters", prefix, stored))
    else:
        before = Counters(next_number=records.last_number + _SKIPPED_NUMBERS)
    images = entities = 0
    for key, value in rows_with(transaction, environment, "ids", prefix):
        images += 1
        entities += IdRow.unpack(open_value("ids", key, value)).entities
    size = sum(len(value) for _, value in rows_with(transaction, environment, "records", prefix))
    size += sum(len(value) - SEAL_BYTES for _, value in rows_with(transaction, environment, "pixels", prefix))
    return replace(
        before,
        images=images,
        entities=entities,
        stored_bytes=size,
        generation=before.generation + 1,
        next_number=max(before.next_number, records.last_number + 1),
    )
