"""From a SearchRequest to a query.

Only the form is judged here (both shapes of a region, bytes that are no vector, an option beside one that
silences it), and how much a region may hold before it is read; what a query may say is `search/`'s business.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from regionsearch.config import Limits
from regionsearch.errors import (
    ImageNotFound,
    InvalidFilter,
    InvalidImage,
    InvalidRegion,
    InvalidRequest,
    RegionSearchError,
)
from regionsearch.images import decode_mask
from regionsearch.protobuf_shapes import (
    at_field,
    box_from_message,
    mask_from_message,
    points_from_message,
    polygon_from_message,
    vector_from_message,
)
from regionsearch.regions import FramePart, Mask, RegionPrompt
from regionsearch.search.placement import DEFAULT_TOLERANCE, Placement
from regionsearch.search.query import (
    DEFAULT_RERANKED,
    Example,
    GroupBy,
    Preset,
    Query,
    QueryRegion,
    Rerank,
    RerankMethod,
)
from regionsearch.v1 import search_pb2 as pb
from regionsearch.v1 import types_pb2

DEFAULT_HITS = 10
MAX_POINTS = 1_000
"""Of one region. Each is looked up in the picture and told in the answer."""
MAX_RINGS = 256
"""Of one polygon. Each is drawn by itself, which takes about a millisecond however small it is."""
MAX_CORNERS = 10_000
"""Of one polygon, all rings together."""
MAX_MASK_RUNS = 1_000_000
"""Of one mask. A photo's outlines have some thousands; a chequered picture of a few kilobytes had sixteen
million, and its query took minutes and gigabytes."""
_MASK_DIGITS = 7
"""Characters of a run's length at most, as COCO codes it."""
_CONTINUED = bytes(character + 48 for character in range(32, 64))
"""Characters after which a run's length goes on."""
_MASKS_DRAWN = threading.BoundedSemaphore(2)
"""Pictures of masks that are decoded at one time, each into megabytes for every few bytes that came."""

# Whoever names none means the value that UNSPECIFIED stands for; a value that is unknown is refused before.
RERANK_METHODS: dict[int, RerankMethod] = {
    pb.RERANK_METHOD_UNSPECIFIED: "pairwise",
    pb.RERANK_METHOD_PAIRWISE: "pairwise",
    pb.RERANK_METHOD_PAIRWISE_INSTRUCTED: "pairwise_instructed",
    pb.RERANK_METHOD_CLOSER: "closer",
}
GROUPINGS: dict[int, GroupBy] = {
    pb.GROUP_BY_UNSPECIFIED: "image",
    pb.GROUP_BY_IMAGE: "image",
    pb.GROUP_BY_ENTITY: "entity",
}
PRESETS: dict[int, Preset] = {
    pb.PRESET_UNSPECIFIED: "balanced",
    pb.PRESET_FAST: "fast",
    pb.PRESET_BALANCED: "balanced",
    pb.PRESET_THOROUGH: "thorough",
}
FRAME_PARTS: dict[int, FramePart | None] = {
    pb.FRAME_PART_UNSPECIFIED: None,
    pb.FRAME_PART_LEFT: "left",
    pb.FRAME_PART_RIGHT: "right",
    pb.FRAME_PART_TOP: "top",
    pb.FRAME_PART_BOTTOM: "bottom",
    pb.FRAME_PART_CENTRE: "centre",
    pb.FRAME_PART_TOP_LEFT: "top_left",
    pb.FRAME_PART_TOP_RIGHT: "top_right",
    pb.FRAME_PART_BOTTOM_LEFT: "bottom_left",
    pb.FRAME_PART_BOTTOM_RIGHT: "bottom_right",
    pb.FRAME_PART_LEFT_HALF: "left_half",
    pb.FRAME_PART_RIGHT_HALF: "right_half",
    pb.FRAME_PART_TOP_HALF: "top_half",
    pb.FRAME_PART_BOTTOM_HALF: "bottom_half",
}


