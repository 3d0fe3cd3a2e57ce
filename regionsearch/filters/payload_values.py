"""Which values a path leads to in a payload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def values_at(payload: Any, path: Sequence[str]) -> list[Any]:
    """Texts, numbers, booleans and objects at the end of the path, in their order.

    A list stands for each of its elements, on the way and at the end, however deep; null is nothing. So a
    field without a value (missing, null, an empty list) gives an empty list.
    """
    value = payload
    for key in path:
        if type(value) is not dict:
            break
        value = value.get(key)
    else:  # objects all the way, as mostly
        if value is None or isinstance(value, str | int | float):
            return [] if value is None else [value]
    reached = list(_elements(payload))
    for key in path:
        reached = [
            element
            for each in reached
            if isinstance(each, Mapping) and key in each
            for element in _elements(each[key])
        ]
    return reached


def _elements(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for part in value:
            yield from _elements(part)
    elif value is not None:
        yield value
