"""From a Query to the messages of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from regionsearch.client.pictures import encoded
from regionsearch.client.plain_values import (
    listed,
    number,
    text_of,
    text_or_none,
    truth,
    unsigned,
    weights_of,
)
from regionsearch.client.query import (
    Example,
    ExampleLike,
    GroupBy,
    Placement,
    Preset,
    Query,
    RerankMethod,
    VectorLike,
)
from regionsearch.client.region_messages import box_of, regions_of
from regionsearch.errors import InvalidRequest
from regionsearch.protobuf_shapes import at_field, box_to_message, vector_to_message
from regionsearch.regions import FramePart
from regionsearch.v1 import search_pb2, types_pb2

RERANK_METHODS: dict[RerankMethod, search_pb2.RerankMethod] = {
    "pairwise": search_pb2.RERANK_METHOD_PAIRWISE,
    "pairwise_instructed": search_pb2.RERANK_METHOD_PAIRWISE_INSTRUCTED,
    "closer": search_pb2.RERANK_METHOD_CLOSER,
}
# What a query means that does not say it is not sent: servers of every version know it.
GROUPINGS: dict[GroupBy, search_pb2.GroupBy] = {
    "image": search_pb2.GROUP_BY_UNSPECIFIED,
    "entity": search_pb2.GROUP_BY_ENTITY,
}
PRESETS: dict[Preset, search_pb2.Preset] = {
    "fast": search_pb2.PRESET_FAST,
    "balanced": search_pb2.PRESET_UNSPECIFIED,
    "thorough": search_pb2.PRESET_THOROUGH,
}
FRAME_PARTS: dict[FramePart, search_pb2.FramePart] = {
    "left": search_pb2.FRAME_PART_LEFT,
    "right": search_pb2.FRAME_PART_RIGHT,
    "top": search_pb2.FRAME_PART_TOP,
    "bottom": search_pb2.FRAME_PART_BOTTOM,
    "centre": search_pb2.FRAME_PART_CENTRE,
    "top_left": search_pb2.FRAME_PART_TOP_LEFT,
    "top_right": search_pb2.FRAME_PART_TOP_RIGHT,
    "bottom_left": search_pb2.FRAME_PART_BOTTOM_LEFT,
    "bottom_right": search_pb2.FRAME_PART_BOTTOM_RIGHT,
    "left_half": search_pb2.FRAME_PART_LEFT_HALF,
    "right_half": search_pb2.FRAME_PART_RIGHT_HALF,
    "top_half": search_pb2.FRAME_PART_TOP_HALF,
    "bottom_half": search_pb2.FRAME_PART_BOTTOM_HALF,
}

_Name = TypeVar("_Name", bound=str)
_Value = TypeVar("_Value")


def search(collection: str, query: Query) -> search_pb2.SearchRequest:
    """Raises InvalidRequest and its kin, naming the field, for what the contract cannot carry."""
    return search_pb2.SearchRequest(
        collection=text_of(collection, "collection"),
        image=None if query.image is None else encoded(query.image),
        image_id=text_or_none(query.image_id, "image_id"),
        entity=None if query.entity is None else unsigned(query.entity, "entity"),
        entities=[
            unsigned(index, f"entities[{place}]")
            for place, index in enumerate(listed(query.entities, "entities"))
        ],
        regions=regions_of(query),
        text=text_or_none(query.text, "text"),
        vector=None if query.vector is None else _vector(query.vector),
        liked=_examples(query.liked, "liked"),
        disliked=_examples(query.disliked, "disliked"),
        placements=_placements(query.placements),
        filter=text_of(query.where, "where"),
        limit=unsigned(query.limit, "limit"),
        page_token=text_of(query.page_token, "page_token"),
        weights=None if query.weights is None else weights_of(query.weights),
        per_kind_weights=truth(query.per_kind_weights, "per_kind_weights"),
        include_self=truth(query.include_self, "include_self"),
        group_by=_named(GROUPINGS, query.group_by, "group_by"),
        min_score=_number(query.min_score, "min_score"),
        candidates=None if query.candidates is None else unsigned(query.candidates, "candidates"),
        preset=_named(PRESETS, query.preset, "preset"),
        all_entities=unsigned(query.all_entities, "all_entities"),
        without_masks=not truth(query.masks, "masks"),
        without_payload=not truth(query.payload, "payload"),
        without_parts=not truth(query.parts, "parts"),
        rerank=_rerank(query),
    )


def _named(names: Mapping[_Name, _Value], name: _Name, field: str) -> _Value:
    # Whatever is no text is no name either, and may not even be hashable.
    if not isinstance(name, str) or name not in names:
        raise InvalidRequest(f"{field} is {name!r:.100}; it can be {', '.join(names)}", field=field)
    return names[name]


def _number(value: float | None, field: str) -> float | None:
    return None if value is None else number(value, field)


def _vector(vector: VectorLike) -> types_pb2.Vector:
    try:
        numbers = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"vector is not made of numbers: {error}", field="vector") from error
    if numbers.ndim != 1:
        raise InvalidRequest(f"vector has shape {numbers.shape}; it must be a row", field="vector")
    return vector_to_message(numbers)


def _examples(examples: Sequence[ExampleLike], field: str) -> list[search_pb2.Example]:
    messages = []
    for place, example in enumerate(listed(examples, field)):
        path = f"{field}[{place}]"
        said = Example(example) if isinstance(example, str) else example
        if not isinstance(said, Example):
            raise InvalidRequest(f"{path} is a {type(said).__name__}; give an Example or an id", field=path)
        messages.append(
            search_pb2.Example(
                image_id=text_of(said.image_id, f"{path}.image_id"),
                entity=None if said.entity is None else unsigned(said.entity, f"{path}.entity"),
            )
        )
    return messages


def _placements(placements: Sequence[Placement]) -> list[search_pb2.Placement]:
    messages = []
    for place, placement in enumerate(listed(placements, "placements")):
        with at_field(f"placements[{place}]"):
            if not isinstance(placement, Placement):
                raise InvalidRequest(f"a {type(placement).__name__} is no Placement")
            messages.append(_placement(placement))
    return messages


def _placement(said: Placement) -> search_pb2.Placement:
    return search_pb2.Placement(
        part=None if said.part is None else _named(FRAME_PARTS, said.part, "part"),
        box=None if said.box is None else box_to_message(box_of(said.box)),
        tolerance=_number(said.tolerance, "tolerance"),
        min_area=_number(said.min_area, "min_area"),
        max_area=_number(said.max_area, "max_area"),
        label=text_or_none(said.label, "label"),
        min_count=None if said.min_count is None else unsigned(said.min_count, "min_count"),
        max_count=None if said.max_count is None else unsigned(said.max_count, "max_count"),
        strict=truth(said.strict, "strict"),
    )


def _rerank(query: Query) -> search_pb2.Rerank | None:
    """Raises InvalidRequest for an unknown method, and for settings of a rerank that is not asked for."""
    if query.rerank is None:
        for field, setting in (("rerank_top", query.rerank_top), ("rerank_weight", query.rerank_weight)):
            if setting is not None:
                raise InvalidRequest(f"{field} needs rerank", field=field)
        return None
    return search_pb2.Rerank(
        method=_named(RERANK_METHODS, query.rerank, "rerank"),
        top_n=None if query.rerank_top is None else unsigned(query.rerank_top, "rerank_top"),
        weight=_number(query.rerank_weight, "rerank_weight"),
    )
