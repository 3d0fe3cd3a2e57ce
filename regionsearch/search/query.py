"""What is asked, and what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.images import Image
from regionsearch.regions import Mask, RegionPrompt

PART_NAMES = ("entity", "global", "text_entity", "text_image")
"""The signals of joint scoring that exist today, in the order in which they are shown."""
STAGES = ("decode", "segment", "encode", "entity_arm", "global_arm", "fetch", "joint", "serialise")


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


@dataclass(frozen=True, slots=True)
class PartScore:
    """One signal of a hit: raw cosine, deviations from the background, and its weight."""

    raw: float
    standardised: float
    weight: float


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
    image_id: str
    width: int
    height: int
    score: float
    parts: Mapping[str, PartScore]
    entity: MatchedEntity
    payload: Mapping[str, Any]


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
