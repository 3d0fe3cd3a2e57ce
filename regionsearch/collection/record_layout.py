"""The bytes of one record, layout 2. docs/storage.md specifies them; little endian throughout.

header (112 bytes) | vectors | boxes | areas | objectness | runs per mask | label sources | id
                   | labels | payload | runs | long runs

The header's own checksum covers it and the key of its row, so that a record found under another key is
noticed, and the header holds the checksum of the body, so that the writer can fill in number, version and
time without reading the body again.

LMDB puts a value of more than half a page 16 bytes behind the start of a page: vectors that begin at
byte 112 of the record are aligned to 64 bytes in memory.
"""

from __future__ import annotations

import json
import struct
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.records import ImageRecord
from regionsearch.entities import Entities
from regionsearch.errors import DataLoss, UnsupportedFormat
from regionsearch.regions import Mask

MAGIC = b"RSR1"
RECORD_FORMAT = 2
_FORMAT_1 = 1
_LAYOUT = struct.Struct("<H")
_LAYOUT_AT = 12
PREFIX = struct.Struct("<4sI")
_REST = struct.Struct("<IHHQQqIIII32sIIIIII")
# Of the same bytes: width, height, entities, dimension, bytes of id and of labels.
_CANDIDATE = struct.Struct("<IIII32xII")
_CANDIDATE_AT = 40
HEADER_BYTES = PREFIX.size + _REST.size
assert HEADER_BYTES == 112
_HAS_HASH = 1
SOURCES: tuple[str | None, ...] = (None, "given", "predicted")
LONG_RUN = 0xFFFF
"""Stands among the runs, which are u16, for one of so many pixels or more; those follow as u32."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


Buffer = bytes | memoryview


class Header(NamedTuple):
    """body_checksum: crc32 of all bytes after the header. updated: microseconds since 1970, UTC.
    The rest counts bytes, runs, entities or dimensions."""

    body_checksum: int
    number: int
    version: int
    updated: int
    width: int
    height: int
    entities: int
    dimension: int
    content_hash: str
    id_bytes: int
    labels_bytes: int
    payload_bytes: int
    runs: int
    long_runs: int

    @property
    def floats(self) -> int:
        """Of vectors, boxes, areas and objectness, which lie side by side."""
        return (1 + self.entities) * self.dimension + 6 * self.entities

    @property
    def id_start(self) -> int:
        return HEADER_BYTES + 4 * self.floats + 5 * self.entities

    @property
    def total(self) -> int:
        texts = self.id_bytes + self.labels_bytes + self.payload_bytes
        return self.id_start + texts + 2 * self.runs + 4 * self.long_runs

    def pack(self, key: Buffer) -> bytes:
        """key: of the row that it goes into."""
        rest = _REST.pack(
            self.body_checksum,
            RECORD_FORMAT,
            _HAS_HASH if self.content_hash else 0,
            self.number,
            self.version,
            self.updated,
            self.width,
            self.height,
            self.entities,
            self.dimension,
            bytes.fromhex(self.content_hash),
            self.id_bytes,
            self.labels_bytes,
            self.payload_bytes,
            self.runs,
            self.long_runs,
            0,
        )
        return PREFIX.pack(MAGIC, zlib.crc32(rest, zlib.crc32(key))) + rest


def read_header(value: Buffer, key: Buffer) -> Header:
    """key: of the row that the record was found in. Raises DataLoss unless the header is whole, of this row,
    and the value as long as it says."""
    if len(value) < HEADER_BYTES:
        raise DataLoss(f"a record of {len(value)} bytes is shorter than its header")
    _check_header(value, key)
    body, layout, flags, number, version, updated, width, height, entities, dimension, digest, *sizes, _ = (
        _REST.unpack_from(value, PREFIX.size)
    )
    if layout != RECORD_FORMAT:
        raise UnsupportedFormat(f"a record has layout {layout}; this version reads {RECORD_FORMAT}")
    content_hash = digest.hex() if flags & _HAS_HASH else ""
    header = Header(body, number, version, updated, width, height, entities, dimension, content_hash, *sizes)
    if len(value) != header.total:
        raise DataLoss(f"a record of {len(value)} bytes should have {header.total}")
    return header


def verify(value: Buffer, key: Buffer) -> Header:
    """Reads every byte. key: of the row that the record was found in. Raises DataLoss when header or body do
    not match their checksums."""
    header = read_header(value, key)
    verify_body(value, header)
    return header


def verify_body(value: Buffer, header: Header) -> None:
    """Reads every byte after the header. Raises DataLoss when they do not match its checksum."""
    if zlib.crc32(value[HEADER_BYTES:]) != header.body_checksum:
        raise DataLoss("a record does not match its checksum")


def bound_to_key(value: Buffer, key: Buffer) -> bytes:
    """A record of layout 1, whose header knew nothing of its row, as one of this layout: the same bytes but
    for layout and checksum of the header. One of this layout comes back as it is.

    Raises DataLoss when header or body are damaged, or the record is of another row.
    """
    if len(value) < HEADER_BYTES:
        raise DataLoss(f"a record of {len(value)} bytes is shorter than its header")
    rest = bytearray(value[PREFIX.size : HEADER_BYTES])
    magic, checksum = PREFIX.unpack_from(value)
    (layout,) = _LAYOUT.unpack_from(value, _LAYOUT_AT)
    if layout == RECORD_FORMAT:
        verify(value, key)
        return bytes(value)
    if magic != MAGIC or layout != _FORMAT_1 or zlib.crc32(rest) != checksum:
        raise DataLoss("a record's header does not match its checksum")
    _LAYOUT.pack_into(rest, _LAYOUT_AT - PREFIX.size, RECORD_FORMAT)
    bound = b"".join((PREFIX.pack(MAGIC, zlib.crc32(rest, zlib.crc32(key))), rest, value[HEADER_BYTES:]))
    header = verify(bound, key)
    if header.number != int.from_bytes(key[-8:], "big"):
        raise DataLoss(f"it holds the record of image number {header.number}")
    return bound


def _check_header(value: Buffer, key: Buffer) -> None:
    magic, checksum = PREFIX.unpack_from(value)
    if magic != MAGIC or zlib.crc32(value[PREFIX.size : HEADER_BYTES], zlib.crc32(key)) != checksum:
        raise DataLoss("a record's header does not match its checksum, or it is of another row")


def payload_of(value: Buffer, key: bytes) -> dict[str, Any]:
    """Of a record, every byte of which is read first. Raises DataLoss."""
    header = verify(value, key)
    start = header.id_start + header.id_bytes + header.labels_bytes
    payload = bytes(value[start : start + header.payload_bytes])
    return dict(json.loads(payload)) if payload else {}


def image_id_of(value: Buffer, key: bytes) -> str:
    """Of a record, of which only the header's checksum is compared. Raises DataLoss."""
    header = read_header(value, key)
    return str(value[header.id_start : header.id_start + header.id_bytes], "utf-8")


