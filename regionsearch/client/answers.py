"""What a server answers, as plain values. Coordinates are pixels of the upright image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from regionsearch.contract_names import PixelsKept
from regionsearch.regions import Box, Mask, RegionPrompt

LabelSource = Literal["given", "predicted"]


@dataclass(frozen=True, slots=True)
class ModelFingerprint:
    """name: of the model. weights: sha256 (hex), "" without any. dimension: of its vectors, 0 for a
    segmenter. preprocessing: its version."""

    name: str
    weights: str
    dimension: int
    preprocessing: int


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection: its models, what it keeps of pictures, entities kept of an image at most, and
    what is in it. Equal generations mean equal content.

    indexed_fields: kinds (`number`, `string`, `boolean`, `timestamp`) by path in the payload. recall_target,
    0.5 to 0.999, and favour, `memory` or `speed`: what its index should be good at. space: of vectors that
    are computed elsewhere, "" when the embedder makes them.
    """

    name: str
    embedder: ModelFingerprint
    segmenter: ModelFingerprint
    pixels: PixelsKept
    entity_limit: int
    images: int
    entities: int
    stored_bytes: int
    generation: int
    indexed_fields: Mapping[str, str] = field(default_factory=dict)
    recall_target: float = 0.95
    favour: str = "speed"
    space: str = ""


@dataclass(frozen=True, slots=True)
class Entity:
    """index: its ordinal in the image. area: mask pixels over image pixels, above 0 to 1.
    objectness: 0 to 1. label and its source: None when nobody named it. mask: None unless asked for."""

    index: int
    box: Box
    area: float
    objectness: float
    label: str | None
    label_source: LabelSource | None
    mask: Mask | None


@dataclass(frozen=True, slots=True)
class PartScore:
    """raw: of `global` and `text_image` a cosine, -1 to 1; of `entity` and `text_entity` a soft maximum of
    cosines, 1 at most; of `placement` and `objectness` 0 to 1. standardised: deviations from random pairs.
    weight: 0 or more. entity: index of the one that it was measured on, which may be another than the hit
    shows, None for a signal of the whole image."""

    raw: float
    standardised: float
    weight: float
    entity: int | None = None


@dataclass(frozen=True, slots=True)
class RerankScore:
    """What reading an image again found. raw: a cosine, -1 to 1. standardised: deviations above the
    least similar of the images read again. weight: what that counts, above 0. joint_score, joint_rank:
    the score, 0 to 1, and the place, from 1, before it."""

    raw: float
    standardised: float
    weight: float
    joint_score: float
    joint_rank: int


@dataclass(frozen=True, slots=True)
class RegionMatch:
    """What one region of the query, counted from 0, was matched to. raw: their cosine, -1 to 1.
    standardised: deviations from random pairs."""

    region: int
    entity: Entity
    raw: float
    standardised: float


@dataclass(frozen=True, slots=True)
class EntityMatch:
    """An entity of a hit. score: what the image would have with it as its match, 0 to 1."""

    entity: Entity
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """An image that was found. width, height: pixels. score: 0 to 1. parts: by name, empty when left
    out. entity: the one that matched, of several regions that of the first. payload: None when left out.
    rerank: None when the image was not read again, or parts are left out.

    matches: for each region (or entity of image_id) of the query its own entity; one for a whole picture, a
    vector or examples alone; empty for words alone. entities: further ones, best first, as many as
    `all_entities` asked for. entity_arm_rank, global_arm_rank: the image's place in each arm of the first
    phase, from 1; None where that arm did not bring it.
    """

    image_id: str
    width: int
    height: int
    score: float
    parts: Mapping[str, PartScore]
    entity: Entity
    payload: dict[str, Any] | None
    rerank: RerankScore | None = None
    matches: tuple[RegionMatch, ...] = ()
    entities: tuple[EntityMatch, ...] = ()
    entity_arm_rank: int | None = None
    global_arm_rank: int | None = None


@dataclass(frozen=True, slots=True)
class UsedRegion:
    """The region that the query really used. area: 0 to 1. mask: None when masks are left out, and so
    is a prompt that was nothing but a mask."""

    box: Box
    area: float
    mask: Mask | None
    prompt: RegionPrompt | None


@dataclass(frozen=True, slots=True)
class Answer:
    """hits: best first. regions: one for each region of the query. background: version of the
    statistics that standardised the parts. timing_ms: milliseconds by stage. calibration: version of what
    made scores of weighted sums. next_page_token: asks for the next hits, "" when there are none. notes:
    sentences on how it was answered, such as of a filter that read records."""

    collection: str
    hits: tuple[Hit, ...]
    regions: tuple[UsedRegion, ...]
    background: str
    timing_ms: Mapping[str, float]
    calibration: str = ""
    next_page_token: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """A line of a listing. width, height: pixels. content_hash: sha256 (hex) of the encoded bytes.
    version: counts the upserts of this id from 1. updated: UTC, to the microsecond."""

    image_id: str
    width: int
    height: int
    content_hash: str
    entity_count: int
    version: int
    updated: datetime


@dataclass(frozen=True, eq=False, slots=True)
class StoredImage:
    """What a collection knows about an image, as far as it was asked for.

    payload: empty in lists and exports that leave it out.
    entities: empty unless asked for. vectors: (1 + n, d) float32 unit vectors, the image's, then
    those of its n entities when these were asked for too; None unless asked for.
    pixels: encoded bytes; None unless asked for and kept.
    """

    summary: ImageSummary
    payload: dict[str, Any]
    entities: tuple[Entity, ...]
    vectors: NDArray[np.float32] | None
    pixels: bytes | None


@dataclass(frozen=True, slots=True)
class UpsertedImage:
    """position: its place among the images given, from 0. created: False when an image of this id was
    replaced. version: counts the upserts of this id from 1."""

    image_id: str
    position: int
    created: bool
    version: int


@dataclass(frozen=True, slots=True)
class UpsertFailure:
    """An image that was not stored. reason: for programs, as in `regionsearch.errors`; message: for
    people."""

    image_id: str
    position: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class UpsertReport:
    """What became of each image. entities: of all that were stored."""

    upserted: tuple[UpsertedImage, ...]
    failures: tuple[UpsertFailure, ...]
    entities: int


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What became of a stream: received = created + replaced + failed. failures: the first 1,000.
    entities: of all that were stored."""

    received: int
    created: int
    replaced: int
    failed: int
    failures: tuple[UpsertFailure, ...]
    entities: int


@dataclass(frozen=True, slots=True)
class DeleteReport:
    """deleted: how many there were. missing: ids that did not exist."""

    deleted: int
    missing: int


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one request may ask for: megapixels and bytes of a picture, characters of a text, hits in an
    answer, regions of a query, examples of each kind, images of each arm of the first phase, queries,
    pictures and records in a batch, bytes of a message, calls at once. 0: the server's version does not know
    it."""

    image_megapixels: float
    image_bytes: int
    text_characters: int
    hits: int
    regions: int
    examples: int
    candidates: int
    batch_queries: int
    batch_images: int
    message_bytes: int
    concurrent_calls: int
    batch_records: int = 0


@dataclass(frozen=True, slots=True)
class ServerInfo:
    version: str
    embedders: tuple[str, ...]
    segmenters: tuple[str, ...]
    default_embedder: str
    default_segmenter: str
    limits: ServerLimits
    snapshots: bool = False
    """Whether it keeps snapshots: its operator named a folder for them."""
