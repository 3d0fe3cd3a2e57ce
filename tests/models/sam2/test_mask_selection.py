"""Choosing among masks: duplicates go, good and new masks stay, small parts are cleaned away."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from regionsearch.models.sam2.automatic_masks import shared_cells
from regionsearch.models.sam2.mask_cleaning import cleaned
from regionsearch.models.sam2.mask_quality import point_grid, stability_scores
from regionsearch.models.sam2.mask_selection import (
    FRAME,
    LEAST_NEW,
    LIKE_SIZED,
    choose,
    mask_ious,
    quality_order,
    size_weight,
    without_duplicates,
)

Masks = NDArray[np.bool_]


@st.composite
def several_masks(draw: st.DrawFn) -> Masks:
    """1 to 8 rectangles, none empty, on a picture of 8 × 8."""
    masks = np.zeros((draw(st.integers(1, 8)), 8, 8), dtype=np.bool_)
    for mask in masks:
        y, x = draw(st.integers(0, 7)), draw(st.integers(0, 7))
        mask[y : draw(st.integers(y + 1, 8)), x : draw(st.integers(x + 1, 8))] = True
    return masks


def qualities(count: int) -> st.SearchStrategy[NDArray[np.float64]]:
    # Few values: ties are the rule.
    return arrays(np.float64, count, elements=st.sampled_from([0.0, 0.3, 0.5, 0.50001, 0.9, 1.0]))


def iou(a: Masks, b: Masks) -> float:
    return float((a & b).sum() / (a | b).sum())


@given(several_masks())
def test_overlap_is_counted_in_cells(masks: Masks) -> None:
    shared = shared_cells(torch.from_numpy(masks).flatten(1))
    assert shared.tolist() == [[(a & b).sum() for b in masks] for a in masks]
    expected = [[iou(a, b) for b in masks] for a in masks]
    np.testing.assert_allclose(mask_ious(shared), expected)


def test_overlap_of_many_masks_is_that_of_pairs() -> None:
    masks = torch.from_numpy(np.random.default_rng(0).random((300, 64)) > 0.5)
    counted = masks.double() @ masks.double().T
    assert np.array_equal(shared_cells(masks), counted.numpy())


@given(st.data(), several_masks(), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_what_is_left_has_no_duplicates_and_lacks_nothing_else(
    data: st.DataObject, masks: Masks, threshold: float
) -> None:
    scores = data.draw(qualities(len(masks)))
    order = quality_order(scores, np.zeros(len(masks)))
    ious = mask_ious(shared_cells(torch.from_numpy(masks).flatten(1)))
    kept = without_duplicates(order, ious, threshold).tolist()
    expected: list[int] = []
    for index in sorted(range(len(masks)), key=lambda index: (-round(scores[index], 4), index)):
        if all(iou(masks[index], masks[other]) <= threshold for other in expected):
            expected.append(index)
    assert kept == expected


def test_quality_is_predicted_iou_before_stability() -> None:
    order = quality_order(np.array([0.9, 0.95, 0.9, 0.9]), np.array([0.8, 0.1, 0.9, 0.8]))
    assert order.tolist() == [1, 2, 0, 3]


def chosen_slowly(quality: NDArray[np.float64], masks: Masks, limit: int) -> list[int]:
    """The documented objective, from the masks themselves."""
    areas = masks.mean(axis=(1, 2))
    chosen: list[int] = []
    while len(chosen) < limit:
        offers = []
        for index, mask in enumerate(masks):
            rivals = [
                masks[other] & mask
                for other in chosen
                if areas[index] / LIKE_SIZED < areas[other] < areas[index] * LIKE_SIZED
            ]
            new = max(0.0, 1 - sum(int(rival.sum()) for rival in rivals) / mask.sum())
            if index in chosen or areas[index] > FRAME or new < LEAST_NEW:
                continue
            gain = quality[index] * float(size_weight(areas[index : index + 1])[0]) * new
            offers.append((-round(gain, 4), -round(quality[index], 4), index))
        if not offers:
            break
        chosen.append(min(offers)[2])
    worth = quality * size_weight(areas)
    rest = [n for n in range(len(masks)) if n not in chosen and areas[n] <= FRAME]
    rest.sort(key=lambda n: (-round(float(worth[n]), 4), -round(quality[n], 4), n))
    return [*chosen, *rest][:limit]


@given(st.data(), several_masks(), st.integers(1, 8))
def test_choice_is_the_greedy_one(data: st.DataObject, masks: Masks, limit: int) -> None:
    quality = data.draw(qualities(len(masks)))
    shared = shared_cells(torch.from_numpy(masks).flatten(1)) / 64
    assert choose(quality, np.diagonal(shared), shared, limit).tolist() == chosen_slowly(
        quality, masks, limit
    )


def test_a_part_and_its_whole_do_not_compete_but_twins_do() -> None:
    masks = np.zeros((3, 16, 16), dtype=np.bool_)
    masks[0, 2:14, 2:14] = True  # a thing
    masks[1, 3:7, 3:7] = True  # a part of it
    masks[2, 2:14, 2:13] = True  # the thing again, a column less
    shared = shared_cells(torch.from_numpy(masks).flatten(1)) / 256
    assert choose(np.array([0.9, 0.8, 0.89]), np.diagonal(shared), shared, 3).tolist() == [0, 1, 2]


def test_a_person_is_chosen_beside_the_clothes_when_there_is_room() -> None:
    masks = np.zeros((4, 64, 64), dtype=np.bool_)
    masks[0, 10:60, 20:40] = True  # a person
    masks[1, 20:38, 20:40] = True  # the shirt: better, and more than a quarter of the person
    masks[2, 38:60, 20:40] = True  # the trousers
    masks[3, 10:20, 26:34] = True  # the head
    quality = np.array([0.85, 0.98, 0.97, 0.96])
    shared = shared_cells(torch.from_numpy(masks).flatten(1)) / 64**2
    chosen = choose(quality, np.diagonal(shared), shared, 32).tolist()
    # What clothes cover already comes last, not never.
    assert sorted(chosen) == [0, 1, 2, 3]
    assert chosen[-1] == 0
    assert 0 not in choose(quality, np.diagonal(shared), shared, 3)


def test_the_frame_is_no_entity() -> None:
    shared = np.ones((1, 1))
    assert choose(np.ones(1), np.ones(1), shared, 4).tolist() == []


def components(pixels: Masks) -> list[list[tuple[int, int]]]:
    """Connected parts by flood fill, corners touching, in the order of their first pixel by rows."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(pixels), strict=True)}
    found = []
    for start in sorted(left):
        if start not in left:
            continue
        left.discard(start)
        part, todo = [start], [start]
        while todo:
            y, x = todo.pop()
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left:
                    left.discard(near)
                    part.append(near)
                    todo.append(near)
        found.append(part)
    return found


