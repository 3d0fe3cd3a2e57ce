"""What a query must be before any model or index is troubled with it."""

from __future__ import annotations

import numpy as np

from regionsearch.config import Limits
from regionsearch.errors import InvalidRequest
from regionsearch.filters import parse
from regionsearch.search.control_checks import check_control
from regionsearch.search.placement_checks import check_placements
from regionsearch.search.query import Example, Query
from regionsearch.search.query_parts import has_image, matches_of
from regionsearch.search.scoring import Scoring, shipped_scoring

LEAST_VECTOR_LENGTH = 1e-6
"""Shorter vectors have no direction that rounding has not made up."""


def check_query(query: Query, limits: Limits, scoring: Scoring | None = None) -> None:
    """Raises InvalidRequest, naming the field, when parts of the query are missing, contradict each
    other or break a limit. scoring: whose weights it is scored with; None: the shipped ones."""
    _check_sources(query)
    _check_regions(query, limits)
    _check_entities(query, limits)
    _check_examples(query, limits)
    _check_text(query.text, limits)
    if query.encoded_image is not None and len(query.encoded_image) > limits.image_bytes:
        raise InvalidRequest(
            f"the query image has {len(query.encoded_image)} bytes; "
            f"the limit is {limits.image_bytes} (limits.image_bytes)",
            field="image",
        )
    check_placements(query.placements, matches_of(query))
    parse(query.where)
    check_control(query, limits, shipped_scoring() if scoring is None else scoring)


def check_vector(vector: np.ndarray[tuple[int, ...], np.dtype[np.float32]], dimension: int) -> None:
    """Raises InvalidRequest unless the vector is of the collection's space and has a direction."""
    if vector.shape != (dimension,):
        raise InvalidRequest(
            f"the vector has shape {vector.shape}; this collection's have ({dimension},)", field="vector"
        )
    # In float64: the squares of finite float32 numbers can be larger than any float32.
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not np.isfinite(length) or length < LEAST_VECTOR_LENGTH:
        raise InvalidRequest("the vector is zero or not finite", field="vector")


def _check_sources(query: Query) -> None:
    sources = {
        "image": has_image(query),
        "image_id": query.image_id is not None,
        "vector": query.vector is not None,
    }
    given = [name for name, present in sources.items() if present]
    if len(given) > 1:
        raise InvalidRequest(f"give one of {' and '.join(given)}, not both", field=given[1])
    if query.image is not None and query.encoded_image is not None:
        raise InvalidRequest("give the image decoded or encoded, not both", field="image")
    if query.vector is not None and query.text is not None:
        raise InvalidRequest("give a vector or a text, not both", field="vector")
    if given or query.text is not None or query.liked:
        return
    if query.disliked:
        raise InvalidRequest(
            "disliked examples say what is not wanted; give also an image, an image_id, a vector, a text or "
            "liked examples",
            field="disliked",
        )
    raise InvalidRequest(
        "the query is empty: give an image, an image_id, a vector, a text or liked examples", field="query"
    )


def _check_regions(query: Query, limits: Limits) -> None:
    if query.regions and not has_image(query):
        raise InvalidRequest(
            "a region needs the image that it points into"
            + ("; of an indexed image, give an entity" if query.image_id is not None else ""),
            field="regions",
        )
    if len(query.regions) > limits.regions:
        raise InvalidRequest(
            f"the query has {len(query.regions)} regions; the limit is {limits.regions} (limits.regions)",
            field="regions",
        )
    for number, region in enumerate(query.regions):
        if region.refine and (region.prompt.box is None or region.prompt.points):
            raise InvalidRequest(
                "only a box without points can be refined to the thing within it",
                field=f"regions[{number}].refine",
            )


def _check_entities(query: Query, limits: Limits) -> None:
    if query.entities and query.image_id is None:
        raise InvalidRequest("an entity needs the image_id of its image", field=entity_field(query, 0))
    if len(query.entities) > limits.regions:
        raise InvalidRequest(
            f"the query has {len(query.entities)} entities; the limit is {limits.regions} (limits.regions)",
            field="entities",
        )
    for number, entity in enumerate(query.entities):
        if entity < 0:
            raise InvalidRequest(
                f"entity is {entity}; ordinals start at 0", field=entity_field(query, number)
            )


def entity_field(query: Query, number: int) -> str:
    """A single entity has a field of its own in the API."""
    return "entity" if len(query.entities) == 1 else f"entities[{number}]"


def _check_examples(query: Query, limits: Limits) -> None:
    for name, examples in (("liked", query.liked), ("disliked", query.disliked)):
        if len(examples) > limits.examples:
            raise InvalidRequest(
                f"the query has {len(examples)} {name} examples; the limit is {limits.examples} "
                "(limits.examples)",
                field=name,
            )
        for number, example in enumerate(examples):
            _check_example(example, f"{name}[{number}]")
    for number, example in enumerate(query.disliked):
        if example in query.liked:
            raise InvalidRequest(
                f"image {example.image_id!r:.300} is liked and disliked", field=f"disliked[{number}]"
            )


def _check_example(example: Example, path: str) -> None:
    if not example.image_id:
        raise InvalidRequest("an example needs an image_id", field=f"{path}.image_id")
    if example.entity is not None and example.entity < 0:
        raise InvalidRequest(f"entity is {example.entity}; ordinals start at 0", field=f"{path}.entity")


def _check_text(text: str | None, limits: Limits) -> None:
    if text is None:
        return
    if not text.strip():
        raise InvalidRequest("the text is empty", field="text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"the text is not valid Unicode at character {error.start}", field="text"
        ) from error
    if len(text) > limits.text_characters:
        raise InvalidRequest(
            f"the text has {len(text)} characters; the limit is {limits.text_characters} "
            "(limits.text_characters)",
            field="text",
        )
