"""Times are compared as instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.filters.timestamps import instant_of


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)), st.integers(-1439, 1439))
def test_a_time_of_any_zone_is_the_instant_that_datetime_says(moment: datetime, minutes: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = (zoned - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert instant_of(zoned.isoformat()) == expected


def test_digits_beyond_the_microsecond_are_cut_off_and_leap_seconds_are_the_next_second() -> None:
    assert instant_of("1970-01-01T00:00:00.0000019Z") == 1
    assert instant_of("1969-12-31T23:59:60Z") == 0


@pytest.mark.parametrize(
    "text",
    [
        *("", "2020", "2020-01-01", "2020-01-01T00:00:00", "2020-01-01 00:00:00Z", "2020-02-30T00:00:00Z"),
        *(
            "2020-01-01T24:00:00Z",
            "2020-01-01T00:60:00Z",
            "2020-01-01T00:00:61Z",
            "2020-01-01T00:00:00+24:00",
        ),
        *(
            "2020-01-01T00:00:00+0100",
            "0000-01-01T00:00:00Z",
            " 2020-01-01T00:00:00Z",
            "2020-01-01T00:00:00.Z",
        ),
        "２０２０-01-01T00:00:00Z",
    ],
)
def test_other_texts_are_no_times(text: str) -> None:
    assert instant_of(text) is None