def query_from_message(request: pb.SearchRequest, limits: Limits) -> Query:
    """Raises InvalidRequest and InvalidRegion, naming the field, for what is malformed."""
    for name in ("image", "image_id"):
        if request.HasField(name) and not getattr(request, name):
            raise InvalidRequest(f"{name} is empty", field=name)
    vector = None
    if request.HasField("vector"):
        with at_field("vector"):
            vector = vector_from_message(request.vector)
    return Query(
        encoded_image=request.image if request.HasField("image") else None,
        image_id=request.image_id if request.HasField("image_id") else None,
        entities=_entities_of(request),
        regions=_regions_of(request, limits),
        text=request.text if request.HasField("text") else None,
        vector=vector,
        liked=_examples_of(request.liked),
        disliked=_examples_of(request.disliked),
        placements=_placements_of(request.placements),
        where=request.filter,
        limit=request.limit if request.HasField("limit") else DEFAULT_HITS,
        page_token=request.page_token,
        weights=dict(request.weights),
        per_kind_weights=request.per_kind_weights,
        group_by=GROUPINGS[request.group_by],
        min_score=request.min_score if request.HasField("min_score") else 0.0,
        candidates=request.candidates if request.HasField("candidates") else None,
        preset=PRESETS[request.preset],
        all_entities=request.all_entities,
        include_self=request.include_self,
        rerank=_rerank_of(request.rerank) if request.HasField("rerank") else None,
    )


def name_field(error: RegionSearchError, request: pb.SearchRequest) -> None:
    """Gives an error of the engine the field that it concerns.

    The engine and its models know regions and a picture; in a request they sit in named fields.
    """
    if isinstance(error, InvalidRegion) and not (error.field or "").startswith(("regions[", "placements[")):
        error.field = "regions[0]"
    elif isinstance(error, InvalidImage):
        error.field = "image"
    elif isinstance(error, InvalidFilter):
        error.field = "filter"
    elif error.field == "entity" and not request.HasField("entity"):
        error.field = "entities[0]"
    elif isinstance(error, ImageNotFound):
        error.field = error.field or "image_id"
        error.metadata["image"] = _image_id_at(error.field, request)


def _image_id_at(path: str, request: pb.SearchRequest) -> str:
    """The id in the field of this path: the query's own, or that of an example."""
    for name, examples in (("liked", request.liked), ("disliked", request.disliked)):
        for number, example in enumerate(examples):
            if path == f"{name}[{number}].image_id":
                return example.image_id
    return request.image_id


def _entities_of(request: pb.SearchRequest) -> tuple[int, ...]:
    if not request.HasField("entity"):
        return tuple(request.entities)
    if request.entities:
        raise InvalidRequest("give an entity or entities, not both", field="entities")
    return (request.entity,)


def _examples_of(messages: Iterable[pb.Example]) -> tuple[Example, ...]:
    return tuple(
        Example(message.image_id, message.entity if message.HasField("entity") else None)
        for message in messages
    )


def _placements_of(messages: Iterable[pb.Placement]) -> tuple[Placement, ...]:
    placements = []
    for number, message in enumerate(messages):
        with at_field(f"placements[{number}]"):
            placements.append(_placement_of(message))
    return tuple(placements)


def _placement_of(message: pb.Placement) -> Placement:
    box = None
    if message.HasField("box"):
        with at_field("box"):
            box = box_from_message(message.box)
    part = FRAME_PARTS[message.part]
    tolerance = DEFAULT_TOLERANCE
    if message.HasField("tolerance"):
        if box is None and part is None:
            raise InvalidRequest("a placement's tolerance needs a part or a box", field="tolerance")
        tolerance = message.tolerance
    return Placement(
        part=part,
        box=box,
        tolerance=tolerance,
        min_area=message.min_area if message.HasField("min_area") else None,
        max_area=message.max_area if message.HasField("max_area") else None,
        label=message.label if message.HasField("label") else None,
        min_count=message.min_count if message.HasField("min_count") else None,
        max_count=message.max_count if message.HasField("max_count") else None,
        strict=message.strict,
    )


def _rerank_of(message: pb.Rerank) -> Rerank:
    return Rerank(
        RERANK_METHODS[message.method],
        message.top_n if message.HasField("top_n") else DEFAULT_RERANKED,
        message.weight if message.HasField("weight") else None,
    )


