"""The rows of one collection in LMDB: keys, counters, and the changes that keep them in step.

Every key begins with the collection's number (u32, big endian, so that LMDB's order is ours):

ids       | id in UTF-8                    -> what a listing shows, and the image's number
records   | image number (u64, big endian) -> the record (record_layout.py)
hashes    | content hash, image number     -> nothing
pixels    | image number                   -> the kept picture
counters  |                                -> images, entities, bytes, generation, next image number

Every value but a record is sealed (row_seals.py); a record's own checksums are bound to its key.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from regionsearch.collection.environment import Environment
from regionsearch.collection.index import MAX_IMAGE_NUMBER
from regionsearch.collection.record_encoding import EncodedRecord, with_payload
from regionsearch.collection.record_layout import Buffer, Header, format_time, verify
from regionsearch.collection.records import MAX_IMAGE_ID_BYTES, ImageListing
from regionsearch.collection.row_seals import SEAL_BYTES, open_value, seal_value
from regionsearch.errors import CollectionNotFound, DataLoss, StorageFull

_log = logging.getLogger(__name__)
_COLLECTION = struct.Struct(">I")
_NUMBER = struct.Struct(">Q")
_COUNTERS = struct.Struct("<QQQQQ")
_ID_ROW = struct.Struct("<QQqIII32sB")
PER_COLLECTION = (
    "ids",
    "records",
    "hashes",
    "pixels",
    "counters",
    "backgrounds",
    "segments",
    "fields",
    "idempotency",
)
"""Sub-databases whose keys begin with a collection's number."""


@dataclass(frozen=True, slots=True)
class Counters:
    images: int = 0
    entities: int = 0
    stored_bytes: int = 0
    generation: int = 0
    next_number: int = 1

    def pack(self) -> bytes:
        return _COUNTERS.pack(
            self.images, self.entities, self.stored_bytes, self.generation, self.next_number
        )

    @staticmethod
    def unpack(value: Buffer) -> Counters:
        return Counters(*_COUNTERS.unpack(value))


class IdRow(NamedTuple):
    """What `ids` knows of an image: enough to list it without reading its record."""

    number: int
    version: int
    updated: int
    width: int
    height: int
    entities: int
    content_hash: str

    def pack(self) -> bytes:
        digest = bytes.fromhex(self.content_hash)
        return _ID_ROW.pack(
            self.number,
            self.version,
            self.updated,
            self.width,
            self.height,
            self.entities,
            digest,
            bool(digest),
        )

    @staticmethod
    def of(header: Header) -> IdRow:
        """Of a stored record."""
        return IdRow(
            header.number,
            header.version,
            header.updated,
            header.width,
            header.height,
            header.entities,
            header.content_hash,
        )

    @staticmethod
    def unpack(value: Buffer) -> IdRow:
        number, version, updated, width, height, entities, digest, has_hash = _ID_ROW.unpack(value)
        content_hash = digest.hex() if has_hash else ""
        return IdRow(number, version, updated, width, height, entities, content_hash)

    def listing(self, image_id: str) -> ImageListing:
        return ImageListing(
            image_id=image_id,
            width=self.width,
            height=self.height,
            entities=self.entities,
            content_hash=self.content_hash,
            version=self.version,
            updated=format_time(self.updated),
        )


