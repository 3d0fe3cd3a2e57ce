"""Choosing entities: best first, little overlap, nothing twice, then what completes the picture."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from regionsearch.models.compact.proposal_ranking import (
    APART,
    MAX_BOX_IOU,
    MAX_MASK_IOU,
    OVERLAP_PENALTY,
    select,
    worth,
)
from regionsearch.regions import Box, box_iou


def rectangles(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    low = random.integers(0, 12, (count, 2))
    boxes = np.concatenate([low, low + random.integers(1, 9, (count, 2))], axis=1).astype(np.float32)
    masks = np.zeros((count, 24, 24), dtype=np.float32)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int), strict=True):
        mask[y0:y1, x0:x1] = 1
    flat = masks.reshape(count, -1)
    return (random.random(count) - 0.2).astype(np.float32), boxes, flat @ flat.T


@settings(deadline=None, max_examples=60)
@given(count=st.integers(1, 30), limit=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_each_choice_is_the_best_that_was_left(count: int, limit: int, seed: int) -> None:
    worths, boxes, shared = rectangles(count, seed)
    chosen = select(worths, boxes, shared, limit).tolist()

    def overlap(a: int, b: int) -> float:
        return box_iou(Box(*map(float, boxes[a])), Box(*map(float, boxes[b])))

    # Rectangles are their own boxes, so that one bound stands for both.
    for place in range(limit):
        before = chosen[:place]
        values = {
            rival: worths[rival]
            - OVERLAP_PENALTY * max((overlap(rival, other) for other in before), default=0.0) ** 2
            for rival in range(count)
            if rival not in before
            and worths[rival] > 0
            and all(overlap(rival, other) <= MAX_BOX_IOU for other in before)
        }
        if not values:
            assert len(chosen) == place
            break
        assert values[chosen[place]] >= max(values.values()) - 1e-5
    assert len(chosen) <= limit


@settings(deadline=None, max_examples=60)
@given(count=st.integers(1, 20), limit=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
def test_pieces_follow_the_things_larger_first_and_are_no_copies(count: int, limit: int, seed: int) -> None:
    worths, boxes, shared = rectangles(count, seed)
    pieces = np.random.default_rng(seed + 1).random(count) < 0.5
    things = select(worths, boxes, shared, limit).tolist()
    chosen = select(worths, boxes, shared, limit, pieces).tolist()
    assert chosen[: len(things)] == things
    sizes = np.diagonal(shared)
    added = chosen[len(things) :]
    assert len(set(chosen)) == len(chosen) <= limit
    assert [sizes[index] for index in added] == sorted((sizes[index] for index in added), reverse=True)

    def copies(index: int, others: list[int]) -> bool:
        unions = sizes[index] + sizes[others] - shared[index, others]
        return bool((shared[index, others] > MAX_MASK_IOU * unions + 1e-4).any())

    for place, index in enumerate(added, start=len(things)):
        assert pieces[index]
        assert not copies(index, chosen[:place])
    if len(chosen) < limit:
        left = [index for index in np.flatnonzero(pieces).tolist() if index not in chosen]
        assert all(copies(index, chosen) for index in left)


def test_what_little_sets_apart_is_worth_less_and_what_is_apart_its_score() -> None:
    scores = np.array([0.6, 0.6, 0.6, 0.05], dtype=np.float32)
    swallowed = np.array([APART + 3, APART, APART - 1, APART - 2], dtype=np.float32)
    worths = worth(scores, swallowed)
    assert worths[0] == worths[1] == scores[0]
    assert 0 < worths[2] < scores[2]
    assert worths[3] < 0


def test_of_two_things_that_overlap_the_second_waits_for_one_apart() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 6], [20, 0, 30, 10]], dtype=np.float32)
    shared = np.array([[100, 60, 0], [60, 60, 0], [0, 0, 100]], dtype=np.float32)
    assert select(np.array([0.9, 0.3, 0.2], dtype=np.float32), boxes, shared, 3).tolist() == [0, 2, 1]


def test_exact_copies_are_never_chosen_however_many_are_asked_for() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 3, dtype=np.float32)
    shared = np.full((3, 3), 100, dtype=np.float32)
    worths = np.array([0.2, 0.5, 0.3], dtype=np.float32)
    assert select(worths, boxes, shared, 64, np.ones(3, dtype=np.bool_)).tolist() == [1]
