"""Measures of rankings, against their definitions written out as loops over copies of images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from regionsearch.evaluation.bootstrap import image_weights, interval, mean_of_groups
from regionsearch.evaluation.ranking_metrics import (
    average_precision,
    expected_calibration_error,
    first_holds,
    precision_at,
)

Relevance = list[bool]


def ones(relevant: Relevance) -> NDArray[np.int64]:
    return np.ones((1, len(relevant)), dtype=np.int64)


def plain_average_precision(relevant: Relevance) -> float:
    precisions = [sum(relevant[: k + 1]) / (k + 1) for k in range(len(relevant)) if relevant[k]]
    return sum(precisions) / len(precisions)


weighted_rankings = st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=12)


@given(st.lists(st.booleans(), min_size=1, max_size=30).filter(any))
def test_average_precision_is_the_mean_precision_at_relevant_places(relevant: Relevance) -> None:
    (value,) = average_precision(np.array(relevant), ones(relevant))
    assert value == pytest.approx(plain_average_precision(relevant))


@given(weighted_rankings)
def test_a_weight_multiplies_an_image_as_retrieved_and_as_relevant(
    ranking: list[tuple[bool, int]],
) -> None:
    relevant = np.array([hit for hit, _ in ranking])
    weights = np.array([[weight for _, weight in ranking]])
    (value,) = average_precision(relevant, weights)
    total = sum(weight for hit, weight in ranking if hit)
    if total == 0:
        assert math.isnan(value)
        return
    expected, retrieved, found = 0.0, 0, 0
    for hit, weight in ranking:
        retrieved += weight
        found += weight if hit else 0
        if hit and weight:
            expected += weight * found / retrieved
    assert value == pytest.approx(expected / total)


@given(weighted_rankings, st.integers(1, 6))
def test_precision_at_k_counts_the_first_k_copies(ranking: list[tuple[bool, int]], k: int) -> None:
    relevant = np.array([hit for hit, _ in ranking])
    weights = np.array([[weight for _, weight in ranking]])
    copies = [hit for hit, weight in ranking for _ in range(weight)]
    (value,) = precision_at(k, relevant, weights)
    if not any(copies):
        assert math.isnan(value)
    else:
        assert value == pytest.approx(sum(copies[:k]) / min(k, sum(copies)))


@given(weighted_rankings, st.randoms())
def test_the_first_place_of_a_draw_is_the_first_image_with_weight(
    ranking: list[tuple[bool, int]], random: np.random.Generator
) -> None:
    relevant = np.array([hit for hit, _ in ranking])
    holds = np.array([hit and random.random() < 0.5 for hit, _ in ranking])
    weights = np.array([[weight for _, weight in ranking]])
    (value,) = first_holds(holds, relevant, weights)
    present = [place for place, (_, weight) in enumerate(ranking) if weight]
    if not any(relevant[place] for place in present):
        assert math.isnan(value)
    else:
        assert value == float(holds[present[0]])


@given(
    st.integers(1, 5).flatmap(
        lambda size: st.lists(
            st.tuples(st.floats(0, 1), st.booleans()),
            min_size=10 * size,
            max_size=10 * size,
            unique_by=lambda pair: pair[0],
        )
    )
)
def test_calibration_error_compares_mean_score_and_share_in_ten_equal_bins(
    hits: list[tuple[float, bool]],
) -> None:
    scores, relevant = np.array([score for score, _ in hits]), np.array([hit for _, hit in hits])
    error = expected_calibration_error(scores, relevant)
    assert error == pytest.approx(literal_calibration_error(scores, relevant))


def test_calibration_error_is_none_of_the_way_for_sure_scores_and_all_of_it_for_wrong_ones() -> None:
    sure = np.repeat([0.0, 1.0], 50)
    assert expected_calibration_error(sure, sure == 1) == 0.0
    assert expected_calibration_error(sure, sure == 0) == 1.0


def literal_calibration_error(scores: NDArray[np.float64], relevant: NDArray[np.bool_]) -> float:
    pairs = sorted(zip(scores.tolist(), relevant.tolist(), strict=True))
    size = len(pairs) // 10
    errors = []
    for start in range(0, len(pairs), size):
        part = pairs[start : start + size]
        mean_score = sum(score for score, _ in part) / len(part)
        errors.append(abs(mean_score - sum(hit for _, hit in part) / len(part)))
    return sum(errors) / len(errors)


def test_fewer_hits_than_bins_are_bins_of_their_own() -> None:
    error = expected_calibration_error(np.array([0.9, 0.2, 0.6]), np.array([True, False, True]))
    assert error == pytest.approx((0.1 + 0.2 + 0.4) / 3)
    assert expected_calibration_error(np.empty(0), np.empty(0, dtype=np.bool_)) is None


def test_draws_are_multinomial_and_the_same_each_time() -> None:
    weights = image_weights(17)
    assert weights.shape == (1000, 17)
    assert (weights.sum(axis=1) == 17).all()
    assert np.array_equal(weights, np.random.default_rng(0).multinomial(17, [1 / 17] * 17, 1000))


def test_an_interval_holds_the_middle_95_percent_of_what_is_defined() -> None:
    values = np.concatenate([np.arange(1001) / 1000, [np.nan]])
    assert interval(values) == pytest.approx([0.025, 0.975])
    assert interval(np.array([np.nan])) is None


@given(
    st.integers(1, 8).flatmap(
        lambda count: st.tuples(
            st.lists(st.floats(0, 1) | st.just(math.nan), min_size=count, max_size=count),
            st.lists(st.integers(0, 3), min_size=count, max_size=count),
            st.lists(st.integers(0, 3), min_size=count, max_size=count),
        )
    )
)
def test_groups_without_weight_are_left_out_of_the_mean_over_groups(
    case: tuple[list[float], list[int], list[int]],
) -> None:
    values, weights, groups = case
    means = []
    for group in sorted(set(groups)):
        counted = [
            (value, weight)
            for value, weight, own in zip(values, weights, groups, strict=True)
            if own == group and weight and not math.isnan(value)
        ]
        if counted:
            means.append(sum(v * w for v, w in counted) / sum(w for _, w in counted))
    (mean,) = mean_of_groups(np.array([values]), np.array([weights], dtype=np.float64), np.array(groups))
    if means:
        assert mean == pytest.approx(sum(means) / len(means))
    else:
        assert math.isnan(mean)
