"""Conditions on entities and on how many an image has, answered from the columns of a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.segments.view import Part
from regionsearch.entities import LABEL_SOURCES
from regionsearch.filters import Comparison, Condition, Membership, Presence
from regionsearch.filters.known_fields import ENTITY_FIELDS
from regionsearch.filters.meaning import ORDER, equals, single_precision
from regionsearch.filters.number_ranges import whole_range

_HALF = np.float32(0.5)


def entity_truth(condition: Condition, part: Part) -> NDArray[np.bool_]:
    """(n,) bool: of which entities a condition on `entity` holds, as `meaning.holds` defines it."""
    name = condition.field.path[0]
    entities = part.entities
    if name == "label":
        return _of_texts(condition, entities.label_table)[entities.labels]
    if name == "label_source":
        # In the columns 0 says that there is none; in the table that is the last place, −1.
        return np.roll(_of_texts(condition, LABEL_SOURCES), 1)[entities.sources]
    if isinstance(condition, Presence):
        return np.ones(len(entities), bool)
    if name == "index":
        counts = np.diff(part.starts)
        return _of_wholes(condition, np.arange(len(entities)) - np.repeat(part.starts[:-1], counts))
    assert ENTITY_FIELDS[name].type == "fraction"
    return _of_fractions(condition, _fractions(name, part))


def count_truth(condition: Condition, part: Part) -> NDArray[np.bool_]:
    """(m,) bool: of which images a condition on `image.entities` holds."""
    if isinstance(condition, Presence):
        return np.ones(len(part.live), bool)
    return _of_wholes(condition, np.diff(part.starts))


def _fractions(name: str, part: Part) -> NDArray[np.float32]:
    """(n,) float32, of single precision throughout, as `EntityFacts` computes them."""
    entities, boxes = part.entities, part.entities.boxes
    left, top, right, bottom = (boxes[:, place] for place in range(4))
    match name:
        case "area":
            return entities.areas
        case "objectness":
            return entities.objectness
        case "box_area":
            return (right - left) * (bottom - top)
        case "x":
            return (left + right) * _HALF
        case "y":
            return (top + bottom) * _HALF
    return {"left": left, "top": top, "right": right, "bottom": bottom}[name]


def _of_texts(condition: Condition, table: Sequence[str]) -> NDArray[np.bool_]:
    """(texts + 1,) bool: of each text of the table, and of none."""
    if isinstance(condition, Presence):
        return np.array([*(True for _ in table), False])
    if isinstance(condition, Membership):
        holds = [any(equals(text, value) for value in condition.values) for text in table]
    elif condition.operator in ("=", ":"):
        holds = [equals(text, condition.value) for text in table]
    elif condition.operator == "!=":
        holds = [not equals(text, condition.value) for text in table]
    else:
        wanted: Any = condition.value
        order = ORDER[condition.operator]
        holds = [bool(order(text, wanted.text)) for text in table]
    return np.array([*holds, False])


def _of_wholes(condition: Comparison | Membership, values: NDArray[np.int64]) -> NDArray[np.bool_]:
    if isinstance(condition, Membership):
        found = np.zeros(len(values), bool)
        for value in condition.values:
            found |= _in_range(values, "=", value)
        return found
    if condition.operator == "!=":
        return ~_in_range(values, "=", condition.value)
    return _in_range(values, "=" if condition.operator == ":" else condition.operator, condition.value)


def _in_range(values: NDArray[np.int64], sign: str, number: Any) -> NDArray[np.bool_]:
    bounds = whole_range(sign, number)
    if bounds is None:
        return np.zeros(len(values), bool)
    within: NDArray[np.bool_] = (values >= bounds[0]) & (values <= bounds[1])
    return within


def _of_fractions(condition: Comparison | Membership, values: NDArray[np.float32]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_]
    if isinstance(condition, Membership):
        wanted = np.array([single_precision(_number(value)) for value in condition.values], np.float32)
        found = np.isin(values, wanted)
        return found
    number = np.float32(single_precision(_number(condition.value)))
    if condition.operator == "!=":
        found = values != number
    elif condition.operator in ("=", ":"):
        found = values == number
    else:
        found = ORDER[condition.operator](values, number)
    return found


def _number(value: Any) -> int | float:
    assert isinstance(value, int | float)
    return value