def _regions_of(request: pb.SearchRequest, limits: Limits) -> tuple[QueryRegion, ...]:
    # Before their masks are decoded, each of which may be a picture of its own.
    if len(request.regions) > limits.regions:
        raise InvalidRequest(
            f"the query has {len(request.regions)} regions; the limit is {limits.regions} (limits.regions)",
            field="regions",
        )
    regions = []
    for number, message in enumerate(request.regions):
        with at_field(f"regions[{number}]"):
            prompt = region_from_message(message, limits)
        normalised = message.coordinates == types_pb2.COORDINATE_SPACE_NORMALISED
        regions.append(QueryRegion(prompt, normalised, message.refine))
    return tuple(regions)


def region_from_message(message: types_pb2.Region, limits: Limits) -> RegionPrompt:
    """The region that a message describes, its coordinates as they are.

    Raises InvalidRegion, naming the field, for one that is empty, malformed or contradicts itself.
    """
    shapes = [name for name in ("box", "mask", "polygon") if message.HasField(name)]
    if len(shapes) > 1:
        raise InvalidRegion(
            f"one region has a {' and a '.join(shapes)}; it can have one of them", field=shapes[1]
        )
    if message.HasField("mask") and message.coordinates == types_pb2.COORDINATE_SPACE_NORMALISED:
        raise InvalidRegion(
            "a mask has pixels of its own; a region with one cannot be normalised", field="coordinates"
        )
    if len(message.points) > MAX_POINTS:
        raise InvalidRegion(
            f"one region has {len(message.points)} points; the limit is {MAX_POINTS}", field="points"
        )
    box = mask = polygon = None
    if message.HasField("box"):
        with at_field("box"):
            box = box_from_message(message.box)
    if message.HasField("mask"):
        with at_field("mask"):
            mask = _mask_of(message.mask, limits)
    if message.HasField("polygon"):
        with at_field("polygon"):
            _check_corners(message.polygon)
            polygon = polygon_from_message(message.polygon)
    return RegionPrompt(points_from_message(message), box, mask, polygon)


def _mask_of(message: types_pb2.Mask, limits: Limits) -> Mask:
    if message.HasField("run_length") == bool(message.png):
        both = "both run_length and png" if message.png else "neither run_length nor png"
        raise InvalidRegion(f"mask has {both}; it needs one of them")
    if message.png:
        if not message.png.startswith(b"\x89PNG\r\n\x1a\n"):
            raise InvalidRegion("mask's png is not a PNG file", field="png")
        with at_field("png"):
            return _drawn_mask(message.png, limits)
    runs = message.run_length
    if runs.height * runs.width > limits.image_megapixels * 1e6:
        raise InvalidRegion(
            f"mask has {runs.height * runs.width / 1e6:.0f} megapixels; "
            f"the limit is {limits.image_megapixels:g} (limits.image_megapixels)"
        )
    _check_runs(_runs_coded(runs.counts))
    return mask_from_message(runs)


def _check_corners(polygon: types_pb2.Polygon) -> None:
    corners = sum(len(ring.coordinates) for ring in polygon.rings) // 2
    if len(polygon.rings) > MAX_RINGS or corners > MAX_CORNERS:
        raise InvalidRegion(
            f"polygon has {len(polygon.rings)} rings with {corners} corners; the limits are {MAX_RINGS} and "
            f"{MAX_CORNERS}"
        )


def _drawn_mask(png: bytes, limits: Limits) -> Mask:
    with _MASKS_DRAWN:
        pixels = decode_mask(png, max_megapixels=limits.image_megapixels)
        _check_runs(_runs_drawn(pixels))
        return Mask.from_array(pixels)


def _runs_drawn(pixels: NDArray[np.bool_]) -> int:
    """Of a mask, (height, width), column by column: within columns and from the end of one to the next."""
    within = int(np.count_nonzero(pixels[1:] != pixels[:-1]))
    between = int(np.count_nonzero(pixels[0, 1:] != pixels[-1, :-1]))
    return within + between + 1


def _runs_coded(counts: str) -> int:
    """Numbers that COCO's text spells out, or more when it is longer than any that spells out so many."""
    characters = counts.encode("ascii", errors="replace")
    return max(len(characters.translate(None, _CONTINUED)), len(characters) // _MASK_DIGITS)


def _check_runs(runs: int) -> None:
    """Raises InvalidRegion for a mask that is more noise than outline."""
    if runs > MAX_MASK_RUNS:
        raise InvalidRegion(f"mask has {runs} runs of pixels; the limit is {MAX_MASK_RUNS}")
