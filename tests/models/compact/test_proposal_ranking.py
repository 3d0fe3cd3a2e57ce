"""Choosing entities: best first, little overlap, nothing twice."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from regionsearch.models.compact.proposal_ranking import MAX_BOX_IOU, OVERLAP_PENALTY, select
from regionsearch.regions import Box, box_iou


def rectangles(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    low = random.integers(0, 12, (count, 2))
    boxes = np.concatenate([low, low + random.integers(1, 9, (count, 2))], axis=1).astype(np.float32)
    masks = np.zeros((count, 24, 24), dtype=np.float32)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int), strict=True):
        mask[y0:y1, x0:x1] = 1
    flat = masks.reshape(count, -1)
    return random.random(count).astype(np.float32), boxes, flat @ flat.T


@settings(deadline=None, max_examples=60)
@given(count=st.integers(1, 30), limit=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_each_choice_is_the_best_that_was_left(count: int, limit: int, seed: int) -> None:
    scores, boxes, shared = rectangles(count, seed)
    chosen = select(scores, boxes, shared, limit).tolist()

    def overlap(a: int, b: int) -> float:
        return box_iou(Box(*map(float, boxes[a])), Box(*map(float, boxes[b])))

    assert len(chosen) == len(set(chosen)) <= limit
    assert chosen[0] == int(scores.argmax())
    for place, index in enumerate(chosen):
        before = chosen[:place]
        most = max((overlap(index, other) for other in before), default=0.0)
        assert most <= 0.9 + 1e-6
        if most > MAX_BOX_IOU:
            continue
        for rival in set(range(count)) - set(before) - {index}:
            rival_most = max((overlap(rival, other) for other in before), default=0.0)
            if rival_most <= MAX_BOX_IOU:
                value = scores[index] - OVERLAP_PENALTY * most**2
                assert value >= scores[rival] - OVERLAP_PENALTY * rival_most**2 - 1e-5


def test_things_apart_come_before_a_better_scored_copy() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [20, 0, 30, 10]], dtype=np.float32)
    shared = np.array([[100, 80, 0], [80, 80, 0], [0, 0, 100]], dtype=np.float32)
    scores = np.array([0.9, 0.8, 0.1], dtype=np.float32)
    assert select(scores, boxes, shared, 3).tolist() == [0, 2, 1]


def test_exact_copies_are_never_chosen_however_many_are_asked_for() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 3, dtype=np.float32)
    shared = np.full((3, 3), 100, dtype=np.float32)
    assert select(np.array([0.2, 0.5, 0.3], dtype=np.float32), boxes, shared, 64).tolist() == [1]
