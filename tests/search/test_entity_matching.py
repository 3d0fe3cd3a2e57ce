"""Distinct matches, against all assignments tried one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.search.entity_matching import NOT_ALLOWED, best_rows, distinct_rows


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    matches = draw(st.integers(1, 5))
    # Few different values, so that ties and contests are common.
    values = generator.integers(-3, 4, (sum(counts), matches)).astype(float)
    values[generator.random(values.shape) < draw(st.sampled_from([0.0, 0.3, 0.8]))] = NOT_ALLOWED
    return values, np.concatenate([[0], np.cumsum(counts)])


@given(tables())
def test_distinct_matches_have_the_greatest_sum(table: tuple[np.ndarray, np.ndarray]) -> None:
    values, starts = table
    rows, found = distinct_rows(values, starts)
    matches = values.shape[1]
    for image, (start, end) in enumerate(itertools.pairwise(starts.tolist())):
        sums = [
            sum(values[row, match] for match, row in enumerate(taken))
            for taken in itertools.permutations(range(start, end), matches)
        ]
        best = max(sums, default=NOT_ALLOWED)
        assert found[image] == (best > NOT_ALLOWED)
        if found[image]:
            assert len(set(rows[image])) == matches
            assert all(start <= row < end for row in rows[image])
            assert values[rows[image], range(matches)].sum() == pytest.approx(best)


def test_of_equal_entities_the_first_is_taken() -> None:
    assert best_rows(np.array([1.0, 2.0, 2.0, 0.0, 0.0]), np.array([0, 3, 5])).tolist() == [1, 3]
