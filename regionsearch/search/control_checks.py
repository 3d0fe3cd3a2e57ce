"""What a query may say of how it is answered: limits, pages, weights, and reading again."""

from __future__ import annotations

import math

from regionsearch.config import Limits
from regionsearch.errors import InvalidRequest
from regionsearch.models.segmenter import MAX_ENTITY_LIMIT
from regionsearch.search.pages import check_token
from regionsearch.search.query import GROUPINGS, MAX_RERANKED, PRESETS, RERANK_METHODS, Query, Rerank
from regionsearch.search.query_parts import has_pixels, kind_of, matches_of, parts_of
from regionsearch.search.scoring import MAX_WEIGHT, Scoring


def check_control(query: Query, limits: Limits, scoring: Scoring) -> None:
    """Raises InvalidRequest, naming the field, for a setting that is out of its range or does not go with
    what is asked."""
    if not 1 <= query.limit <= limits.hits:
        raise InvalidRequest(
            f"limit is {query.limit}; it must be between 1 and {limits.hits} (limits.hits)", field="limit"
        )
    if query.candidates is not None and not 1 <= query.candidates <= limits.candidates:
        raise InvalidRequest(
            f"candidates is {query.candidates}; it must be between 1 and {limits.candidates} "
            "(limits.candidates)",
            field="candidates",
        )
    if not 0 <= query.all_entities <= MAX_ENTITY_LIMIT:
        raise InvalidRequest(
            f"all_entities is {query.all_entities}; it must be between 0 and {MAX_ENTITY_LIMIT}",
            field="all_entities",
        )
    if not 0 <= query.min_score <= 1:
        raise InvalidRequest(
            f"min_score is {query.min_score:g}; it must be between 0 and 1", field="min_score"
        )
    if query.preset not in PRESETS:
        raise InvalidRequest(
            f"there is no preset {query.preset!r}; there are: {', '.join(PRESETS)}", field="preset"
        )
    _check_grouping(query)
    if query.include_self and query.image_id is None and not (query.liked or query.disliked):
        raise InvalidRequest("include_self needs an image_id or examples", field="include_self")
    check_token(query.page_token)
    _check_weights(query, scoring)
    if query.rerank is not None:
        _check_rerank(query, query.rerank)


def _check_grouping(query: Query) -> None:
    if query.group_by not in GROUPINGS:
        raise InvalidRequest(
            f"hits cannot be grouped by {query.group_by!r}; they can by: {', '.join(GROUPINGS)}",
            field="group_by",
        )
    if query.group_by == "entity" and matches_of(query) > 1:
        raise InvalidRequest(
            f"the query is matched to {matches_of(query)} entities of an image at once; hits that are one "
            "entity each need a query with a single region or entity",
            field="group_by",
        )


def _check_weights(query: Query, scoring: Scoring) -> None:
    weights = scoring.profile(query.weights, kind_of(query) if query.per_kind_weights else None).weights
    # How much like a thing an entity looks says nothing of what is asked, unless that is asked.
    names = [name for name in parts_of(query) if name != "objectness" or name in query.weights]
    if not any(weights[name] > 0 for name in names):
        raise InvalidRequest(
            f"weights: every part of this query ({', '.join(names)}) has weight 0", field="weights"
        )


def _check_rerank(query: Query, rerank: Rerank) -> None:
    if query.vector is not None:
        raise InvalidRequest(
            "a vector cannot be read together with a candidate; rerank needs an image, an image_id or a text",
            field="rerank",
        )
    if not has_pixels(query) and query.text is None:
        raise InvalidRequest(
            "examples alone cannot be read together with a candidate; rerank needs an image, an image_id or "
            "a text",
            field="rerank",
        )
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
    weight = rerank.counted
    if not (math.isfinite(weight) and 0 < weight <= MAX_WEIGHT):
        raise InvalidRequest(
            f"rerank: weight is {weight}; it must be above 0 and at most {MAX_WEIGHT:g}",
            field="rerank.weight",
        )
    if rerank.method == "pairwise_instructed":
        _check_instructed(query)
    if rerank.method == "closer":
        _check_closer(query)


def _check_instructed(query: Query) -> None:
    """Raises InvalidRequest where the words on the candidates' side would be missing or say nothing."""
    if query.text is None:
        raise InvalidRequest(
            "rerank: pairwise_instructed reads the candidates with the query's text, and it has none; "
            "give a text, or use pairwise",
            field="rerank.method",
        )
    if not has_pixels(query):
        raise InvalidRequest(
            "rerank: pairwise_instructed needs a picture beside the text; words alone would be compared with "
            "themselves; give an image or an image_id, or use pairwise",
            field="rerank.method",
        )


def _check_closer(query: Query) -> None:
    """Raises InvalidRequest for what a closer look was not found to help, or has no answer to."""
    if kind_of(query) != "words":
        raise InvalidRequest(
            "rerank: closer looks for what words alone say; give a text without a picture or examples, or "
            "use pairwise",
            field="rerank.method",
        )
    if query.group_by != "image":
        raise InvalidRequest(
            "rerank: closer reads images, and hits that are one entity each are not; group by image",
            field="rerank.method",
        )
