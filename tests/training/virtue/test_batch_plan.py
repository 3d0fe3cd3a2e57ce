"""Which pairs make up which batch."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.errors import InvalidRequest
from regionsearch.training.virtue.batch_plan import SUB_BATCH, BatchPlan


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 9))
def test_every_pair_of_one_source_comes_once_a_round(size: int, batch: int, seed: int) -> None:
    batch = min(batch, size)
    plan = BatchPlan([size], batch, 3 * size, seed)
    seen = [pair for step in range(3 * size) for _, pair in plan.batch(step)]
    for start in range(0, len(seen) - size + 1, size):
        assert sorted(seen[start : start + size]) == list(range(size))


@given(st.lists(st.integers(70, 300), min_size=1, max_size=4), st.integers(1, 70), st.integers(0, 9))
def test_a_batch_does_not_depend_on_which_were_asked_before(sizes: list[int], batch: int, seed: int) -> None:
    plan = BatchPlan(sizes, batch, 12, seed)
    in_order = [plan.batch(step) for step in range(12)]
    fresh = BatchPlan(sizes, batch, 12, seed)
    assert [fresh.batch(step) for step in (11, 3, 7, 3)] == [in_order[step] for step in (11, 3, 7, 3)]
    assert all(len(places) == batch for places in in_order)


def test_a_batch_is_cut_into_runs_of_64_from_one_source() -> None:
    plan = BatchPlan([5000, 5000, 5000], 1024, 4, 0)
    for step in range(4):
        places = plan.batch(step)
        runs = [places[start : start + SUB_BATCH] for start in range(0, 1024, SUB_BATCH)]
        assert all(len({source for source, _ in run}) == 1 for run in runs)
        assert len({run[0][0] for run in runs}) > 1
        assert len(set(places)) == 1024


def test_sources_come_as_often_as_they_are_large() -> None:
    plan = BatchPlan([9000, 1000], 64, 2000, 0)
    counts = Counter(plan.batch(step)[0][0] for step in range(2000))
    assert counts[1] / 2000 == pytest.approx(0.1, abs=0.025)  # within 3.7 standard errors


def test_too_few_pairs_for_a_batch_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="a batch takes 9 pairs and there are 8"):
        BatchPlan([5, 3], 9, 1, 0)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 50), st.integers(0, 9))
def test_no_pair_is_twice_in_a_batch(sizes: list[int], batch: int, seed: int) -> None:
    batch = min(batch, sum(sizes))
    plan = BatchPlan(sizes, batch, 30, seed)
    for step in range(30):
        places = plan.batch(step)
        assert len(set(places)) == len(places) == batch
