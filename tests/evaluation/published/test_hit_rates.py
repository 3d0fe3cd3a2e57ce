"""Hits among candidates, ties in no order, pictures drawn whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.evaluation.published.benchmark_inputs import BenchmarkInput, Retrieval
from regionsearch.evaluation.published.hit_rates import Resampled, hit_rate, hits_of


@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6),
    st.integers(1, 7),
)
def test_a_hit_counts_with_the_share_of_orders_of_equal_scores_in_which_it_is_one(
    candidates: list[tuple[int, bool]], k: int
) -> None:
    orders = [
        order
        for order in itertools.permutations(candidates)
        if all(a[0] >= b[0] for a, b in itertools.pairwise(order))
    ]
    expected = np.mean([any(right for _, right in order[:k]) for order in orders])
    scores = np.array([score for score, _ in candidates], dtype=np.float32)
    correct = np.array([right for _, right in candidates])
    assert hit_rate(scores, correct, k) == pytest.approx(expected)


def test_each_query_chooses_among_its_own_candidates() -> None:
    vectors = np.eye(3, dtype=np.float32)
    queries = np.array([[1, 0.5, 0], [1, 0.5, 0]], dtype=np.float32)
    inputs = [BenchmarkInput(text) for text in "abc"]
    own = [np.array([0, 1]), np.array([2, 1])]
    right = [np.array([1]), np.array([1])]
    local = Retrieval("x", inputs[:2], inputs, own, right)
    every = Retrieval("x", inputs[:2], inputs, None, right)
    assert hits_of(local, queries.__getitem__, vectors.__getitem__, (1, 2)).tolist() == [[0, 1], [1, 1]]
    assert hits_of(every, queries.__getitem__, vectors.__getitem__, (1, 2)).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("count", [3, 7, 10, 33])
def test_candidates_with_equal_vectors_are_in_no_order_wherever_they_stand(count: int) -> None:
    random = np.random.default_rng(0)
    # The same vector many times: a matrix product gives rows of it different last digits.
    candidates = np.repeat(random.normal(size=(1, 1536)).astype(np.float32), count, axis=0)
    candidates /= np.linalg.norm(candidates[0])
    queries = random.normal(size=(count, 1536)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    inputs = [BenchmarkInput(str(number)) for number in range(count)]
    right = [np.array([number]) for number in range(count)]
    hits = hits_of(
        Retrieval("x", inputs, inputs, None, right), queries.__getitem__, candidates.__getitem__, (1,)
    )
    assert hits[:, 0] == pytest.approx(1 / count)


def test_the_mean_is_over_queries_and_a_draw_takes_a_picture_with_all_its_queries() -> None:
    resampled = Resampled(["a", "a", "a", "b"])
    draws = resampled.means(np.array([1.0, 1.0, 1.0, 0.0]))
    assert draws[0] == 0.75
    # Two pictures drawn twice: both, a twice, or b twice.
    assert sorted(set(np.round(draws[1:], 6))) == [0.0, 0.75, 1.0]


def test_one_answer_for_all_queries_has_an_interval_of_no_width() -> None:
    assert set(Resampled(list("aabbc")).means(np.full(5, 0.5))) == {0.5}
