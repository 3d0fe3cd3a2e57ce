"""The rows of the catalog, compared with their checksums and with each other.

Nothing here reads LMDB or the disk: rows come in, in the order of SUB_DATABASES_IN_ORDER and of their keys,
and problems come out.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from regionsearch.collection.catalog import PER_COLLECTION, Counters, IdRow
from regionsearch.collection.integrity.problems import Problem, Repair
from regionsearch.collection.record_layout import Header, read_header, verify_body
from regionsearch.collection.row_seals import SEAL_BYTES, is_sealed, open_value
from regionsearch.errors import RegionSearchError

SUB_DATABASES_IN_ORDER = (
    "format",
    "collections",
    "dropped",
    "aliases",
    "counters",
    "backgrounds",
    "segments",
    "ids",
    "hashes",
    "records",
    "pixels",
    "fields",
    "idempotency",
)
_COLLECTION = struct.Struct(">I")
_PREFIX_BYTES = 4
_NEXT_COLLECTION = b"next_collection"
_KEYS_ARE_TEXT = {"ids", "collections", "aliases"}

_COSTS: dict[str, tuple[str, Repair, bool]] = {
    "collections": ("the collection cannot be found by its name", "restore", True),
    "dropped": ("the rows of a dropped collection are not freed", "repair", False),
    "aliases": ("the alias leads nowhere", "repair", False),
    "counters": ("the collection cannot be opened", "repair", True),
    "backgrounds": ("scores have no background until `fit` or indexing makes one again", "repair", False),
    "segments": ("the index segment is built again from the records", "repair", False),
    "ids": ("the image cannot be found by its id", "repair", False),
    "hashes": ("equal bytes are not recognised and are embedded again", "repair", False),
    "pixels": ("the image's kept picture", "drop", False),
    "fields": ("filters on the field read the records", "repair", False),
    "idempotency": ("a repeated request is done again", "repair", False),
}
"""Of a damaged row: what it costs, what mends it, whether the directory cannot be opened."""


@dataclass(slots=True)
class Seen:
    """What was met of one collection. hashes and expected_hashes: sums of crc32 over keys, met and due;
    images: number to the crc32 of what its row in `ids` must be."""

    name: str
    counters: Counters | None = None
    ids: int = 0
    records: int = 0
    entities: int = 0
    stored_bytes: int = 0
    last_number: int = 0
    sealed_to: int = 0
    hashes: int = 0
    expected_hashes: int = 0
    pixels: int = 0
    lost_pixels: int = 0
    by_id: dict[int, int] = field(default_factory=dict)
    images: dict[int, int] = field(default_factory=dict)
    damaged: set[int] = field(default_factory=set)


class RowChecks:
    """thorough: reads every byte of every record and kept picture, and compares rows across sub-databases;
    otherwise records up to a collection's last sealed number are judged by their headers alone, and kept
    pictures not at all."""

    def __init__(self, *, thorough: bool) -> None:
        self.thorough = thorough
        self.problems: list[Problem] = []
        self.format = ""
        self._names: dict[int, str] = {}
        self._dropped: set[int] = set()
        self._strays: set[tuple[str, int]] = set()
        self._seen: dict[int, Seen] = {}
        self._next_collection = 1
        self._collection_damaged = False

    def images(self) -> int:
        return sum(seen.records for seen in self._seen.values())

    def check(self, database: str, rows: Iterable[tuple[bytes, memoryview]]) -> None:
        """Takes all rows of one sub-database."""
        if database == "format":
            self._check_format(rows)
        elif self.format != "2":
            for _ in rows:  # an older format: its pages were walked, its rows carry nothing to compare
                pass
        elif database == "collections":
            self._check_collections(rows)
        elif database == "ids":
            self._check_ids(rows)
        elif database == "records":
            self._check_records(rows)
        elif database == "pixels":
            self._check_pixels(rows)
        else:
            self._check_others(database, rows)

    def finish(self) -> None:
        """Compares what was met with what was noted. Called after the last sub-database."""
        if self.format != "2":
            return
        for number, name in self._names.items():
            self._compare(self._of(number), name)
        for database, number in sorted(self._strays):
            self.problems.append(
                Problem(f"rows of no collection (number {number})", f"'{database}'", "their place", "repair")
            )
        known = max([0, *self._names, *self._dropped])
        if known >= self._next_collection:
            self.problems.append(
                Problem(
                    f"the next collection's number is {self._next_collection}, but {known} is taken",
                    "'format', next_collection",
                    "a new collection would be mixed with another",
                    "repair",
                    stops=True,
                )
            )

    # one sub-database each

    def _check_format(self, rows: Iterable[tuple[bytes, memoryview]]) -> None:
        for key, value in rows:
            if key == b"format":
                self.format = str(value, "ascii", "replace")
            elif key == _NEXT_COLLECTION and self.format == "2":
                if is_sealed("format", key, value):
                    self._next_collection = int(bytes(open_value("format", key, value)))
                else:
                    self._next_collection = 0
        if self.format != "1 to 2" and not self.format.isdecimal():
            self.problems.append(
                Problem(
                    f"the format is {self.format!r}",
                    "'format'",
                    "nothing can be read",
                    "restore",
                    stops=True,
                )
            )

    def _check_collections(self, rows: Iterable[tuple[bytes, memoryview]]) -> None:
        for key, value in rows:
            if not is_sealed("collections", key, value):
                self._damaged_row("collections", key)
                self._collection_damaged = True
                continue
            described = json.loads(bytes(open_value("collections", key, value)))
            self._names[described["number"]] = key.decode("utf-8", "replace")

    def _check_ids(self, rows: Iterable[tuple[bytes, memoryview]]) -> None:
        prefix, seen = b"", Seen("")
        for key, value in rows:
            if key[:_PREFIX_BYTES] != prefix:
                prefix = key[:_PREFIX_BYTES]
                seen = self._seen_by(prefix, "ids")
            seen.ids += 1
            if not is_sealed("ids", key, value):
                self._damaged_row("ids", key)
                continue
            if self.thorough:
                row = IdRow.unpack(value[:-SEAL_BYTES])
                seen.by_id[row.number] = zlib.crc32(value[:-SEAL_BYTES], zlib.crc32(key))

    def _check_records(self, rows: Iterable[tuple[bytes, memoryview]]) -> None:
        prefix, seen, unsealed = b"", Seen(""), 0
        for key, value in rows:
            if key[:_PREFIX_BYTES] != prefix:
                prefix = key[:_PREFIX_BYTES]
                seen = self._seen_by(prefix, "records")
                unsealed = seen.sealed_to + 1
            number = int.from_bytes(key[_PREFIX_BYTES:], "big")
            seen.records += 1
            seen.last_number = number
            seen.stored_bytes += len(value)
            try:
                header = read_header(value, key)
                if self.thorough or number >= unsealed:
                    verify_body(value, header)
            except RegionSearchError as error:
                seen.damaged.add(number)
                self.problems.append(
                    Problem(
                        error.message,
                        f"image number {number} of collection '{seen.name}'",
                        "the image: searches leave it out",
                        "drop",
                    )
                )
                continue
            seen.entities += header.entities
            if self.thorough:
                self._note_record(seen, key, value, header)

    def _note_record(self, seen: Seen, key: bytes, value: memoryview, header: Header) -> None:
        image_id = bytes(value[header.id_start : header.id_start + header.id_bytes])
        row = IdRow.of(header).pack()
        seen.images[header.number] = zlib.crc32(row, zlib.crc32(key[:_PREFIX_BYTES] + image_id))
        if header.content_hash:
            hash_key = key[:_PREFIX_BYTES] + bytes.fromhex(header.content_hash) + key[_PREFIX_BYTES:]
            seen.expected_hashes += zlib.crc32(hash_key)

    def _check_pixels(self, rows: Iterable[tuple[bytes, memoryview]]) -> None:
        prefix, seen = b"", Seen("")
        for key, value in rows:
            if key[:_PREFIX_BYTES] != prefix:
                prefix = key[:_PREFIX_BYTES]
                seen = self._seen_by(prefix, "pixels")
            seen.pixels += 1
            seen.stored_bytes += len(value) - SEAL_BYTES
            if self.thorough:
                number = int.from_bytes(key[_PREFIX_BYTES:], "big")
                if not is_sealed("pixels", key, value):
                    self._damaged_row("pixels", key, f"image number {number} of collection '{seen.name}'")
                elif number not in seen.images and number not in seen.damaged:
                    seen.lost_pixels += 1

    def _check_others(self, database: str, rows: Iterable[tuple[bytes, memoryview]]) -> None:
        prefix, seen = b"", Seen("")
        for key, value in rows:
            sealed = is_sealed(database, key, value)
            if not sealed:
                self._damaged_row(database, key)
            if database == "dropped":
                self._dropped.add(_COLLECTION.unpack(key[:_PREFIX_BYTES])[0])
            if database not in PER_COLLECTION:
                continue
            if key[:_PREFIX_BYTES] != prefix:
                prefix = key[:_PREFIX_BYTES]
                seen = self._seen_by(prefix, database)
            if database == "counters" and sealed:
                seen.counters = Counters.unpack(open_value("counters", key, value))
            elif database == "hashes":
                seen.hashes += zlib.crc32(key)
            elif database == "segments" and sealed and len(key) > _PREFIX_BYTES:
                row = json.loads(bytes(open_value("segments", key, value)))
                seen.sealed_to = max(seen.sealed_to, int(row["last"]))

    # what belongs together

    def _compare(self, seen: Seen, name: str) -> None:
        where = f"collection '{name}'"
        if seen.counters is None:
            if not any(problem.where.startswith("'counters'") for problem in self.problems):
                self.problems.append(
                    Problem("it has no counters", where, "the collection cannot be opened", "repair", True)
                )
        else:
            self._compare_counters(seen, seen.counters, where)
        if seen.ids != seen.records:
            self._mismatch(
                where,
                f"{seen.ids} ids lead to {seen.records} records",
                "images that cannot be found by their id, or ids without an image",
            )
        if not self.thorough:
            return
        due = dict(seen.images)
        for number, row in seen.by_id.items():
            if due.pop(number, None) != row and number not in seen.damaged:
                self._mismatch(
                    f"image number {number} of {where}",
                    "its row in 'ids' does not agree with its record",
                    "the image under its id",
                )
        if seen.ids == seen.records:
            for number in due:
                self._mismatch(
                    f"image number {number} of {where}", "no id leads to it", "the image under its id"
                )
        if seen.hashes != seen.expected_hashes and not seen.damaged:
            self._mismatch(
                where, "'hashes' does not agree with the records", "equal bytes are embedded again"
            )
        if seen.lost_pixels:
            self._mismatch(where, f"{seen.lost_pixels} kept pictures belong to no image", "their place")

    def _compare_counters(self, seen: Seen, noted: Counters, where: str) -> None:
        met = {
            "images": (seen.records, noted.images),
            "entities": (seen.entities, noted.entities),
            "bytes": (seen.stored_bytes, noted.stored_bytes),
        }
        if seen.damaged:
            met = {"images": met["images"]}
        for what, (is_there, is_noted) in met.items():
            if is_there != is_noted:
                self._mismatch(
                    where, f"it has {is_there} {what}; its counters say {is_noted}", "wrong statistics"
                )
        if noted.next_number <= seen.last_number:
            self.problems.append(
                Problem(
                    f"the next image would be number {noted.next_number}, but {seen.last_number} is taken",
                    where,
                    "a new image would replace another",
                    "repair",
                    stops=True,
                )
            )

    def _mismatch(self, where: str, what: str, costs: str) -> None:
        self.problems.append(Problem(what, where, costs, "repair"))

    def _damaged_row(self, database: str, key: bytes, where: str = "") -> None:
        costs, repair, stops = _COSTS[database]
        text = key[_PREFIX_BYTES:] if database == "ids" else key
        shown = repr(text.decode("utf-8", "replace")) if database in _KEYS_ARE_TEXT else key.hex()
        place = f"'{database}', row {shown}" + (f" ({where})" if where else "")
        self.problems.append(Problem("the row does not match its checksum", place, costs, repair, stops))

    def _of(self, number: int) -> Seen:
        return self._seen.setdefault(number, Seen(self._names.get(number, f"number {number}")))

    def _seen_by(self, prefix: bytes, database: str) -> Seen:
        number = _COLLECTION.unpack(prefix)[0] if len(prefix) == _PREFIX_BYTES else 0
        if number not in self._names and number not in self._dropped and not self._collection_damaged:
            self._strays.add((database, number))
        return self._of(number)