class CollectionRows:
    """Reads and changes the rows of one collection inside a transaction that the caller holds."""

    def __init__(self, environment: Environment, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self._prefix = _COLLECTION.pack(number)
        self._ids = environment.database("ids")
        self._records = environment.database("records")
        self._hashes = environment.database("hashes")
        self._pixels = environment.database("pixels")
        self._counters = environment.database("counters")
        self._backgrounds = environment.database("backgrounds")

    # counters

    def counters(self, transaction: Any) -> Counters:
        """Raises CollectionNotFound when the collection was dropped."""
        value = transaction.get(self._prefix, db=self._counters)
        if value is None:
            raise CollectionNotFound(f"collection '{self.name}' was dropped")
        return Counters.unpack(open_value("counters", self._prefix, value))

    def put_counters(self, transaction: Any, counters: Counters) -> None:
        value = seal_value("counters", self._prefix, counters.pack())
        transaction.put(self._prefix, value, db=self._counters)

    def commit_counters(self, transaction: Any, counters: Counters) -> int:
        """Ends a write to the collection: writes the counters as its next generation, and returns that."""
        generation = counters.generation + 1
        self.put_counters(transaction, replace(counters, generation=generation))
        return generation

    # reads

    def id_row(self, transaction: Any, image_id: str) -> IdRow | None:
        key = image_id.encode("utf-8", "surrogatepass")
        if len(key) > MAX_IMAGE_ID_BYTES:
            return None
        value = transaction.get(self._prefix + key, db=self._ids)
        return None if value is None else IdRow.unpack(open_value("ids", self._prefix + key, value))

    def record_key(self, number: int) -> bytes:
        """Of the record's row, which its checksum covers."""
        return self._prefix + _NUMBER.pack(number)

    def record(self, transaction: Any, number: int) -> Buffer | None:
        value: Buffer | None = transaction.get(self.record_key(number), db=self._records)
        return value

    def pixels(self, transaction: Any, number: int) -> bytes | None:
        """Raises DataLoss when they do not match their checksum."""
        key = self.record_key(number)
        value = transaction.get(key, db=self._pixels)
        if value is None:
            return None
        try:
            return bytes(open_value("pixels", key, value))
        except DataLoss as error:
            raise DataLoss(f"kept pixels of image number {number} do not match their checksum") from error

    def sound_record(self, transaction: Any, number: int) -> Buffer | None:
        """The record of an image that is there; None, and a warning in the log, when the record is missing,
        or it or the kept pixels do not match their checksums. Reads every byte of both."""
        try:
            value = self.record(transaction, number)
            if value is None:
                raise DataLoss("its record is missing")
            verify(value, self.record_key(number))
            self.pixels(transaction, number)
        except DataLoss as error:
            _log.warning(
                "collection '%s': image number %d counts as not stored, for it is damaged: %s",
                self.name,
                number,
                error.message,
            )
            return None
        return value

    def background(self, transaction: Any) -> bytes | None:
        value = transaction.get(self._prefix, db=self._backgrounds)
        return None if value is None else bytes(open_value("backgrounds", self._prefix, value))

    def numbers_with_content(self, transaction: Any, content_hash: str) -> Iterator[int]:
        prefix = self._prefix + bytes.fromhex(content_hash)
        with transaction.cursor(db=self._hashes) as cursor:
            if cursor.set_range(prefix):
                for key, value in cursor.iternext():
                    if key[: len(prefix)] != prefix:
                        return
                    open_value("hashes", key, value)
                    yield _NUMBER.unpack(key[len(prefix) :])[0]

    def id_rows(self, transaction: Any, after: str, prefix: str) -> Iterator[tuple[str, IdRow]]:
        """In the order of ids, those that begin with `prefix` and come after `after` ("": from the start).

        A damaged row is passed over, with an error in the log, so that the others can still be listed.
        """
        common = self._prefix + prefix.encode()
        last = self._prefix + after.encode() if after else b""
        with transaction.cursor(db=self._ids) as cursor:
            if not cursor.set_range(max(common, last)):
                return
            for key, value in cursor.iternext():
                if key[: len(common)] != common:
                    return
                if key == last:
                    continue
                try:
                    row = IdRow.unpack(open_value("ids", key, value))
                except DataLoss as error:
                    _log.error("collection '%s': an image is not listed: %s", self.name, error.message)
                    continue
                yield str(key[len(self._prefix) :], "utf-8"), row

    def records_from(self, transaction: Any, number: int) -> Iterator[tuple[int, Buffer]]:
        """(image number, record) in the order of numbers, from `number` on."""
        size = len(self._prefix)
        with transaction.cursor(db=self._records) as cursor:
            if cursor.set_range(self._prefix + _NUMBER.pack(number)):
                for key, value in cursor.iternext():
                    if key[:size] != self._prefix:
                        return
                    yield _NUMBER.unpack(key[size:])[0], value

    def numbers(self, transaction: Any, first: int = 0) -> Iterator[int]:
        """Live image numbers from `first` on, ascending, without touching the records."""
        size = len(self._prefix)
        with transaction.cursor(db=self._records) as cursor:
            if cursor.set_range(self._prefix + _NUMBER.pack(first)):
                for key in cursor.iternext(keys=True, values=False):
                    if key[:size] != self._prefix:
                        return
                    yield _NUMBER.unpack(key[size:])[0]

    # changes

    def put(
        self, transaction: Any, records: Iterable[EncodedRecord], counters: Counters, updated: int
    ) -> tuple[list[IdRow], list[tuple[int, str]], Counters]:
        """Writes records under new numbers and buries those that had their ids, all distinct.

        Returns the new rows, the numbers and ids that were buried, and the counters after it, not yet
        written. Raises DataLoss when a record no longer matches the checksum that it was given when it was
        encoded, StorageFull when numbers end.
        """
        rows: list[IdRow] = []
        buried: list[tuple[int, str]] = []
        number, entities, stored_bytes = counters.next_number, 0, 0
        for each in records:
            id_key = self._prefix + each.image_id.encode()
            old = transaction.get(id_key, db=self._ids)
            version = 1
            if old is not None:
                before = IdRow.unpack(open_value("ids", id_key, old))
                counters = self.bury(transaction, each.image_id, before, counters)
                buried.append((before.number, each.image_id))
                version = before.version + 1
            if number > MAX_IMAGE_NUMBER:
                raise StorageFull(f"collection '{self.name}' has used all its image numbers")
            header = each.header
            key = self.record_key(number)
            value = each.numbered(key, number, version, updated)
            row = IdRow(
                number, version, updated, header.width, header.height, header.entities, header.content_hash
            )
            transaction.put(key, value, db=self._records)
            transaction.put(id_key, seal_value("ids", id_key, row.pack()), db=self._ids)
            if header.content_hash:
                hash_key = self._hash_key(header.content_hash, number)
                transaction.put(hash_key, seal_value("hashes", hash_key, b""), db=self._hashes)
            if each.pixels is not None:
                transaction.put(key, seal_value("pixels", key, each.pixels), db=self._pixels)
                stored_bytes += len(each.pixels)
            rows.append(row)
            number += 1
            entities += header.entities
            stored_bytes += len(value)
        counters = replace(
            counters,
            images=counters.images + len(rows),
            entities=counters.entities + entities,
            stored_bytes=counters.stored_bytes + stored_bytes,
            next_number=number,
        )
        return rows, buried, counters

    def bury(self, transaction: Any, image_id: str, row: IdRow, counters: Counters) -> Counters:
        """Takes an image out. Returns the counters after it, not yet written."""
        key = self.record_key(row.number)
        freed = 0
        for database, overhead in ((self._records, 0), (self._pixels, SEAL_BYTES)):
            value = transaction.get(key, db=database)
            if value is not None:
                freed += len(value) - overhead
                transaction.delete(key, db=database)
        if row.content_hash:
            transaction.delete(self._hash_key(row.content_hash, row.number), db=self._hashes)
        transaction.delete(self._prefix + image_id.encode(), db=self._ids)
        return replace(
            counters,
            images=counters.images - 1,
            entities=counters.entities - row.entities,
            stored_bytes=counters.stored_bytes - freed,
        )

    def put_payload(
        self, transaction: Any, image_id: str, row: IdRow, payload: bytes, counters: Counters, updated: int
    ) -> tuple[IdRow, Counters]:
        """Gives an image another payload (as JSON) under its number, and the next version.

        Returns its row and the counters after it, not yet written. Raises DataLoss, before any change.
        """
        key = self.record_key(row.number)
        old = transaction.get(key, db=self._records)
        if old is None:
            raise DataLoss(f"image '{image_id}' of collection '{self.name}': its record is missing")
        value = with_payload(old, key, payload, row.version + 1, updated)
        counters = replace(counters, stored_bytes=counters.stored_bytes + len(value) - len(old))
        transaction.put(key, value, db=self._records)
        row = row._replace(version=row.version + 1, updated=updated)
        id_key = self._prefix + image_id.encode()
        transaction.put(id_key, seal_value("ids", id_key, row.pack()), db=self._ids)
        return row, counters

    def put_background(self, transaction: Any, background: bytes) -> None:
        value = seal_value("backgrounds", self._prefix, background)
        transaction.put(self._prefix, value, db=self._backgrounds)

    def _hash_key(self, content_hash: str, number: int) -> bytes:
        return self._prefix + bytes.fromhex(content_hash) + _NUMBER.pack(number)


def sweep_dropped(environment: Environment, transaction: Any, number: int, limit: int) -> bool:
    """Deletes up to `limit` rows of a dropped collection; True when none is left."""
    prefix = _COLLECTION.pack(number)
    left = limit
    for name in PER_COLLECTION:
        with transaction.cursor(db=environment.database(name)) as cursor:
            found = cursor.set_range(prefix)
            while found and cursor.key()[: len(prefix)] == prefix:
                if left == 0:
                    return False
                # Deleting leaves the cursor on the row that followed.
                cursor.delete()
                left -= 1
                found = bool(cursor.key())
    transaction.delete(prefix, db=environment.database("dropped"))
    return True


def mark_dropped(environment: Environment, transaction: Any, number: int) -> None:
    """Hides a collection's rows from everyone at once; `sweep_dropped` frees them piece by piece."""
    prefix = _COLLECTION.pack(number)
    transaction.delete(prefix, db=environment.database("counters"))
    value = seal_value("dropped", prefix, b"")
    transaction.put(prefix, value, db=environment.database("dropped"))


def unmark_dropped(environment: Environment, transaction: Any, number: int) -> None:
    """Lets the rows stay that counted as a dropped collection's while they were brought."""
    transaction.delete(_COLLECTION.pack(number), db=environment.database("dropped"))


def dropped_collections(environment: Environment, transaction: Any) -> list[int]:
    """Numbers of those whose rows are not all gone yet."""
    with transaction.cursor(db=environment.database("dropped")) as cursor:
        return [_COLLECTION.unpack(key)[0] for key in cursor.iternext(keys=True, values=False)]
