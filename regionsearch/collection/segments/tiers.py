"""Which neighbouring segments are merged, and when: few enough to search, seldom enough to write."""

from __future__ import annotations

import math
from collections.abc import Sequence


def due_merge(rows: Sequence[int], *, unit: int, fan_in: int, largest: int, settled: bool) -> slice | None:
    """The neighbours to merge next, of segments with so many rows, oldest first; None when nothing is due.

    A segment's tier is how many times `fan_in` goes into its size, counted in `unit` rows. While rows come
    in, `fan_in` segments of one tier are merged into one of the next: every row is written once a tier, and
    no tier has `fan_in` segments for long. Once settled, whatever is no larger than what follows it is merged
    with that, so that each segment is larger than all newer ones together and few are left. No merge makes a
    segment of more than `largest` rows.
    """
    due = _settling(rows) if settled else _full_tier(rows, unit, fan_in)
    if due is None:
        return None
    total = sum(rows[due])
    while total > largest and due.stop - due.start > 1:
        # The oldest is the largest: what is left is merged without it.
        total -= rows[due.start]
        due = slice(due.start + 1, due.stop)
    return due if due.stop - due.start > 1 else None


def _full_tier(rows: Sequence[int], unit: int, fan_in: int) -> slice | None:
    tiers = [max(0, math.floor(math.log(max(each, 1) / unit, fan_in) + 1e-9)) for each in rows]
    for tier in sorted(set(tiers)):
        start = 0
        for place in range(len(rows) + 1):
            if place < len(rows) and tiers[place] <= tier:
                continue
            if tiers[start:place].count(tier) >= fan_in:
                return slice(start, place)
            start = place + 1
    return None


def _settling(rows: Sequence[int]) -> slice | None:
    following = 0
    start = len(rows)
    for place in range(len(rows) - 1, -1, -1):
        if rows[place] <= following:
            start = place
        following += rows[place]
    return slice(start, len(rows)) if start < len(rows) else None


def largest_run(rows: Sequence[int], largest: int) -> slice | None:
    """The first neighbours that fit into one segment, as many as do; None when no two do."""
    for start in range(len(rows)):
        total, stop = rows[start], start + 1
        while stop < len(rows) and total + rows[stop] <= largest:
            total += rows[stop]
            stop += 1
        if stop - start > 1:
            return slice(start, stop)
    return None
