"""When segments are merged: few of them, and few rewritings of each row."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from regionsearch.collection.segments.tiers import due_merge

SIZES = st.lists(st.integers(1, 5_000), max_size=20)


def merged(rows: list[int], due: slice) -> list[int]:
    return [*rows[: due.start], sum(rows[due]), *rows[due.stop :]]


def due(rows: list[int], *, settled: bool, largest: int = 1 << 40) -> slice | None:
    return due_merge(rows, unit=100, fan_in=4, largest=largest, settled=settled)


def test_a_growing_collection_has_few_segments_and_writes_each_row_a_few_times() -> None:
    rows: list[int] = []
    written = 0
    most = 0
    for _ in range(1_000):
        rows.append(100)
        while (window := due(rows, settled=False)) is not None:
            written += sum(rows[window])
            rows = merged(rows, window)
        most = max(most, len(rows))
    tiers = math.ceil(math.log(1_000, 4))
    assert most <= 3 * tiers + 1
    assert written <= tiers * sum(rows)
    assert sum(rows) == 100_000


@given(SIZES)
def test_merging_ends_and_leaves_no_full_tier(rows: list[int]) -> None:
    before = sum(rows)
    while (window := due(rows, settled=False)) is not None:
        shorter = merged(rows, window)
        assert len(shorter) < len(rows)
        rows = shorter
    assert sum(rows) == before
    tiers = [max(0, math.floor(math.log(each / 100, 4) + 1e-9)) for each in rows]
    run: list[int] = []
    for tier in tiers:
        run = [*run, tier] if not run or tier <= max(run) else [tier]
        assert run.count(max(run)) < 4


@given(SIZES)
def test_once_settled_each_segment_is_larger_than_all_newer_ones_together(rows: list[int]) -> None:
    while (window := due(rows, settled=True)) is not None:
        rows = merged(rows, window)
    assert all(rows[place] > sum(rows[place + 1 :]) for place in range(len(rows) - 1))
    assert len(rows) <= math.log2(max(1, sum(rows))) + 1


@given(SIZES, st.integers(1, 8_000), st.booleans())
def test_no_merge_makes_a_segment_larger_than_allowed(rows: list[int], largest: int, settled: bool) -> None:
    while (window := due(rows, settled=settled, largest=largest)) is not None:
        assert sum(rows[window]) <= largest
        assert window.stop - window.start > 1
        rows = merged(rows, window)
