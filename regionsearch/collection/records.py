"""What a collection holds: about itself, and for each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.fingerprint import Fingerprint

PixelsKept = Literal["none", "thumbnail", "original"]
FieldKind = Literal["number", "string", "boolean", "timestamp"]
Favour = Literal["memory", "speed"]
Durability = Literal["synced", "buffered"]
"""When a write is acknowledged: when it is on disk and searchable, or when it is queued (and then at most
200 ms before its commit)."""

MAX_IMAGE_ID_BYTES = 480
"""Of the UTF-8 form: LMDB keys end at 511 bytes and carry the collection's number as well."""
MAX_COLLECTION_NAME = 128
MAX_PAYLOAD_BYTES = 64 * 1024
MAX_ENTITIES = 65_535
"""An entity's ordinal has 16 bits of its FAISS id; ordinal 65,535 is kept for the image itself."""


@dataclass(frozen=True, slots=True)
class IndexedField:
    """A field of the payload whose values are kept as a column, so that filters need not read records.

    path: as filters write it, without `payload.`: `year`, `camera.maker`.
    kind: of its values; a list of such values counts as having each of them.
    """

    path: str
    kind: FieldKind


@dataclass(frozen=True, slots=True)
class IndexWish:
    """What a collection's index segments should be good at.

    recall_target: of the true ten nearest rows, the share that a search should find, 0.5 to 0.999.
    favour: what is spared where a choice is left: bytes of memory, or time of searches.
    """

    recall_target: float = 0.95
    favour: Favour = "speed"


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """What a collection is: all of it is fixed when it is created, but for indexed_fields and index, which
    `Collection.update` changes.

    name: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, starting with a letter or digit.
    embedder: pins the collection to its model; records must have its dimension.
    segmenter: what cuts new images.
    pixels: what is kept of each picture (`thumbnail`: JPEG, longest side 320 px).
    entity_limit: entities proposed for an image at most, 1 to 1,024.
    probe: (d,) float32 unit vector of a fixed probe input, computed when the collection was created;
        a model that opens the collection must agree to cosine 0.999.
    indexed_fields: fields of the payload that filters read from columns.
    index: what its index segments should be good at.
    """

    name: str
    embedder: Fingerprint
    segmenter: Fingerprint
    pixels: PixelsKept = "thumbnail"
    entity_limit: int = 32
    probe: NDArray[np.float32] | None = None
    indexed_fields: tuple[IndexedField, ...] = ()
    index: IndexWish = IndexWish()


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """A finished record, as it is upserted and as it is read back.

    image_id: caller-given, 1 to 480 bytes of UTF-8, no control characters.
    width, height: pixels of the upright image.
    content_hash: sha256 (hex) of the encoded bytes, or "" when there never were any.
    payload: a JSON object, 64 KiB at most when encoded.
    vectors: (1 + n, d) float32 unit vectors: the image's, then its n entities'.
    pixels: what the collection keeps of the picture (encoded bytes), or None; not read back by
        `get` unless asked for.
    version: counts the upserts of this image_id from 1; assigned by the collection.
    number: the image's number in the collection, never reused; assigned by the collection.
    updated: RFC 3339 time of the last upsert, UTC; assigned by the collection.
    """

    image_id: str
    width: int
    height: int
    entities: Entities
    vectors: NDArray[np.float32]
    content_hash: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)
    pixels: bytes | None = None
    version: int = 0
    number: int = -1
    updated: str = ""


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """Of a buffered write, which is acknowledged before its commit: number -1, version 0, created False."""

    image_id: str
    number: int
    version: int
    created: bool
    """False when an image of this id was replaced, or given another payload."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest rows of one arm, best first; equal similarities in the order of their ids.

    numbers: (k,) int64, image numbers. ordinals: (k,) int64, entity ordinals (0 throughout in the
    global arm). similarities: (k,) float32 cosines, exact (from the stored float32 vectors).
    """

    numbers: NDArray[np.int64]
    ordinals: NDArray[np.int64]
    similarities: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ImageListing:
    image_id: str
    width: int
    height: int
    entities: int
    content_hash: str
    version: int
    updated: str


@dataclass(frozen=True, slots=True)
class SegmentStats:
    """One index segment. images, entities: that it covers, deleted ones too; bytes: of its files."""

    number: int
    images: int
    entities: int
    deleted_images: int
    entity_index: str
    image_index: str
    bytes: int


@dataclass(frozen=True, slots=True)
class CollectionStats:
    """As of the last commit. The models' fingerprints are in the spec."""

    name: str
    images: int
    entities: int
    dimension: int
    bytes: int
    """Stored bytes of its records and kept pixels."""
    generation: int
    """Counts the committed writes to the collection; equal generations mean equal content."""
    fill: float = 0.0
    """Share of the room that the data directory has (its map, its disk) which is in use, 0 to 1."""
    segments: tuple[SegmentStats, ...] = ()
    """Its index segments, oldest images first."""
    fresh_rows: int = 0
    """Entities and images that are in no index segment yet and searched exactly in memory."""
    deleted_rows: int = 0
    """Entities and images of deleted or replaced images that index segments still hold."""
    warnings: tuple[str, ...] = ()
    """What whoever runs this should know, for people."""
