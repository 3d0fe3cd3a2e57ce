"""Columns of values answer conditions as their definition does, one image at a time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from written_filters import payload_conditions, payload_values

from regionsearch.filters import Comparison, Condition, Field, Membership
from regionsearch.filters.meaning import EntityFacts, ImageFacts, holds
from regionsearch.filters.payload_values import values_at
from regionsearch.filters.value_column import ValueColumn

ZERO = np.float32(0)
ENTITY = EntityFacts(0, None, None, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
SPAN = 8
fields_of_images = st.lists(payload_values, max_size=SPAN)


def nested(value: Any, path: tuple[str, ...]) -> dict[str, Any]:
    for key in reversed(path[1:]):
        value = {key: value}
    return {path[0]: value}


def column_of(values: list[Any]) -> ValueColumn:
    return ValueColumn.of(SPAN, {place: values_at({"f": value}, ["f"]) for place, value in enumerate(values)})


def assert_answers(column: ValueColumn, values: dict[int, Any], condition: Condition) -> None:
    expected = [
        holds(
            condition,
            ImageFacts("", 0, 0, 0, 0, 0, "", nested(values.get(place), condition.field.path)),
            ENTITY,
        )
        for place in range(SPAN)
    ]
    assert column.truth(condition).tolist() == expected


@settings(max_examples=150)
@given(fields_of_images, st.lists(payload_conditions, min_size=1, max_size=5))
@example([2**63], [Comparison(Field("payload", ("a",)), "=", 0.0)])
def test_a_column_holds_what_each_image_holds(values: list[Any], conditions: list[Condition]) -> None:
    column = column_of(values)
    for condition in conditions:
        assert_answers(column, dict(enumerate(values)), condition)


@settings(max_examples=80)
@given(st.lists(fields_of_images, min_size=1, max_size=4), payload_conditions)
def test_joined_columns_hold_what_each_of_them_holds(runs: list[list[Any]], condition: Condition) -> None:
    columns = [column_of(values) for values in runs]
    expected = [each for column in columns for each in column.truth(condition).tolist()]
    assert ValueColumn.joined(columns).truth(condition).tolist() == expected


@settings(max_examples=80)
@given(
    fields_of_images,
    st.dictionaries(st.integers(0, SPAN - 1), payload_values, max_size=4),
    st.sets(st.integers(0, SPAN - 1)),
    payload_conditions,
)
def test_a_changed_column_is_that_of_the_changed_images(
    values: list[Any], added: dict[int, Any], without: set[int], condition: Condition
) -> None:
    changed = column_of(values).changed(
        without, {place: values_at({"f": value}, ["f"]) for place, value in added.items()}
    )
    left = {place: value for place, value in enumerate(values) if place not in without}
    assert_answers(changed, left | added, condition)
    fresh = ValueColumn.of(
        SPAN, {place: values_at({"f": value}, ["f"]) for place, value in (left | added).items()}
    )
    assert changed.texts.all() == fresh.texts.all()  # nothing of what is gone stays behind
    assert sorted(changed.owners.tolist()) == sorted(fresh.owners.tolist())


def test_many_numbers_are_sought_among_many_large_integers_at_once() -> None:
    """Hashes of 128 bits as numbers, and an IN of as many as a filter takes: seconds if each met each."""
    values = [(2**64 + 7 * place) if place % 2 else place for place in range(4_000)]
    column = ValueColumn.of(len(values), {place: [value] for place, value in enumerate(values)})
    field = Field("payload", ("a",))

    def seconds(count: int) -> float:
        wanted = tuple(2**64 + 21 * place for place in range(count))
        begin = time.process_time()
        truth = column.truth(Membership(field, wanted))
        took = time.process_time() - begin
        assert np.flatnonzero(truth).tolist() == [
            place for place, value in enumerate(values) if value in set(wanted)
        ]
        return took

    seconds(1)
    assert min(seconds(512) for _ in range(3)) < 30 * min(seconds(1) for _ in range(3)) + 0.01
