"""Asks a finished index the questions that it is tuned with, in calls that stay short."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.segments.coarse import Lists
from regionsearch.collection.segments.index_kinds import IndexKind, search_parameters
from regionsearch.collection.segments.reach import Reaches, lists_within, nearest_lists
from regionsearch.collection.segments.tuning import LEVELS, Index

RESCORE_SECONDS = 4e-6
"""That the caller takes to score one row exactly from its record."""


def tuned_index(
    index: Any,
    kind: IndexKind,
    questions: NDArray[np.float32],
    before: Callable[[], None],
    call_products: int,
) -> Index:
    """index: FAISS's, with all its rows. questions: (q, d). before: called before each call of FAISS, which
    computes some `call_products` inner products at most, or those of one question."""
    lists = Lists.of(index)
    if lists is None:
        return _without_lists(index, kind, questions, before, call_products)
    before()
    similarities = np.stack([lists.similarities(question) for question in questions])
    rows_per_list = index.ntotal / lists.count

    def units(question: int, reaches: Reaches) -> int:
        of_it = similarities[question]
        return lists_within(of_it, reaches.of(float(of_it.max())))

    def ask(which: slice, reaches: Reaches, k: int, growth: float) -> NDArray[np.int64]:
        counts = [
            min(lists.count, math.ceil(units(number, reaches) * growth))
            for number in range(which.start, which.stop)
        ]
        step = max(1, int(call_products / (max(counts) * rows_per_list + 1)))
        found = []
        for first in range(which.start, which.stop, step):
            numbers = range(first, min(first + step, which.stop))
            before()
            probed = [nearest_lists(similarities[each], counts[each - which.start]) for each in numbers]
            how = search_parameters(index, max(map(len, probed)), None)
            asked = questions[first : numbers.stop]
            if lists.preassigned:
                nearness = [similarities[each][those] for each, those in zip(numbers, probed, strict=True)]
                found.append(lists.search(asked, k, probed, nearness, how)[1])
            else:
                # One after the other: each has its own number of lists.
                hows = [search_parameters(index, len(those), None) for those in probed]
                found += [
                    index.search(each[None], k, params=one)[1] for each, one in zip(asked, hows, strict=True)
                ]
        return np.concatenate(found)

    return Index(
        ask,
        units,
        similarities.max(axis=1),
        LEVELS,
        RESCORE_SECONDS / (kind.row_seconds * rows_per_list),
        told_apart=True,
    )


def _without_lists(
    index: Any,
    kind: IndexKind,
    questions: NDArray[np.float32],
    before: Callable[[], None],
    call_products: int,
) -> Index:
    """Graphs, and indexes of which every row is read."""
    step = max(1, int(call_products / (index.ntotal + 1)))

    def ask(which: slice, reaches: Reaches, k: int, growth: float) -> NDArray[np.int64]:
        effort = min(kind.most_effort, math.ceil(reaches.near.level * growth))
        how = search_parameters(index, effort, None)
        found = []
        for first in range(which.start, which.stop, step):
            before()
            found.append(index.search(questions[first : min(first + step, which.stop)], k, params=how)[1])
        return np.concatenate(found)

    return Index(
        ask,
        lambda question, reaches: math.ceil(reaches.near.level),
        np.zeros(len(questions), np.float32),
        _candidates(kind.most_effort),
        1.0,
        told_apart=False,
    )


def _candidates(most: int) -> list[float]:
    """1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 16, ...: by a fifth or the next number, up to all of them."""
    steps = sorted({round(2**power) for power in np.arange(0, 16, 0.25)})
    return [float(step) for step in steps if step < most] + [float(max(1, most))]
