"""Brings a catalog of format 1 to format 2: every row gets its checksum, every record is bound to its key.

Piece by piece, each in one transaction that also notes how far it came: a migration that was cut short goes
on from there. Until it is done the catalog's format is neither 1 nor 2, so that no version mistakes it.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from regionsearch.collection.environment import Environment
from regionsearch.collection.record_layout import bound_to_key
from regionsearch.collection.row_seals import seal_value
from regionsearch.collection.steps import reached
from regionsearch.errors import DataLoss

FORMAT_KEY = b"format"
MIGRATING = b"1 to 2"
_POSITION = b"migrated"
_NEXT_COLLECTION = b"next_collection"
_SUB_DATABASES = ("collections", "dropped", "counters", "backgrounds", "ids", "hashes", "pixels", "records")
_PIECE_ROWS = 2_000
_PIECE_BYTES = 16 << 20
_CHECKSUM = struct.Struct("<I")
_log = logging.getLogger(__name__)


def migrate(environment: Environment) -> None:
    """From format 1, or from where an earlier call stopped. Raises StorageFull; a later call goes on."""
    with environment.transaction(write=True) as transaction:
        transaction.put(FORMAT_KEY, MIGRATING, db=environment.database("format"))
    while _rewrite_piece(environment):
        reached("migrate: rows rewritten")
    with environment.transaction(write=True) as transaction:
        formats = environment.database("format")
        number = transaction.get(_NEXT_COLLECTION, db=formats)
        if number is not None:
            value = seal_value("format", _NEXT_COLLECTION, bytes(number))
            transaction.put(_NEXT_COLLECTION, value, db=formats)
        transaction.delete(_POSITION, db=formats)
        transaction.put(FORMAT_KEY, b"2", db=formats)


def _rewrite_piece(environment: Environment) -> bool:
    """False when no row was left."""
    formats = environment.database("format")
    with environment.transaction(write=True) as transaction:
        position = bytes(transaction.get(_POSITION, b"", db=formats))
        rewritten = [
            (name, key, _in_format_2(name, key, value))
            for name, key, value in _rows_after(environment, transaction, position)
        ]
        for name, key, value in rewritten:
            transaction.put(key, value, db=environment.database(name))
        if rewritten:
            name, key, _ = rewritten[-1]
            transaction.put(_POSITION, name.encode() + b" " + key, db=formats)
    return bool(rewritten)


def _rows_after(
    environment: Environment, transaction: Any, position: bytes
) -> Iterator[tuple[str, bytes, bytes]]:
    """A piece of the rows that are still in format 1, in the order of sub-databases and keys."""
    at_name, _, at_key = position.partition(b" ")
    first = _SUB_DATABASES.index(at_name.decode()) if position else 0
    rows = size = 0
    for name in _SUB_DATABASES[first:]:
        last = at_key if position and name == _SUB_DATABASES[first] else b""
        with transaction.cursor(db=environment.database(name)) as cursor:
            found = cursor.set_range(last) if last else cursor.first()
            while found:
                key, value = cursor.item()
                if bytes(key) != last:
                    if rows == _PIECE_ROWS or size >= _PIECE_BYTES:
                        return
                    rows += 1
                    size += len(value)
                    yield name, bytes(key), bytes(value)
                found = cursor.next()


def _in_format_2(name: str, key: bytes, value: bytes) -> bytes:
    """What is damaged stays so, and is noticed whenever it is read."""
    if name == "records":
        try:
            return bound_to_key(value, key)
        except DataLoss as error:
            _log.error("record %s is damaged, and stays so: %s", key.hex(), error.message)
            return value
    if name == "pixels":
        pixels = value[_CHECKSUM.size :]
        sealed = seal_value(name, key, pixels)
        if value[: _CHECKSUM.size] == _CHECKSUM.pack(zlib.crc32(pixels)):
            return sealed
        _log.error("kept pixels %s are damaged, and stay so", key.hex())
        return sealed[:-1] + bytes([sealed[-1] ^ 0xFF])
    return seal_value(name, key, value)
