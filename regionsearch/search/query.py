"""What is asked of a collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from regionsearch.images import Image
from regionsearch.regions import RegionPrompt
from regionsearch.search.placement import Placement

PART_NAMES = ("entity", "global", "text_entity", "text_image", "placement", "objectness")
"""The signals of joint scoring, in the order in which they are shown."""
STAGES = ("decode", "segment", "encode", "entity_arm", "global_arm", "fetch", "joint", "rerank", "serialise")

GroupBy = Literal["image", "entity"]
GROUPINGS: tuple[GroupBy, ...] = get_args(GroupBy)
Preset = Literal["fast", "balanced", "thorough"]
PRESETS: tuple[Preset, ...] = get_args(Preset)

RerankMethod = Literal["pairwise", "pairwise_instructed", "closer"]
RERANK_METHODS: tuple[RerankMethod, ...] = get_args(RerankMethod)
DEFAULT_RERANKED = 32
"""Three times the default limit: enough for a misplaced image to come into the answer, at a model's pass
for each. docs/rerank.md compares numbers."""
MAX_RERANKED = 256
"""Each of them is decoded and goes through the model while the caller waits."""
DEFAULT_RERANK_WEIGHTS: Mapping[RerankMethod, float] = {
    "pairwise": 0.5,
    "pairwise_instructed": 0.5,
    "closer": 1.5,
}
"""`pairwise`: a second opinion, half as loud as an entity: with compact, larger weights lost more than they
brought. `closer`: as loud as words about an entity (docs/rerank.md)."""


@dataclass(frozen=True, slots=True)
class Rerank:
    """The best of the joint ranking are read again, each with the query.

    method: all by the collection's own embedder; `pairwise` reads an image as it is stored,
    `pairwise_instructed` with the query's text as its instruction, for a query that has a text beside
    pixels; `closer`, for words alone and embedders that offer it, looks at single things of the image.
    top_n: how many, 1 to 256; may be more or less than the images asked for. weight: what a deviation of the
    reading counts beside the weighted sum of joint scoring, above 0, at most 1,000 (which all but silences
    joint scoring); None: the method's own.
    """

    method: RerankMethod = "pairwise"
    top_n: int = DEFAULT_RERANKED
    weight: float | None = None

    @property
    def counted(self) -> float:
        """The weight, or that of the method when none is said."""
        return DEFAULT_RERANK_WEIGHTS[self.method] if self.weight is None else self.weight


@dataclass(frozen=True, slots=True)
class QueryRegion:
    """One thing pointed at in the query's image.

    prompt: the region. normalised: its coordinates are fractions of the image's width and height.
    refine: a box means the thing within it, as the segmenter outlines it, not every pixel of the box;
        only for a box without points.
    """

    prompt: RegionPrompt
    normalised: bool = False
    refine: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """An indexed image, or one of its entities, that is like or unlike what is wanted."""

    image_id: str
    entity: int | None = None


@dataclass(frozen=True, eq=False)
class Query:
    """One question to a collection.

    image or image_id (an indexed image) or neither; with image_id, `entities` are the ordinals of those
    of its entities that are meant; none: the whole image. regions: of `image` (not with image_id); none: the
    whole image. Several regions or entities are matched to distinct entities of the same image.
    text: the instruction. vector: (d,) a ready vector of the collection's space, instead of image and text.
    liked, disliked: examples that move the query towards them and away from them; liked ones may be all
    that is asked with.
    placements: one for each region or entity, in their order, or a single one for another query.
    where: a filter (docs/filters.md), "" for none: images without an entity that meets it are no hits, and
    only entities that meet it are matches.
    limit: hits in the answer, 1 to `limits.hits`. page_token: of the answer before, to the same query,
    limit and all; "" for the first page.
    weights: by part name, finite and at least 0, not all 0; parts not named keep their defaults.
    per_kind_weights: defaults fitted for this kind of query alone.
    group_by: whether a hit is an image or, of a query with a single match, an entity. min_score: the least
    score of a hit before it is read again, 0 to 1.
    candidates: distinct images that each arm brings at least, 1 to `limits.candidates`; None: as the preset
    says. all_entities: entities that a hit lists beside the matched one.
    include_self: whether the image named by image_id, and examples, may be among the hits.
    encoded_image: an image still to be decoded; the decoding is then a stage of the query.
    rerank: the third phase, left out by default; not with `vector`, which has nothing to read.
    """

    image: Image | None = None
    encoded_image: bytes | None = None
    image_name: str = "query image"
    image_id: str | None = None
    entities: tuple[int, ...] = ()
    regions: tuple[QueryRegion, ...] = ()
    text: str | None = None
    vector: NDArray[np.float32] | None = None
    liked: tuple[Example, ...] = ()
    disliked: tuple[Example, ...] = ()
    placements: tuple[Placement, ...] = ()
    where: str = ""
    limit: int = 10
    page_token: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    per_kind_weights: bool = False
    group_by: GroupBy = "image"
    min_score: float = 0.0
    candidates: int | None = None
    preset: Preset = "balanced"
    all_entities: int = 0
    include_self: bool = False
    rerank: Rerank | None = None
