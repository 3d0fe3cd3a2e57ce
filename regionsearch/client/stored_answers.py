"""What a server answers about collections, operations and snapshots, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from regionsearch.client.answers import ModelFingerprint
from regionsearch.contract_names import OperationKind, OperationState
from regionsearch.errors import RegionSearchError


@dataclass(frozen=True, slots=True)
class IndexSegment:
    """An immutable part of a collection's index. images, entities: covered, deleted ones too.
    entity_index, image_index: how they are indexed. bytes: of its files."""

    number: int
    images: int
    entities: int
    deleted_images: int
    entity_index: str
    image_index: str
    bytes: int


@dataclass(frozen=True, slots=True)
class CollectionStats:
    """bytes: by what they are of (`records`, `segments`). fresh_rows: searched exactly, in no segment yet.
    deleted_rows: still in segments. fill: share of the data directory's room in use, 0 to 1; at 1 writes end
    in StorageFull. warnings: for people. Equal generations mean equal content."""

    name: str
    images: int
    entities: int
    embedder: ModelFingerprint
    segmenter: ModelFingerprint
    bytes: Mapping[str, int]
    fresh_rows: int
    deleted_rows: int
    segments: tuple[IndexSegment, ...]
    fill: float
    generation: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that the server keeps. collection: of which it was taken, in this generation.
    bytes: of its files. created: UTC."""

    name: str
    collection: str
    images: int
    entities: int
    bytes: int
    generation: int
    created: datetime


@dataclass(frozen=True, slots=True)
class Operation:
    """Work of the server that takes longer than a call. progress: 0 to 1. images: deleted, copied or brought
    back, 0 until it has succeeded. complete: of a purge that has succeeded, whether the files hold nothing of
    the images any more; False: a reader of an older state hindered it, and it is to be repeated.
    error: why it failed. created, started, finished: UTC, None before that. notes: for people."""

    id: str
    kind: OperationKind
    collection: str
    state: OperationState
    progress: float
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    images: int = 0
    snapshot: Snapshot | None = None
    complete: bool | None = None
    error: RegionSearchError | None = None
    notes: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class ImageCount:
    """Images and entities that satisfy a filter. notes: for people, such as a field that is not indexed."""

    images: int
    entities: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordStreamReport:
    """What became of a stream of records: messages that were stored, each by itself, records under a new id
    and in the place of another, and entities of all of them."""

    messages: int
    created: int
    replaced: int
    entities: int
