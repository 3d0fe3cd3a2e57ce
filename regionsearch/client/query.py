"""What a caller can ask. Both clients take it as keywords, or ready-made as a Query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from regionsearch.client.pictures import Picture
from regionsearch.errors import InvalidRequest
from regionsearch.regions import Box, FramePart, Mask, Point, Polygon, RegionPrompt

BoxLike: TypeAlias = Box | Sequence[float]
"""A Box, or x0, y0, x1, y1."""
PointLike: TypeAlias = Point | Sequence[float]
"""A Point, or x, y, or x, y, positive (1 or 0)."""
PolygonLike: TypeAlias = Polygon | Sequence[Sequence[float]] | Sequence[float]
"""A Polygon, or the corners of one ring: (x, y) each, or their numbers one after the other."""
MaskLike: TypeAlias = "Mask | NDArray[np.bool_] | bytes | str | Path"
"""A Mask, an array (height, width) of bool, or a PNG file (its bytes or its path), where a pixel
belongs to the mask when one of its colours is 128 or more, and its alpha (if any) too."""
VectorLike: TypeAlias = "NDArray[np.floating] | Sequence[float]"

RerankMethod = Literal["pairwise", "pairwise_instructed", "closer"]
GroupBy = Literal["image", "entity"]
Preset = Literal["fast", "balanced", "thorough"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Region:
    """One thing pointed at in the query's image: points, and at most one of box, mask and polygon.

    Pixels of the upright image, or with `normalised` fractions of its width and height. refine: the box
    means the thing within it, as the segmenter outlines it; only for a box without points.
    """

    box: BoxLike | None = None
    points: Sequence[PointLike] = ()
    mask: MaskLike | None = None
    polygon: PolygonLike | None = None
    normalised: bool = False
    refine: bool = False


RegionLike: TypeAlias = Region | RegionPrompt
"""A Region, or a RegionPrompt in pixels."""


@dataclass(frozen=True, slots=True)
class Example:
    """An indexed image, or with `entity` (its index) one of its entities."""

    image_id: str
    entity: int | None = None


ExampleLike: TypeAlias = Example | str
"""An Example, or the id of an image."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What is wanted of a matched entity's place, size, name and number. Everything that is said counts.

    part: the part of the frame that the middle of its box lies in: thirds, or halves. box: the box that it
    should have, fractions of the image's width and height; not beside part. tolerance: how far it may lie
    from the part, or its edges from those of the box, until the agreement has fallen to one half; a
    fraction of the frame's sides, above 0, at most 1; None: 0.1.
    min_area, max_area: mask over image, 0 to 1. label: exactly; other entities do not match.
    min_count, max_count: of such entities in the image, 1 at least.
    strict: entities that lie elsewhere or are of another size do not match, nor images with another number;
    otherwise they score less. label, and a count beside it, are always strict.
    """

    part: FramePart | None = None
    box: BoxLike | None = None
    tolerance: float | None = None
    min_area: float | None = None
    max_area: float | None = None
    label: str | None = None
    min_count: int | None = None
    max_count: int | None = None
    strict: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Query:
    """One question to a collection; every field is also a keyword of `search`.

    What is looked for: a picture (`image`) or an indexed one (`image_id`), or a ready `vector`; a `text`,
    alone or beside a picture; examples that are `liked` (which may be all there is) and `disliked`.
    Where in `image`: `regions`, matched to distinct entities of the same image. For a single one
    `points`, and at most one of `box`, `mask` and `polygon`, in pixels of the upright image, or with
    `normalised` in fractions of its width and height; `refine` as in Region; or all of it as one `region`.
    Where in `image_id`: one of its entities by index (`entity`), or several (`entities`).
    placements: of the match; one for each region or entity, in their order.
    where: a filter, such as `payload.year >= 2020 AND entity.label = "dog"` (docs/filters.md): images without
    an entity that meets it are no hits, and only entities that meet it are matches.

    limit: hits in the answer (of a page). page_token: that of the answer before. group_by: whether a hit is
    an image or an entity. min_score: the least score of a hit, 0 to 1. all_entities: how many further
    entities a hit lists.
    weights: of the parts of the score by name. per_kind_weights: defaults fitted for this kind of query
    alone. preset: how much work the search may be. candidates: images that each arm brings at least.
    include_self: image_id and the examples may be among the hits.
    rerank: `pairwise` reads the best `rerank_top` (1 to 256, 32 unless said) again, each with the query,
    from the pixels that the collection keeps; `rerank_weight` is what that counts (0.5; `closer`: 1.5).
    `pairwise_instructed` reads them with the text as well, and needs a text beside a picture. `closer` looks
    for what words alone say among the things of each image, one by one, where the embedder offers it.
    masks, payload, parts: whether the answer has them.
    """

    image: Picture | None = None
    image_id: str | None = None
    entity: int | None = None
    entities: Sequence[int] = ()
    regions: Sequence[RegionLike] = ()
    box: BoxLike | None = None
    points: Sequence[PointLike] = ()
    mask: MaskLike | None = None
    polygon: PolygonLike | None = None
    region: RegionPrompt | None = None
    normalised: bool = False
    refine: bool = False
    text: str | None = None
    vector: VectorLike | None = None
    liked: Sequence[ExampleLike] = ()
    disliked: Sequence[ExampleLike] = ()
    placements: Sequence[Placement] = ()
    where: str = ""
    limit: int = 10
    page_token: str = ""
    group_by: GroupBy = "image"
    min_score: float | None = None
    all_entities: int = 0
    weights: Mapping[str, float] | None = None
    per_kind_weights: bool = False
    preset: Preset = "balanced"
    candidates: int | None = None
    include_self: bool = False
    rerank: RerankMethod | None = None
    rerank_top: int | None = None
    rerank_weight: float | None = None
    masks: bool = True
    payload: bool = True
    parts: bool = True


class QueryFields(TypedDict, total=False):
    """The fields of Query, for type checkers of keyword calls."""

    image: Picture | None
    image_id: str | None
    entity: int | None
    entities: Sequence[int]
    regions: Sequence[RegionLike]
    box: BoxLike | None
    points: Sequence[PointLike]
    mask: MaskLike | None
    polygon: PolygonLike | None
    region: RegionPrompt | None
    normalised: bool
    refine: bool
    text: str | None
    vector: VectorLike | None
    liked: Sequence[ExampleLike]
    disliked: Sequence[ExampleLike]
    placements: Sequence[Placement]
    where: str
    limit: int
    page_token: str
    group_by: GroupBy
    min_score: float | None
    all_entities: int
    weights: Mapping[str, float] | None
    per_kind_weights: bool
    preset: Preset
    candidates: int | None
    include_self: bool
    rerank: RerankMethod | None
    rerank_top: int | None
    rerank_weight: float | None
    masks: bool
    payload: bool
    parts: bool


def query_of(query: Query | None, **said: Unpack[QueryFields]) -> Query:
    """The query, with what is said beside it in place of its own. Raises TypeError for an unknown keyword,
    InvalidRequest for what is no Query."""
    if query is None:
        return Query(**said)
    if not isinstance(query, Query):
        raise InvalidRequest(
            f"query is a {type(query).__name__}; give a Query, or its fields by name, such as text=…",
            field="query",
        )
    return replace(query, **said)
