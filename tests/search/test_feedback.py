"""Rocchio's rule: what is liked pulls, what is disliked pushes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from regionsearch.errors import InvalidRequest
from regionsearch.search.feedback import moved, moved_regions, unit_sum

D = 8


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def unit_rows(least: int, most: int) -> st.SearchStrategy[np.ndarray]:
    return st.tuples(st.integers(least, most), st.integers(0, 2**32 - 1)).map(
        lambda drawn: (
            unit(np.random.default_rng(drawn[1]).standard_normal((drawn[0], D)))
            if drawn[0]
            else np.empty((0, D), np.float32)
        )
    )


@given(unit_rows(1, 1), unit_rows(0, 4), unit_rows(0, 4))
def test_the_moved_query_is_the_unit_vector_of_the_weighted_means(
    query: np.ndarray, liked: np.ndarray, disliked: np.ndarray
) -> None:
    expected = [float(value) for value in query[0]]
    for axis in range(D):
        if len(liked):
            expected[axis] += 0.75 * sum(float(row[axis]) for row in liked) / len(liked)
        if len(disliked):
            expected[axis] -= 0.15 * sum(float(row[axis]) for row in disliked) / len(disliked)
    result = moved(query[0], liked, disliked)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.array(expected) / np.linalg.norm(expected), atol=1e-6)


@given(unit_rows(1, 1), unit_rows(1, 1))
def test_liked_examples_come_nearer_and_disliked_ones_go_further(
    query: np.ndarray, example: np.ndarray
) -> None:
    nothing = np.empty((0, D), np.float32)
    before = float(query[0] @ example[0])
    assert float(moved(query[0], example, nothing) @ example[0]) >= before - 1e-6
    assert float(moved(query[0], nothing, example) @ example[0]) <= before + 1e-6


def test_one_liked_example_alone_is_itself() -> None:
    one = unit(np.arange(1.0, D + 1)[None])
    np.testing.assert_allclose(moved(None, one, np.empty((0, D), np.float32)), one[0], atol=1e-6)


def test_examples_that_cancel_out_leave_nothing_to_search_with() -> None:
    one = unit(np.ones((1, D)))
    with pytest.raises(InvalidRequest, match="cancel") as refused:
        moved(None, np.concatenate([one, -one]), np.empty((0, D), np.float32))
    assert refused.value.field == "liked"


@given(unit_rows(2, 3), unit_rows(1, 5), unit_rows(0, 3))
def test_of_several_regions_each_example_moves_the_one_that_it_is_most_like(
    regions: np.ndarray, liked: np.ndarray, disliked: np.ndarray
) -> None:
    result = moved_regions(regions, liked, disliked)
    for number, region in enumerate(regions):
        near_liked = [row for row in liked if int((regions @ row).argmax()) == number]
        near_disliked = [row for row in disliked if int((regions @ row).argmax()) == number]
        alone = moved(
            region,
            np.array(near_liked, np.float32).reshape(-1, D),
            np.array(near_disliked, np.float32).reshape(-1, D),
        )
        np.testing.assert_allclose(result[number], alone, atol=1e-6)


@given(arrays.arrays(np.float32, (2, D), elements=st.floats(-1, 1, width=32)))
def test_a_unit_sum_has_unit_length_whatever_is_added(rows: np.ndarray) -> None:
    if (np.linalg.norm(rows, axis=1) < 0.1).any():
        rows = rows + np.float32(1)
    vectors = unit(rows)
    assert np.linalg.norm(unit_sum(list(vectors))) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(unit_sum([vectors[0], -vectors[0]]), vectors[0], atol=1e-6)
