"""The bytes of a record on its way to disk; record_layout.py says what they mean."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.record_layout import (
    HEADER_BYTES,
    LONG_RUN,
    MAGIC,
    PREFIX,
    SOURCES,
    Buffer,
    Header,
    vectors_of,
    verify,
)
from regionsearch.collection.records import ImageRecord
from regionsearch.errors import DataLoss

_SOURCE_CODES = {source: code for code, source in enumerate(SOURCES)}
# Number, version and time of a header, which are known last.
_NUMBERS = struct.Struct("<QQq")
_NUMBERS_AT = 16
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=dict)


@dataclass(frozen=True, eq=False, slots=True)
class EncodedRecord:
    """A checked record on its way to disk; number, version and time are the writer's to fill in.

    header: without them (0). value: header and body.
    """

    image_id: str
    header: Header
    value: bytearray
    pixels: bytes | None

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(1 + n, d), where they lie in the value."""
        return vectors_of(memoryview(self.value), self.header)

    def numbered(self, key: Buffer, number: int, version: int, updated: int) -> bytearray:
        """The value for a row, which is this record's own and changes with the next call.

        Raises DataLoss when the body no longer matches the checksum that it was given.
        """
        value = self.value
        if zlib.crc32(memoryview(value)[HEADER_BYTES:]) != self.header.body_checksum:
            raise DataLoss(f"image '{self.image_id}' changed in memory before it was written")
        _NUMBERS.pack_into(value, _NUMBERS_AT, number, version, updated)
        rest = memoryview(value)[PREFIX.size : HEADER_BYTES]
        PREFIX.pack_into(value, 0, MAGIC, zlib.crc32(rest, zlib.crc32(key)))
        return value

    def without_number(self) -> bytes:
        """All that the caller gave, but for pixels."""
        return b"".join((self.header.pack(b""), memoryview(self.value)[HEADER_BYTES:]))


def encode_record(
    record: ImageRecord, payload: bytes, lengths: NDArray[np.integer[Any]], runs: NDArray[np.uint32]
) -> EncodedRecord:
    """A record that was checked. payload: as `encode_payload` gives it. lengths: (n,), runs of each mask;
    runs: of all its masks, one after the other."""
    entities = record.entities
    count = len(entities)
    image_id = record.image_id.encode()
    labels = b"" if all(label is None for label in entities.labels) else _json(list(entities.labels))
    sources = bytes(map(_SOURCE_CODES.__getitem__, entities.label_sources))
    long_runs = runs[runs >= LONG_RUN]
    value = bytearray().join(
        (
            bytes(HEADER_BYTES),
            _laid_out(record.vectors, "<f4"),
            _laid_out(entities.boxes, "<f4"),
            _laid_out(entities.areas, "<f4"),
            _laid_out(entities.objectness, "<f4"),
            _laid_out(lengths, "<u4"),
            sources,
            image_id,
            labels,
            payload,
            _laid_out(np.minimum(runs, LONG_RUN), "<u2"),
            _laid_out(long_runs, "<u4"),
        )
    )
    header = Header(
        body_checksum=zlib.crc32(memoryview(value)[HEADER_BYTES:]),
        number=0,
        version=0,
        updated=0,
        width=int(record.width),
        height=int(record.height),
        entities=count,
        dimension=record.vectors.shape[1],
        content_hash=record.content_hash,
        id_bytes=len(image_id),
        labels_bytes=len(labels),
        payload_bytes=len(payload),
        runs=len(runs),
        long_runs=len(long_runs),
    )
    value[:HEADER_BYTES] = header.pack(b"")
    return EncodedRecord(record.image_id, header, value, record.pixels)


def with_payload(value: Buffer, key: bytes, payload: bytes, version: int, updated: int) -> bytes:
    """The record of a row with another payload (as `encode_payload` gives it), version and time.

    Reads every byte first, so that damage is not written anew under a fresh checksum. Raises DataLoss.
    """
    header = verify(value, key)
    start = header.id_start + header.id_bytes + header.labels_bytes
    body = b"".join([value[HEADER_BYTES:start], payload, value[start + header.payload_bytes :]])
    header = header._replace(
        body_checksum=zlib.crc32(body),
        version=version,
        updated=updated,
        payload_bytes=len(payload),
    )
    return header.pack(key) + body


def encode_payload(payload: Mapping[str, Any]) -> bytes:
    """As JSON in UTF-8, as it is stored and as its size counts."""
    return _json(payload) if payload else b""


def _laid_out(array: NDArray[Any], dtype: str) -> memoryview:
    """Its bytes, not copied where they are right already."""
    return np.ascontiguousarray(array, dtype).data


def _json(value: Any) -> bytes:
    return _ENCODER.encode(value).encode()
