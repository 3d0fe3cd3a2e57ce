"""The entity that is shown as the match, against expected overlaps added up one by one."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.regions import Box, box_iou
from regionsearch.search.entity_choice import choose_entities

FRAME = (100.0, 80.0)


def boxes_of(generator: np.random.Generator, count: int) -> np.ndarray:
    low = generator.uniform(0, 60, (count, 2))
    return np.concatenate([low, low + generator.uniform(5, 35, (count, 2))], axis=1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_the_chosen_entity_has_the_greatest_expected_overlap(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    boxes, log_odds = boxes_of(generator, count), generator.normal(0, 2, count)
    allowed = generator.random(count) < 0.8
    chosen = choose_entities(log_odds[:, None], boxes, allowed[:, None], FRAME)
    odds = [math.exp(value) if may else 0.0 for value, may in zip(log_odds, allowed, strict=True)]
    expected = {
        n: sum(odds[m] * box_iou(Box(*boxes[n]), Box(*boxes[m])) for m in range(count))
        for n in np.flatnonzero(allowed).tolist()
    }
    if not expected:
        assert chosen is None
    else:
        assert chosen is not None
        assert math.isclose(expected[int(chosen[0])], max(expected.values()), rel_tol=1e-9)


def test_the_whole_is_preferred_to_a_part_that_resembles_a_little_more() -> None:
    whole, part, elsewhere = [10, 10, 60, 70], [20, 15, 45, 40], [70, 5, 95, 30]
    also_whole = [12, 9, 61, 68]
    boxes = np.array([part, whole, also_whole, elsewhere], dtype=float)
    log_odds = np.array([[0.6], [0.4], [0.4], [-1.0]])
    chosen = choose_entities(log_odds, boxes, np.ones((4, 1), bool), FRAME)
    assert chosen is not None
    assert chosen[0] in (1, 2)


def test_the_whole_frame_is_chosen_only_where_nothing_else_may_be() -> None:
    boxes = np.array([[0, 0, 100, 80], [10, 10, 40, 40]], dtype=float)
    log_odds = np.array([[9.0], [0.0]])
    every = choose_entities(log_odds, boxes, np.array([[True], [True]]), FRAME)
    frame = choose_entities(log_odds, boxes, np.array([[True], [False]]), FRAME)
    assert every is not None
    assert frame is not None
    assert (every[0], frame[0]) == (1, 0)


def test_two_things_in_an_image_of_a_frame_and_one_entity_take_both() -> None:
    boxes = np.array([[0, 0, 100, 80], [10, 10, 40, 40]], dtype=float)
    chosen = choose_entities(np.zeros((2, 2)), boxes, np.ones((2, 2), bool), FRAME)
    assert chosen is not None
    assert sorted(chosen.tolist()) == [0, 1]
