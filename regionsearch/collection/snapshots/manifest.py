"""What a snapshot says of itself: its format, the collection, and every file with size and sha256.

SNAPSHOT/manifest.json            this
SNAPSHOT/rows/00001.rows ...      rows of the collection (row_files.py)
SNAPSHOT/segments/NUMBER/FILE     files of index segments; a snapshot without them restores too

A tar holds the same files under the same names, the manifest last.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from regionsearch.collection.catalog import Counters
from regionsearch.collection.directory_layout import FORMAT as CATALOG_FORMAT
from regionsearch.collection.record_layout import format_time
from regionsearch.collection.records import CollectionSpec
from regionsearch.collection.spec_rows import spec_from_json, spec_to_json
from regionsearch.collection.validation import check_spec
from regionsearch.errors import DataLoss, InvalidRequest, UnsupportedFormat

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 64 << 20
_KIND = "RegionSearch snapshot"
_ROWS = re.compile(r"rows/[0-9]{5,9}\.rows")
_SEGMENT = re.compile(r"segments/[0-9]{1,20}/[a-z0-9][a-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """name: below the snapshot. size: bytes. sha256: hex."""

    name: str
    size: int
    sha256: str

    @property
    def holds_rows(self) -> bool:
        return self.name.startswith("rows/")


@dataclass(frozen=True, eq=False)
class Manifest:
    """created: µs since 1970, UTC. rows: how many there are of each sub-database."""

    spec: CollectionSpec
    counters: Counters
    created: int
    rows: Mapping[str, int]
    files: tuple[FileEntry, ...]

    def to_bytes(self) -> bytes:
        counters = self.counters
        inner = {
            "kind": _KIND,
            "format": FORMAT,
            "catalog_format": CATALOG_FORMAT,
            "created": self.created,
            "collection": base64.b64encode(spec_to_json(self.spec, 0)).decode(),
            "name": self.spec.name,
            "counters": {name: getattr(counters, name) for name in Counters.__dataclass_fields__},
            "rows": dict(self.rows),
            "files": [[entry.name, entry.size, entry.sha256] for entry in self.files],
        }
        whole = {"manifest": inner, "sha256": _digest(inner)}
        return json.dumps(whole, indent=1, sort_keys=True).encode() + b"\n"

    @staticmethod
    def from_bytes(stored: bytes, where: str) -> Manifest:
        """where: names the snapshot in errors. Raises DataLoss, UnsupportedFormat."""
        try:
            whole = json.loads(stored)
            inner = whole["manifest"]
            kind, version, catalog = inner["kind"], inner["format"], inner["catalog_format"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataLoss(f"{where}: its manifest is damaged: {type(error).__name__} {error}") from error
        if kind != _KIND:
            raise DataLoss(f"{where}: its manifest is not that of a snapshot")
        if (version, catalog) != (FORMAT, CATALOG_FORMAT):
            raise UnsupportedFormat(
                f"{where} has format {version!r:.20} with a catalog of format {catalog!r:.20}; this version "
                f"reads format {FORMAT} with a catalog of format {CATALOG_FORMAT}"
            )
        if whole.get("sha256") != _digest(inner):
            raise DataLoss(f"{where}: its manifest does not match its checksum")
        try:
            manifest = Manifest(
                spec=spec_from_json(base64.b64decode(inner["collection"], validate=True))[0],
                counters=Counters(**{name: _count(value) for name, value in inner["counters"].items()}),
                created=_count(inner["created"]),
                rows={str(name): _count(value) for name, value in inner["rows"].items()},
                files=tuple(FileEntry(name, _count(size), sha256) for name, size, sha256 in inner["files"]),
            )
            check_spec(manifest.spec)
        except (ValueError, KeyError, TypeError, AttributeError, InvalidRequest) as error:
            raise DataLoss(f"{where}: its manifest is not whole: {type(error).__name__} {error}") from error
        manifest._check_files(where)
        return manifest

    def _check_files(self, where: str) -> None:
        names = [entry.name for entry in self.files]
        if len(set(names)) != len(names):
            raise DataLoss(f"{where}: its manifest names a file twice")
        for entry in self.files:
            if not is_ours(entry.name) or not _SHA256.fullmatch(str(entry.sha256)):
                raise DataLoss(
                    f"{where}: its manifest names a file that no snapshot has: {entry.name!r:.200}"
                )


@dataclass(frozen=True, eq=False)
class SnapshotInfo:
    """What is known of a snapshot without reading its rows.

    collection: the name of the one that it was taken of. bytes: of all its files but the manifest.
    created: RFC 3339, UTC. generation: of the collection at that moment.
    """

    path: Path
    collection: str
    format: int
    images: int
    entities: int
    bytes: int
    created: str
    generation: int
    spec: CollectionSpec

    @staticmethod
    def of(path: Path, manifest: Manifest) -> SnapshotInfo:
        return SnapshotInfo(
            path=path,
            collection=manifest.spec.name,
            format=FORMAT,
            images=manifest.counters.images,
            entities=manifest.counters.entities,
            bytes=sum(entry.size for entry in manifest.files),
            created=format_time(manifest.created),
            generation=manifest.counters.generation,
            spec=manifest.spec,
        )


def is_ours(name: Any) -> bool:
    """Whether a snapshot can have a file of this name beside its manifest: nothing that climbs out."""
    return isinstance(name, str) and bool(_ROWS.fullmatch(name) or _SEGMENT.fullmatch(name))


def segment_of(name: str) -> tuple[int, str]:
    """Number and file of a name in segments/."""
    _, number, file = PurePosixPath(name).parts
    return int(number), file


def _digest(inner: Any) -> str:
    return hashlib.sha256(json.dumps(inner, sort_keys=True).encode()).hexdigest()


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r:.50} is no count")
    return value
