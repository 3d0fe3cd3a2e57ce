"""What a query must be before any model or index is troubled with it."""

from __future__ import annotations

import math

import numpy as np

from regionsearch.config import Limits
from regionsearch.errors import InvalidRequest
from regionsearch.search.query import MAX_RERANKED, RERANK_METHODS, Query, Rerank
from regionsearch.search.weights import MAX_WEIGHT, resolve_weights

LEAST_VECTOR_LENGTH = 1e-6
"""Shorter vectors have no direction that rounding has not made up."""


def check_query(query: Query, limits: Limits) -> None:
    """Raises InvalidRequest, naming the field, when parts of the query are missing, contradict each
    other or break a limit."""
    has_pixels = query.image is not None or query.encoded_image is not None
    sources = {
        "image": has_pixels,
        "image_id": query.image_id is not None,
        "vector": query.vector is not None,
    }
    given = [name for name, present in sources.items() if present]
    if len(given) > 1:
        raise InvalidRequest(f"give one of {' and '.join(given)}, not both", field=given[1])
    if query.image is not None and query.encoded_image is not None:
        raise InvalidRequest("give the image decoded or encoded, not both", field="image")
    if not given and query.text is None:
        raise InvalidRequest(
            "the query is empty: give an image, an image_id, a vector or a text", field="query"
        )
    if query.regions and not has_pixels:
        raise InvalidRequest(
            "a region needs the image that it points into"
            + ("; of an indexed image, give an entity" if query.image_id is not None else ""),
            field="regions",
        )
    for entity in query.entities:
        if query.image_id is None:
            raise InvalidRequest("an entity needs the image_id of its image", field="entity")
        if entity < 0:
            raise InvalidRequest(f"entity is {entity}; ordinals start at 0", field="entity")
    if query.include_self and query.image_id is None:
        raise InvalidRequest("include_self needs an image_id", field="include_self")
    if query.vector is not None and query.text is not None:
        raise InvalidRequest("give a vector or a text, not both", field="vector")
    if query.rerank is not None:
        if query.vector is not None:
            raise InvalidRequest(
                "a vector cannot be read together with a candidate; rerank needs an image, an image_id or a "
                "text",
                field="rerank",
            )
        _check_rerank(query.rerank)
        if query.rerank.method == "pairwise_instructed":
            _check_instructed(query)
    _check_text(query.text, limits)
    if not 1 <= query.limit <= limits.hits:
        raise InvalidRequest(
            f"limit is {query.limit}; it must be between 1 and {limits.hits} (limits.hits)", field="limit"
        )
    if query.encoded_image is not None and len(query.encoded_image) > limits.image_bytes:
        raise InvalidRequest(
            f"the query image has {len(query.encoded_image)} bytes; "
            f"the limit is {limits.image_bytes} (limits.image_bytes)",
            field="image",
        )
    weights = resolve_weights(query.weights)
    names = parts_of(query)
    if not any(weights[name] > 0 for name in names):
        raise InvalidRequest(
            f"weights: every part of this query ({', '.join(names)}) has weight 0", field="weights"
        )


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


def parts_of(query: Query) -> tuple[str, ...]:
    """Which signals a query has: pixels bring `entity` and `global`, words the two text signals."""
    pixels = any(
        part is not None for part in (query.image, query.encoded_image, query.image_id, query.vector)
    )
    return (("entity", "global") if pixels else ()) + (
        ("text_entity", "text_image") if query.text is not None else ()
    )


def _check_rerank(rerank: Rerank) -> None:
    if rerank.method not in RERANK_METHODS:
        raise InvalidRequest(
            f"rerank: there is no method {rerank.method!r}; there is: {', '.join(RERANK_METHODS)}",
            field="rerank.method",
        )
    if not 1 <= rerank.top_n <= MAX_RERANKED:
        raise InvalidRequest(
            f"rerank: top_n is {rerank.top_n}; it must be between 1 and {MAX_RERANKED}", field="rerank.top_n"
        )
    # A weight of 0 would pay for a reading that changes nothing.
    if not (math.isfinite(rerank.weight) and 0 < rerank.weight <= MAX_WEIGHT):
        raise InvalidRequest(
            f"rerank: weight is {rerank.weight}; it must be above 0 and at most {MAX_WEIGHT:g}",
            field="rerank.weight",
        )


def _check_instructed(query: Query) -> None:
    """Raises InvalidRequest where the words on the candidates' side would be missing or say nothing."""
    if query.text is None:
        raise InvalidRequest(
            "rerank: pairwise_instructed reads the candidates with the query's text, and it has none; "
            "give a text, or use pairwise",
            field="rerank.method",
        )
    if query.image is None and query.encoded_image is None and query.image_id is None:
        raise InvalidRequest(
            "rerank: pairwise_instructed needs a picture beside the text; words alone would be compared with "
            "themselves; give an image or an image_id, or use pairwise",
            field="rerank.method",
        )


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
