"""What a filter means, for one entity of one image at a time. This is the definition: columns must agree.

A filter is a predicate over (image, entity): conditions on entities hold of that one entity. A field has
any number of values (a list has those of its elements, a missing field and null have none). A comparison
holds when it holds of one of the values; `!=` when there is a value and none is equal; NOT negates.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from regionsearch.filters.expression import (
    And,
    Boolean,
    Comparison,
    Expression,
    Field,
    Instant,
    Membership,
    Not,
    Or,
    Prefix,
    Presence,
    Text,
    Value,
)
from regionsearch.filters.known_fields import ENTITY_FIELDS, IMAGE_FIELDS
from regionsearch.filters.payload_values import values_at
from regionsearch.filters.timestamps import instant_of

ORDER: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What filters ask of an image. updated: microseconds since 1970, UTC. content_hash: "" if unknown."""

    id: str
    width: int
    height: int
    entities: int
    version: int
    updated: int
    content_hash: str
    payload: Mapping[str, Any]

    def value(self, name: str) -> str | int | Instant | None:
        if name == "updated":
            return Instant(self.updated)
        value: str | int = getattr(self, name)
        return None if value == "" else value


@dataclass(frozen=True, slots=True)
class EntityFacts:
    """What filters ask of an entity. Fractions are float32, the box's of the image's width and height."""

    index: int
    label: str | None
    label_source: str | None
    area: np.float32
    objectness: np.float32
    left: np.float32
    top: np.float32
    right: np.float32
    bottom: np.float32

    @property
    def box_area(self) -> np.float32:
        return np.float32((self.right - self.left) * (self.bottom - self.top))

    @property
    def x(self) -> np.float32:
        return np.float32((self.left + self.right) * np.float32(0.5))

    @property
    def y(self) -> np.float32:
        return np.float32((self.top + self.bottom) * np.float32(0.5))


def holds(expression: Expression, image: ImageFacts, entity: EntityFacts) -> bool:
    """Whether the filter holds of this entity of this image."""
    match expression:
        case And(parts):
            return all(holds(part, image, entity) for part in parts)
        case Or(parts):
            return any(holds(part, image, entity) for part in parts)
        case Not(part):
            return not holds(part, image, entity)
        case Presence(field):
            return bool(_values(field, image, entity))
        case Membership(field, wanted):
            stored = [as_stored(field, each) for each in wanted]
            return any(equals(value, each) for value in _values(field, image, entity) for each in stored)
        case Comparison(field, "!=", wanted_value):
            values = _values(field, image, entity)
            wanted_value = as_stored(field, wanted_value)
            return bool(values) and not any(equals(value, wanted_value) for value in values)
        case Comparison(field, sign, wanted_value):
            wanted_value = as_stored(field, wanted_value)
            return any(_compares(value, sign, wanted_value) for value in _values(field, image, entity))


def as_stored(field: Field, value: Value) -> Value:
    """A number in the precision of the field it is compared with: fractions of entities are float32."""
    if field.root != "entity" or ENTITY_FIELDS[field.path[0]].type != "fraction":
        return value
    assert isinstance(value, int | float)
    return single_precision(value)


def single_precision(value: int | float) -> float:
    """The nearest float32; infinity beyond its range."""
    try:
        wide = float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    with np.errstate(over="ignore"):
        return float(np.float32(wide))


def equals(value: Any, wanted: Value) -> bool:
    """Whether a value of a field is what a filter names. Numbers are compared exactly, whatever their
    kind; texts by code points, case counts; times as instants."""
    match wanted:
        case Boolean(flag):
            return isinstance(value, bool) and value == flag
        case int() | float():
            return _is_number(value) and bool(value == wanted)
        case Prefix(start):
            return isinstance(value, str) and value.startswith(start)
        case Instant(microseconds):
            return _instant(value) == microseconds
        case Text(text, instant):
            if instant is not None:
                return _instant(value) == instant
            return isinstance(value, str) and value == text


def _compares(value: Any, sign: str, wanted: Value) -> bool:
    if sign == "=":
        return equals(value, wanted)
    if sign == ":":
        has_key = isinstance(value, Mapping) and _names_key(value, wanted)
        return has_key or equals(value, wanted)
    order = ORDER[sign]
    match wanted:
        case Boolean() | Prefix():
            raise ValueError(f"{wanted} has no order")
        case int() | float():
            return _is_number(value) and bool(order(value, wanted))
        case Instant(microseconds) | Text(_, int(microseconds)):
            instant = _instant(value)
            return instant is not None and bool(order(instant, microseconds))
        case Text(text):
            return isinstance(value, str) and bool(order(value, text))


def _names_key(value: Mapping[str, Any], wanted: Value) -> bool:
    match wanted:
        case Text(text):
            return text in value
        case Prefix(start):
            return any(key.startswith(start) for key in value)
        case _:
            return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _instant(value: Any) -> int | None:
    if isinstance(value, Instant):
        return value.microseconds
    return instant_of(value) if isinstance(value, str) else None


def _values(field: Field, image: ImageFacts, entity: EntityFacts) -> list[Any]:
    if field.root == "payload":
        return values_at(image.payload, field.path)
    name = field.path[0]
    if field.root == "image":
        assert name in IMAGE_FIELDS
        value: Any = image.value(name)
    else:
        assert name in ENTITY_FIELDS
        value = getattr(entity, name)
        value = float(value) if isinstance(value, np.float32) else value
    return [] if value is None else [value]
