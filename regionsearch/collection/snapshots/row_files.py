"""Rows of a collection as files: each row with its sub-database, its key and its value, one after the other.

A file begins with 8 bytes of magic. A row is u8 sub-database (its place in DATABASES), u16 bytes of the
key, u32 bytes of the value (little endian), key, value. Keys lack the collection's number, and values
are sealed as those of collection 0, which no collection has: a row belongs to no directory until it is
bound to its new place. Every row is checked on its way out and on its way in.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from regionsearch.collection.environment import Environment
from regionsearch.collection.record_layout import HEADER_BYTES, Buffer, verify
from regionsearch.collection.records import MAX_IMAGE_ID_BYTES
from regionsearch.collection.row_seals import open_value, seal_value
from regionsearch.errors import DataLoss

MAGIC = b"RSROWS1\n"
DATABASES = ("ids", "records", "hashes", "pixels", "backgrounds", "segments", "fields")
"""Counters are in the manifest; results of writes with an idempotency key are not copied."""
FILE_BYTES = 16 << 20
"""A file of rows ends with the row that reaches this; bounds the memory of whoever reads or writes one."""
MAX_KEY_BYTES = 511 - 4
_ROW = struct.Struct("<BHI")
_COLLECTION = struct.Struct(">I")
_NOWHERE = _COLLECTION.pack(0)
_NUMBER = struct.Struct(">Q")


def rebound(database: str, value: Buffer, old_key: bytes, new_key: bytes) -> bytes:
    """A row's value for another key, its checksum verified under the old one. Raises DataLoss."""
    if database != "records":
        return seal_value(database, new_key, open_value(database, old_key, value))
    header = verify(value, old_key)
    if header.number != _NUMBER.unpack(old_key[_COLLECTION.size :])[0]:
        raise DataLoss("a record is that of another image number")
    return b"".join((header.pack(new_key), value[HEADER_BYTES:]))


def collection_rows(
    environment: Environment, transaction: Any, number: int
) -> Iterator[tuple[str, bytes, bytes]]:
    """All rows of a collection as (sub-database, key without the number, value as in a snapshot).

    Raises DataLoss, naming the row, when one does not match its checksum.
    """
    prefix = _COLLECTION.pack(number)
    for database in DATABASES:
        with transaction.cursor(db=environment.database(database)) as cursor:
            if not cursor.set_range(prefix):
                continue
            for key, value in cursor.iternext():
                if key[: len(prefix)] != prefix:
                    break
                own = bytes(key[len(prefix) :])
                yield database, own, taken(database, own, value, number)


def taken(database: str, key: bytes, value: Buffer, number: int) -> bytes:
    """The value as in a snapshot, of a row of a collection. Raises DataLoss."""
    try:
        return rebound(database, value, _COLLECTION.pack(number) + key, _NOWHERE + key)
    except DataLoss as error:
        raise DataLoss(
            f"row {key.hex()} of '{database}' is damaged: {error.message}; delete the image or index it again"
        ) from error


_KEY_BYTES = {
    "ids": (1, MAX_IMAGE_ID_BYTES),
    "records": (8, 8),
    "hashes": (40, 40),
    "pixels": (8, 8),
    "backgrounds": (0, 0),
    "segments": (0, MAX_KEY_BYTES),
    "fields": (1, MAX_KEY_BYTES),
}
"""Fewest and most that a key of each sub-database has behind the collection's number."""


def placed(where: str, database: str, key: bytes, value: Buffer, number: int) -> tuple[bytes, bytes]:
    """Key and value that a row of a snapshot has in the collection of this number.

    where: names the snapshot in errors. Raises DataLoss.
    """
    new_key = _COLLECTION.pack(number) + key
    try:
        return new_key, rebound(database, value, _NOWHERE + key, new_key)
    except DataLoss as error:
        raise DataLoss(f"{where}: row {key.hex()} of '{database}': {error.message}") from error


def unsealed(where: str, database: str, key: bytes, value: Buffer) -> Buffer:
    """What a row of a snapshot says, without its seal; of a record, the record. Raises DataLoss."""
    placed(where, database, key, value, 0)
    return value if database == "records" else open_value(database, _NOWHERE + key, value)


def sealed(database: str, key: bytes, value: Buffer) -> bytes:
    """A value as in a snapshot, of any row but a record."""
    return seal_value(database, _NOWHERE + key, value)


class RowFile:
    """Collects rows until they fill a file."""

    def __init__(self) -> None:
        self._bytes = bytearray(MAGIC)

    def __len__(self) -> int:
        return len(self._bytes)

    @property
    def full(self) -> bool:
        return len(self._bytes) >= FILE_BYTES

    def add(self, database: str, key: bytes, value: bytes) -> None:
        self._bytes += _ROW.pack(DATABASES.index(database), len(key), len(value))
        self._bytes += key
        self._bytes += value

    @property
    def empty(self) -> bool:
        return len(self._bytes) == len(MAGIC)

    def take(self) -> bytes:
        """What was collected; what comes next begins another file."""
        whole = bytes(self._bytes)
        self._bytes = bytearray(MAGIC)
        return whole


def rows_of(file: bytes, where: str) -> Iterator[tuple[str, bytes, memoryview]]:
    """(sub-database, key, value as in a snapshot) of a file's rows, in order; values are views.

    where: names the file in errors. Raises DataLoss when it does not consist of rows.
    """
    if file[: len(MAGIC)] != MAGIC:
        raise DataLoss(f"{where} is no file of rows")
    view = memoryview(file)
    at = len(MAGIC)
    while at < len(file):
        if len(file) - at < _ROW.size:
            raise DataLoss(f"{where} ends within a row")
        place, key_bytes, value_bytes = _ROW.unpack_from(file, at)
        at += _ROW.size
        if place >= len(DATABASES):
            raise DataLoss(f"{where} has a row of no sub-database that a collection has")
        fewest, most = _KEY_BYTES[DATABASES[place]]
        if not fewest <= key_bytes <= most:
            raise DataLoss(f"{where} has a key of {key_bytes} bytes, which '{DATABASES[place]}' has not")
        if len(file) - at < key_bytes + value_bytes:
            raise DataLoss(f"{where} ends within a row")
        key = bytes(view[at : at + key_bytes])
        at += key_bytes + value_bytes
        yield DATABASES[place], key, view[at - value_bytes : at]
