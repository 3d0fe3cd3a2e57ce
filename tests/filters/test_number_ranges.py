"""Comparisons of 64-bit numbers do not round."""

from __future__ import annotations

import operator
import sys

from hypothesis import given
from hypothesis import strategies as st
from written_filters import NUMBERS

from regionsearch.filters.number_ranges import float_range, whole_range

SIGNS = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
floats = st.floats(allow_nan=False, allow_infinity=False)
near_limits = st.sampled_from(NUMBERS).flatmap(
    lambda number: st.sampled_from([number, *([number - 1, number + 1] if isinstance(number, int) else [])])
)
compared = st.one_of(near_limits, floats, st.integers(-(2**70), 2**70), st.just(10**400), st.just(-(10**400)))


@given(st.sampled_from(sorted(SIGNS)), compared, st.integers(-(2**63), 2**63 - 1) | near_limits)
def test_an_integer_is_in_the_range_exactly_when_python_says_so(
    sign: str, number: int | float, value: int | float
) -> None:
    if not isinstance(value, int) or not -(2**63) <= value < 2**63:
        return
    bounds = whole_range(sign, number)
    assert (bounds is not None and bounds[0] <= value <= bounds[1]) == SIGNS[sign](value, number)


@given(st.sampled_from(sorted(SIGNS)), compared, floats | st.sampled_from([sys.float_info.max, 2.0**53, 0.1]))
def test_a_double_is_in_the_range_exactly_when_python_says_so(
    sign: str, number: int | float, value: float
) -> None:
    bounds = float_range(sign, number)
    assert (bounds is not None and bounds[0] <= value <= bounds[1]) == SIGNS[sign](value, number)