def cleaned_slowly(pixels: Masks, least: int) -> Masks:
    expected = pixels.copy()
    if pixels.any():
        for hole in components(~pixels):
            if len(hole) < least:
                for place in hole:
                    expected[place] = True
        islands = components(expected)
        largest = max(islands, key=len)
        for island in islands:
            if len(island) < least and not (len(largest) < least and island is largest):
                for place in island:
                    expected[place] = False
    return expected


@given(arrays(np.bool_, (7, 9)), st.integers(0, 12))
def test_small_holes_are_filled_and_small_islands_removed(pixels: Masks, least: int) -> None:
    result = cleaned(pixels, least)
    assert np.array_equal(result, cleaned_slowly(pixels, least))
    assert result.any() == pixels.any()


@given(arrays(np.bool_, (4, 5)), st.tuples(*[st.integers(0, 6)] * 4), st.integers(2, 9))
def test_masks_in_a_corner_of_a_larger_picture_are_cleaned_alike(
    pixels: Masks, around: tuple[int, int, int, int], least: int
) -> None:
    picture = np.pad(pixels, (around[:2], around[2:]))
    assert np.array_equal(cleaned(picture, least), cleaned_slowly(picture, least))


@given(arrays(np.float32, (3, 5, 5), elements=st.floats(-3, 3, width=32)), st.sampled_from([0.0, 0.5, 1.0]))
def test_stability_is_the_overlap_of_two_cuts(logits: NDArray[np.float32], offset: float) -> None:
    scores = stability_scores(torch.from_numpy(logits), 0.25, offset)
    for score, each in zip(scores, logits, strict=True):
        inner, outer = each > 0.25 + offset, each > 0.25 - offset
        expected = (inner & outer).sum() / (inner | outer).sum() if outer.any() else 0.0
        assert float(score) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("per_side", [1, 3, 32])
def test_points_are_the_middles_of_equal_cells(per_side: int) -> None:
    grid = point_grid(per_side)
    assert grid.shape == (per_side**2, 1, 2)
    places = [
        ((i + 0.5) / per_side * 1024, (j + 0.5) / per_side * 1024)
        for j in range(per_side)
        for i in range(per_side)
    ]
    torch.testing.assert_close(grid[:, 0], torch.tensor(places))
