"""A snapshot without some of its images, in the place of the one that had them."""

from __future__ import annotations

import dataclasses
import struct
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from regionsearch.collection.catalog import Counters, IdRow
from regionsearch.collection.fields.field_block import BLOCK_BITS, PLACE_IN_BLOCK, FieldBlock
from regionsearch.collection.row_seals import SEAL_BYTES
from regionsearch.collection.segments.manifest import SegmentRow
from regionsearch.collection.snapshots.destinations import writing
from regionsearch.collection.snapshots.going_on import Check, Going, Progress
from regionsearch.collection.snapshots.manifest import FileEntry, Manifest
from regionsearch.collection.snapshots.row_files import RowFile, rows_of, sealed, unsealed
from regionsearch.collection.snapshots.sources import SnapshotSource, named, opened, row_file
from regionsearch.collection.snapshots.verifying import require_sound

_NUMBER = struct.Struct(">Q")
_FIELD_BLOCK = struct.Struct(">BHHI")
_BLOCK_ROW = 1


def without_images(
    path: Path, image_ids: Sequence[str], *, progress: Progress | None = None, check: Check | None = None
) -> tuple[set[str], bool]:
    """Writes the snapshot anew beside itself and puts it in its own place, in one step where the system can
    exchange two names, with checksums anew. Files of index segments, which know the images' vectors, are
    left out: a restore makes them again. A snapshot that has none of the images is left alone, unless its
    segments have dead rows: of whom they are is not known any more, so it may be of one of these, which was
    deleted before the snapshot was taken.

    Returns the ids of those that it had, and whether it was written anew.

    Raises SnapshotNotFound, DataLoss (it is damaged: nothing is touched), UnsupportedFormat, Cancelled,
    StorageFull, ReadOnly.
    """
    # A link would be exchanged itself, and leave the old snapshot where it leads.
    path = path.resolve()
    with opened(path) as (source, manifest):
        going = Going(3 * sum(entry.size for entry in manifest.files), progress, check)
        require_sound(source, manifest, going)
        leaving = _Leaving.of(source, manifest, image_ids, going)
        if not leaving.numbers and not leaving.dead_rows:
            return set(), False
        with writing(path, replace=True) as writer:
            entries: list[FileEntry] = []
            rows: Counter[str] = Counter()
            for entry in manifest.files:
                if not entry.holds_rows:
                    continue
                file = RowFile()
                for database, key, value in leaving.rows_left(source, entry):
                    file.add(database, key, value)
                    rows[database] += 1
                going.on(entry.size)
                if not file.empty:
                    entries.append(writer.add_bytes(entry.name, file.take()))
            left = dataclasses.replace(
                manifest, counters=leaving.counters(manifest.counters), rows=rows, files=tuple(entries)
            )
            writer.synchronise(left.to_bytes())
            going.on()
            writer.publish(replace=True)
    going.done()
    return leaving.found, True


@dataclass(eq=False)
class _Leaving:
    """The images that go: their ids and numbers, and what they took.

    dead_rows: whether files of segments have rows of images that were gone before."""

    ids: set[bytes]
    numbers: set[int] = field(default_factory=set)
    found: set[str] = field(default_factory=set)
    entities: int = 0
    stored_bytes: int = 0
    dead_rows: bool = False

    @staticmethod
    def of(source: SnapshotSource, manifest: Manifest, image_ids: Sequence[str], going: Going) -> _Leaving:
        leaving = _Leaving({image_id.encode("utf-8", "surrogatepass") for image_id in image_ids})
        numbers = array("q")
        segments: list[SegmentRow] = []
        for entry in manifest.files:
            if not entry.holds_rows:
                continue
            going.on(entry.size)
            where = f"{named(source.path)}: '{entry.name}'"
            for database, key, value in rows_of(row_file(source, entry), where):
                if database == "ids":
                    row = IdRow.unpack(unsealed(where, database, key, value))
                    numbers.append(row.number)
                    if key in leaving.ids:
                        leaving.numbers.add(row.number)
                        leaving.found.add(key.decode())
                        leaving.entities += row.entities
                elif database == "segments" and len(key) == _NUMBER.size:
                    (number,) = _NUMBER.unpack(key)
                    stored = bytes(unsealed(where, database, key, value))
                    segments.append(SegmentRow.unpack(number, stored))
        alive = np.sort(np.asarray(numbers, np.int64))
        leaving.dead_rows = any(
            np.searchsorted(alive, segment.last, "right") - np.searchsorted(alive, segment.first)
            < segment.images
            for segment in segments
        ) and any(not entry.holds_rows for entry in manifest.files)
        return leaving

    def rows_left(self, source: SnapshotSource, entry: FileEntry) -> Iterator[tuple[str, bytes, bytes]]:
        where = f"{named(source.path)}: '{entry.name}'"
        for database, key, value in rows_of(row_file(source, entry), where):
            if database == "segments":
                continue
            if database == "fields":
                block = self._block_left(where, key, value)
                if block is not None:
                    yield database, key, block
            elif self._goes(database, key):
                overhead = SEAL_BYTES if database == "pixels" else 0
                if database in ("records", "pixels"):
                    self.stored_bytes += len(value) - overhead
            else:
                yield database, key, bytes(value)

    def counters(self, before: Counters) -> Counters:
        """When all rows were gone through."""
        return dataclasses.replace(
            before,
            images=before.images - len(self.numbers),
            entities=before.entities - self.entities,
            stored_bytes=before.stored_bytes - self.stored_bytes,
        )

    def _goes(self, database: str, key: bytes) -> bool:
        if database == "ids":
            return key in self.ids
        if database in ("records", "pixels", "hashes"):
            return _NUMBER.unpack(key[-_NUMBER.size :])[0] in self.numbers
        return False

    def _block_left(self, where: str, key: bytes, value: memoryview) -> bytes | None:
        """A block of a declared field's values without those of the images; None when none is left."""
        if key[0] != _BLOCK_ROW or len(key) != _FIELD_BLOCK.size:
            return bytes(value)  # the declaration of the fields
        _, _, high, low = _FIELD_BLOCK.unpack(key)
        number = (high << 32) + low
        places = [each & PLACE_IN_BLOCK for each in self.numbers if each >> BLOCK_BITS == number]
        if not places:
            return bytes(value)
        stored = bytes(unsealed(where, "fields", key, value))
        block = FieldBlock.decoded(stored, b"")
        with_instants = block.encoded(with_instants=False) != stored
        changed = block.changed(places, {})
        if changed is None:
            return bytes(value)
        return (
            None if changed.is_empty else sealed("fields", key, changed.encoded(with_instants=with_instants))
        )