def decode(value: Buffer, key: Buffer, pixels: bytes | None = None) -> ImageRecord:
    """The whole record, checksums verified, nothing of it in LMDB's memory. Raises DataLoss."""
    header = verify(value, key)
    count = header.entities
    numbers = np.frombuffer(value, "<f4", header.floats, HEADER_BYTES).astype(np.float32)
    of_vectors = (1 + count) * header.dimension
    boxes, areas = numbers[of_vectors : of_vectors + 4 * count], numbers[of_vectors + 4 * count : -count]
    at = HEADER_BYTES + 4 * header.floats
    lengths = np.frombuffer(value, "<u4", count, at)
    sources = tuple(SOURCES[source] for source in value[at + 4 * count : at + 5 * count])
    at = header.id_start
    image_id, at = str(value[at : at + header.id_bytes], "utf-8"), at + header.id_bytes
    labels, at = bytes(value[at : at + header.labels_bytes]), at + header.labels_bytes
    payload, at = bytes(value[at : at + header.payload_bytes]), at + header.payload_bytes
    runs = np.frombuffer(value, "<u2", header.runs, at).astype(np.uint32)
    runs[runs == LONG_RUN] = np.frombuffer(value, "<u4", header.long_runs, at + 2 * header.runs)
    runs.flags.writeable = False
    ends = np.cumsum(lengths).tolist()
    return ImageRecord(
        image_id=image_id,
        width=header.width,
        height=header.height,
        entities=Entities(
            masks=tuple(
                _stored_mask(header.height, header.width, runs[start:end])
                for start, end in zip([0, *ends], ends, strict=False)
            ),
            boxes=boxes.reshape(count, 4),
            areas=areas,
            objectness=numbers[-count:],
            labels=_labels(labels, count),
            label_sources=sources,
        ),
        vectors=numbers[:of_vectors].reshape(1 + count, header.dimension),
        content_hash=header.content_hash,
        payload=json.loads(payload) if payload else {},
        pixels=pixels,
        version=header.version,
        number=header.number,
        updated=format_time(header.updated),
    )


