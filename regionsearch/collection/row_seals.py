"""A checksum at the end of every small row of the catalog, which LMDB does not keep itself.

It covers the name of the sub-database and the key as well as the value: a damaged page can also hand out
the right value of another row. Records have one of their own (record_layout.py), and the sub-database
`format` none: it must be readable by every version.
"""

from __future__ import annotations

import functools
import struct
import zlib

from regionsearch.errors import DataLoss

Buffer = bytes | memoryview

_SEAL = struct.Struct("<I")
SEAL_BYTES = _SEAL.size


@functools.cache
def _start(database: str) -> int:
    return zlib.crc32(database.encode())


def seal_value(database: str, key: Buffer, value: Buffer) -> bytes:
    """The value as it is stored: itself, then 4 bytes (crc32 of name, key and value, little endian)."""
    seal = zlib.crc32(value, zlib.crc32(key, _start(database)))
    return b"".join((value, _SEAL.pack(seal)))


def open_value(database: str, key: Buffer, stored: Buffer) -> Buffer:
    """The value without its seal, of the type that was given: a view stays a view. Raises DataLoss naming
    the row when they do not match."""
    value = stored[:-SEAL_BYTES]
    if len(stored) < SEAL_BYTES or stored[-SEAL_BYTES:] != _SEAL.pack(
        zlib.crc32(value, zlib.crc32(key, _start(database)))
    ):
        raise DataLoss(f"row {bytes(key).hex()} of '{database}' in the catalog does not match its checksum")
    return value


def is_sealed(database: str, key: Buffer, stored: Buffer) -> bool:
    """Whether `open_value` would open it."""
    try:
        open_value(database, key, stored)
    except DataLoss:
        return False
    return True
