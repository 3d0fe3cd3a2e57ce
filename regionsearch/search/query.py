"""What is asked, and what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from regionsearch.images import Image
from regionsearch.regions import Mask, RegionPrompt

PART_NAMES = ("entity", "global", "text_entity", "text_image")
"""The signals of joint scoring that exist today, in the order in which they are shown."""
STAGES = ("decode", "segment", "encode", "entity_arm", "global_arm", "fetch", "joint", "rerank", "serialise")

RerankMethod = Literal["pairwise", "pairwise_instructed"]
RERANK_METHODS: tuple[RerankMethod, ...] = get_args(RerankMethod)
DEFAULT_RERANKED = 32
"""Three times the default limit: enough for a misplaced image to come into the answer, at a model's pass
for each. docs/rerank.md compares numbers."""
MAX_RERANKED = 256
"""Each of them is decoded and goes through the model while the caller waits."""
DEFAULT_RERANK_WEIGHT = 0.5
"""A second opinion, half as loud as an entity: with compact, larger weights lost more than they brought
(docs/rerank.md)."""


@dataclass(frozen=True, slots=True)
class Rerank:
    """The best of the joint ranking are read again, each with the query.

    method: both by the collection's own embedder; `pairwise` reads an image as it is stored,
    `pairwise_instructed` with the query's text as its instruction, for a query that has a text beside
    pixels. top_n: how many, 1 to 256; may be more or less than the images asked for. weight: what a
    deviation of the reading counts beside the weighted sum of joint scoring, above 0, at most 1,000
    (which all but silences joint scoring).
    """

    method: RerankMethod = "pairwise"
    top_n: int = DEFAULT_RERANKED
    weight: float = DEFAULT_RERANK_WEIGHT


@dataclass(frozen=True, eq=False)
class Query:
    """One question to a collection.

    image or image_id (an indexed image) or neither; with image_id, `entity` is the ordinal of one
    of its entities. region: one region of `image` (not with image_id). text: the instruction.
    vector: (d,) a ready vector of the collection's space, instead of image and text.
    limit: images in the answer, 1 to `limits.hits`.
    weights: by part name, finite and at least 0, not all 0; parts not named keep their defaults.
    include_self: whether the image named by image_id may be among its own hits.
    encoded_image: an image still to be decoded; the decoding is then a stage of the query.
    rerank: the third phase, left out by default; not with `vector`, which has nothing to read.
    """

    image: Image | None = None
    encoded_image: bytes | None = None
    image_name: str = "query image"
    image_id: str | None = None
    entity: int | None = None
    region: RegionPrompt | None = None
    region_is_normalised: bool = False
    text: str | None = None
    vector: NDArray[np.float32] | None = None
    limit: int = 10
    weights: Mapping[str, float] = field(default_factory=dict)
    include_self: bool = False
    rerank: Rerank | None = None


@dataclass(frozen=True, slots=True)
class PartScore:
    """One signal of a hit: raw cosine, deviations from the background, and its weight."""

    raw: float
    standardised: float
    weight: float


@dataclass(frozen=True, slots=True)
class RerankScore:
    """What the third phase found in a hit that it read again.

    raw: cosine of the query and the candidate as the model reads them. standardised: by how many
    deviations of the images read again it lies above the least similar of them, 0 at least. weight:
    what that counts. joint_score, joint_rank: the hit's score, 0 to 1, and its place, from 1, before.
    """

    raw: float
    standardised: float
    weight: float
    joint_score: float
    joint_rank: int


@dataclass(frozen=True, eq=False)
class MatchedEntity:
    index: int
    box: tuple[float, float, float, float]
    area: float
    objectness: float
    label: str | None
    label_source: str | None
    mask: Mask


@dataclass(frozen=True, eq=False)
class Hit:
    """score: the logistic of the parts' weighted sum and, when the image was read again, of
    `rerank.weight` times `rerank.standardised` added to it."""

    image_id: str
    width: int
    height: int
    score: float
    parts: Mapping[str, PartScore]
    entity: MatchedEntity
    payload: Mapping[str, Any]
    rerank: RerankScore | None = None


@dataclass(frozen=True, eq=False)
class UsedRegion:
    """The region that the query really used, in pixels of the query image."""

    mask: Mask
    prompt: RegionPrompt


@dataclass(frozen=True, eq=False)
class Answer:
    """regions: those used, none or one. timing_ms: milliseconds by stage. background: the version
    of the statistics that standardised the signals."""

    hits: tuple[Hit, ...]
    regions: tuple[UsedRegion, ...]
    timing_ms: Mapping[str, float]
    background: str
    collection: str
