"""Why an answer has no hits, as far as its question tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regionsearch.cli.question import Question

_COUNTS = ("min_count", "max_count")


def nothing_found(question: Question) -> str:
    """A sentence that names what nothing was found to meet."""
    if question.page_token:
        return "nothing found: the pages before hold all hits"
    labels = sorted({str(one["label"]) for one in question.placements if one.get("label") is not None})
    conditions = [f"an entity with the label {label!r}" for label in labels]
    if question.where:
        conditions.append("an entity that meets the filter (--where)")
    if any(map(_has_condition, question.placements)):
        conditions.append("what the placement makes a condition")
    if question.min_score:
        conditions.append(f"a score of {question.min_score:g} or more (--min-score)")
    named = question.image_id is not None or question.liked or question.disliked
    image = "no other image" if named and not question.include_self else "no image"
    if not conditions:
        return f"nothing found: {image} of the collection can be a match"
    hint = ""
    if labels:
        hint = "; only records that were stored with labels have any, those made from pictures have none"
    return f"nothing found: {image} of the collection has {' and '.join(conditions)}{hint}"


def _has_condition(placement: Mapping[str, Any]) -> bool:
    """Besides a label."""
    counted = any(placement.get(name) is not None for name in _COUNTS)
    return bool(placement.get("strict")) or (counted and placement.get("label") is not None)
