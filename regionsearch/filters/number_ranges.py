"""Comparisons with a number as closed ranges of int64 and of float64, without rounding either.

numpy would turn a 64-bit integer into a double to compare it with one, and lose what is beyond 2^53.
"""

from __future__ import annotations

import math

_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1


def whole_range(sign: str, number: int | float) -> tuple[int, int] | None:
    """The int64 that are `sign` number, from the least to the greatest; None when there are none."""
    low, high = _INT64_MIN, _INT64_MAX
    if sign == "=":
        if number != math.floor(number):
            return None
        low = high = math.floor(number)
    elif sign == "<":
        high = math.ceil(number) - 1
    elif sign == "<=":
        high = math.floor(number)
    elif sign == ">":
        low = math.floor(number) + 1
    else:
        low = math.ceil(number)
    low, high = max(low, _INT64_MIN), min(high, _INT64_MAX)
    return (low, high) if low <= high else None


def float_range(sign: str, number: int | float) -> tuple[float, float] | None:
    """The doubles that are `sign` number, from the least to the greatest; None when there are none."""
    try:
        nearest = float(number)
    except OverflowError:
        nearest = math.inf if number > 0 else -math.inf
    is_exact = nearest == number
    at_most = nearest if nearest <= number else math.nextafter(nearest, -math.inf)
    at_least = nearest if nearest >= number else math.nextafter(nearest, math.inf)
    low, high = -math.inf, math.inf
    if sign == "=":
        if not is_exact:
            return None
        low = high = nearest
    elif sign == "<":
        high = math.nextafter(nearest, -math.inf) if is_exact else at_most
    elif sign == "<=":
        high = at_most
    elif sign == ">":
        low = math.nextafter(nearest, math.inf) if is_exact else at_least
    else:
        low = at_least
    return low, high