class CandidateParts(NamedTuple):
    """image_id. size: width and height in pixels. vectors: (1 + n, d), and outlines: (6 n,) boxes, areas and
    objectness one after the other, float32, views of the record. labels: n, or None when not asked for."""

    image_id: str
    size: tuple[int, int]
    vectors: NDArray[np.float32]
    outlines: NDArray[np.float32]
    labels: tuple[str | None, ...] | None


def candidate_parts(value: Buffer, key: Buffer, *, labels: bool = False) -> CandidateParts:
    """What joint scoring reads of a record, without reading the rest. key: of its row. labels: whether they
    are wanted.

    Of the checksums only the header's is compared: reading every byte of the body twice would double the
    time of joint scoring. Raises DataLoss.
    """
    if len(value) < HEADER_BYTES:
        raise DataLoss(f"a record of {len(value)} bytes is shorter than its header")
    _check_header(value, key)
    width, height, count, dimension, id_bytes, labels_bytes = _CANDIDATE.unpack_from(value, _CANDIDATE_AT)
    vectors = (1 + count) * dimension
    id_start = HEADER_BYTES + 4 * (vectors + 6 * count) + 5 * count
    id_end = id_start + id_bytes
    if len(value) < id_end + labels_bytes:
        raise DataLoss(f"a record of {len(value)} bytes ends before its labels")
    try:
        image_id = str(value[id_start:id_end], "utf-8")
    except UnicodeDecodeError as error:
        raise DataLoss(f"a record's image id cannot be read: {error}") from error
    floats = np.frombuffer(value, np.float32, vectors + 6 * count, HEADER_BYTES)
    return CandidateParts(
        image_id,
        (width, height),
        floats[:vectors].reshape(1 + count, dimension),
        floats[vectors:],
        _labels(value[id_end : id_end + labels_bytes], count) if labels else None,
    )


def _labels(coded: Buffer, count: int) -> tuple[str | None, ...]:
    """Of the n entities of a record, from what it holds as JSON. Raises DataLoss when that is damaged."""
    if not coded:
        return (None,) * count
    try:
        labels = json.loads(bytes(coded))
    except ValueError as error:
        raise DataLoss(f"a record's labels cannot be read: {error}") from error
    if not isinstance(labels, list) or len(labels) != count:
        raise DataLoss(f"a record's labels are not one for each of its {count} entities")
    return tuple(labels)


def vectors_of(value: Buffer, header: Header) -> NDArray[np.float32]:
    """(1 + n, d): a view of the value, not a copy."""
    rows = 1 + header.entities
    block = np.frombuffer(value, np.float32, rows * header.dimension, HEADER_BYTES)
    return block.reshape(rows, header.dimension)


def _stored_mask(height: int, width: int, counts: NDArray[np.uint32]) -> Mask:
    """A mask whose counts were checked and made canonical before they were stored.

    Checking them again would take most of the time of reading a record (docs/storage.md).
    """
    mask = object.__new__(Mask)
    for name, value in (("height", height), ("width", width), ("counts", counts)):
        object.__setattr__(mask, name, value)
    return mask


def format_time(microseconds: int) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
