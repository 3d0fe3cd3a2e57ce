"""Checks of plain values before they become fields of a message, so that a wrong one is refused by the
name of its field and not by protobuf's or gRPC's own errors."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np

from regionsearch.errors import InvalidRegion, InvalidRequest

LONGEST_SECONDS = 1e8
"""Three years; gRPC's clock overflows somewhere above."""


def text_of(value: Any, field: str) -> str:
    """Raises InvalidRequest unless it is a str that UTF-8 can carry: without lone surrogates, as which
    bytes of the command line arrive that were not UTF-8."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{field} is a {type(value).__name__}; it must be text", field=field)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{field} is not valid Unicode: character {error.start} is a lone surrogate", field=field
        ) from error
    return value


def text_or_none(value: Any, field: str) -> str | None:
    return None if value is None else text_of(value, field)


def listed(values: Any, field: str) -> list[Any]:
    """Raises InvalidRequest unless there are several values to go through: one by itself is a slip."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidRequest(f"{field} is a {type(values).__name__}; it must be a list", field=field)
    return list(values)


def unsigned(value: Any, field: str) -> int:
    """The value, if the contract's uint32 can carry it. Raises InvalidRequest otherwise."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise InvalidRequest(f"{field} is {value!r:.100}; it must be a whole number", field=field) from error
    if not 0 <= number < 2**32:
        raise InvalidRequest(f"{field} is {number}; it must be between 0 and {2**32 - 1}", field=field)
    return number


def number(value: Any, field: str) -> float:
    """Raises InvalidRequest unless it is a number; which ones may be sent, the server judges."""
    if not isinstance(value, Real):
        raise InvalidRequest(f"{field} is {value!r:.100}, which is no number", field=field)
    return float(value)


def truth(value: Any, field: str) -> bool:
    """Raises InvalidRequest unless it is True or False: "no" would otherwise be yes."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidRequest(f"{field} is {value!r:.100}; it must be True or False", field=field)
    return bool(value)


def weights_of(weights: Any) -> dict[str, float]:
    """Raises InvalidRequest unless it maps texts to numbers; which ones it may, the server judges."""
    if not isinstance(weights, Mapping):
        raise InvalidRequest(
            f"weights is a {type(weights).__name__}; it maps names to numbers", field="weights"
        )
    numbers = {}
    for name, value in weights.items():
        if not isinstance(value, Real):
            raise InvalidRequest(
                f"weight {name!r:.100} is {value!r:.100}, which is no number", field="weights"
            )
        numbers[text_of(name, "weights")] = float(value)
    return numbers


def seconds_of(timeout: Any) -> float | None:
    """Raises InvalidRequest unless it is None or a number of seconds above 0."""
    if timeout is None:
        return None
    seconds = float(timeout) if isinstance(timeout, Real) else math.nan
    if not 0 < seconds <= LONGEST_SECONDS:
        raise InvalidRequest(
            f"timeout is {timeout!r:.100}; it must be seconds, above 0 and at most {LONGEST_SECONDS:.0f}",
            field="timeout",
        )
    return seconds


@contextmanager
def numbers_in(field: str) -> Iterator[None]:
    """What cannot be read as numbers inside becomes an InvalidRegion for the field."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRegion(f"{field} is not made of numbers: {error}", field=field) from error
