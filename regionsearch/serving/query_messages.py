"""From a SearchRequest to a query, and from an answer to a SearchResponse.

Only the form is judged here (both shapes of a region, bytes that are no vector, a second region);
what a query may say is `search/`'s business.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from regionsearch.config import Limits
from regionsearch.errors import InvalidRegion, InvalidRequest
from regionsearch.images import decode_mask
from regionsearch.protobuf_shapes import (
    at_field,
    box_from_message,
    box_to_message,
    mask_from_message,
    mask_to_message,
    masks_to_messages,
    points_from_message,
    polygon_from_message,
    prompt_to_message,
    vector_from_message,
)
from regionsearch.regions import Mask, RegionPrompt
from regionsearch.search.answer import Answer, Hit, MatchedEntity, UsedRegion
from regionsearch.search.query import (
    DEFAULT_RERANK_WEIGHT,
    DEFAULT_RERANKED,
    Query,
    QueryRegion,
    Rerank,
    RerankMethod,
)
from regionsearch.v1 import search_pb2 as pb
from regionsearch.v1 import types_pb2

DEFAULT_HITS = 10
LABEL_SOURCES = {
    None: types_pb2.LABEL_SOURCE_UNSPECIFIED,
    "given": types_pb2.LABEL_SOURCE_GIVEN,
    "predicted": types_pb2.LABEL_SOURCE_PREDICTED,
}
RERANK_METHODS: dict[int, RerankMethod] = {
    # Whoever names none means this one; a value that is unknown is refused before.
    pb.RERANK_METHOD_UNSPECIFIED: "pairwise",
    pb.RERANK_METHOD_PAIRWISE: "pairwise",
    pb.RERANK_METHOD_PAIRWISE_INSTRUCTED: "pairwise_instructed",
}


def query_from_message(request: pb.SearchRequest, limits: Limits) -> Query:
    """Raises InvalidRequest and InvalidRegion, naming the field, for what is malformed."""
    for name in ("image", "image_id"):
        if request.HasField(name) and not getattr(request, name):
            raise InvalidRequest(f"{name} is empty", field=name)
    region, normalised = _region_of(request, limits)
    vector = None
    if request.HasField("vector"):
        with at_field("vector"):
            vector = vector_from_message(request.vector)
    return Query(
        encoded_image=request.image if request.HasField("image") else None,
        image_id=request.image_id if request.HasField("image_id") else None,
        entities=(request.entity,) if request.HasField("entity") else (),
        regions=() if region is None else (QueryRegion(region, normalised),),
        text=request.text if request.HasField("text") else None,
        vector=vector,
        limit=request.limit if request.HasField("limit") else DEFAULT_HITS,
        weights=dict(request.weights),
        include_self=request.include_self,
        rerank=_rerank_of(request.rerank) if request.HasField("rerank") else None,
    )


def _rerank_of(message: pb.Rerank) -> Rerank:
    return Rerank(
        RERANK_METHODS[message.method],
        message.top_n if message.HasField("top_n") else DEFAULT_RERANKED,
        message.weight if message.HasField("weight") else DEFAULT_RERANK_WEIGHT,
    )


def _region_of(request: pb.SearchRequest, limits: Limits) -> tuple[RegionPrompt | None, bool]:
    if not request.regions:
        return None, False
    if len(request.regions) > 1:
        raise InvalidRegion(
            f"the query has {len(request.regions)} regions; one is supported", field="regions[1]"
        )
    message = request.regions[0]
    with at_field("regions[0]"):
        return region_from_message(message, limits), (
            message.coordinates == types_pb2.COORDINATE_SPACE_NORMALISED
        )


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
    box = mask = polygon = None
    if message.HasField("box"):
        with at_field("box"):
            box = box_from_message(message.box)
    if message.HasField("mask"):
        with at_field("mask"):
            mask = _mask_of(message.mask, limits)
    if message.HasField("polygon"):
        with at_field("polygon"):
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
            return Mask.from_array(decode_mask(message.png, max_megapixels=limits.image_megapixels))
    runs = message.run_length
    if runs.height * runs.width > limits.image_megapixels * 1e6:
        raise InvalidRegion(
            f"mask has {runs.height * runs.width / 1e6:.0f} megapixels; "
            f"the limit is {limits.image_megapixels:g} (limits.image_megapixels)"
        )
    return mask_from_message(runs)


def answer_to_message(answer: Answer, request: pb.SearchRequest) -> pb.SearchResponse:
    """The answer without what the request leaves out; its own time is the stage `serialise`."""
    started = time.perf_counter()
    masks = not request.without_masks
    outlines: Sequence[types_pb2.Mask | None] = [None] * len(answer.hits)
    if masks:
        outlines = masks_to_messages([hit.entity.mask for hit in answer.hits])
    response = pb.SearchResponse(
        collection=answer.collection,
        hits=[
            _hit_to_message(hit, outline, request) for hit, outline in zip(answer.hits, outlines, strict=True)
        ],
        regions=[_used_region_to_message(used, masks) for used in answer.regions],
        background=answer.background,
        timing_ms=answer.timing_ms,
    )
    response.timing_ms["serialise"] = (time.perf_counter() - started) * 1000
    return response


def _hit_to_message(hit: Hit, outline: types_pb2.Mask | None, request: pb.SearchRequest) -> pb.Hit:
    message = pb.Hit(
        image_id=hit.image_id,
        width=hit.width,
        height=hit.height,
        entity=_entity_to_message(hit.entity, outline),
        score=hit.score,
    )
    if not request.without_payload:
        message.payload_json = payload_to_json(hit.payload)
    if not request.without_parts:
        for name, part in hit.parts.items():
            target = message.parts[name]
            target.raw, target.standardised, target.weight = part.raw, part.standardised, part.weight
        if hit.rerank is not None:
            found = hit.rerank
            message.rerank.raw, message.rerank.standardised = found.raw, found.standardised
            message.rerank.weight = found.weight
            message.rerank.joint_score, message.rerank.joint_rank = found.joint_score, found.joint_rank
    return message


def _entity_to_message(entity: MatchedEntity, outline: types_pb2.Mask | None) -> types_pb2.Entity:
    x0, y0, x1, y1 = entity.box
    return types_pb2.Entity(
        index=entity.index,
        box=types_pb2.Box(x0=x0, y0=y0, x1=x1, y1=y1),
        area=entity.area,
        objectness=entity.objectness,
        label=entity.label,
        label_source=LABEL_SOURCES[entity.label_source],
        mask=outline,
    )


def _used_region_to_message(used: UsedRegion, masks: bool) -> pb.UsedRegion:
    prompt = used.prompt
    message = pb.UsedRegion(
        box=box_to_message(used.mask.box()), area=used.mask.area, prompt=prompt_to_message(prompt)
    )
    if masks:
        message.mask.CopyFrom(mask_to_message(used.mask))
    else:
        message.prompt.ClearField("mask")
    return message


def payload_to_json(payload: object) -> str:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
