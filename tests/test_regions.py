"""Points, boxes, polygons and masks: what they hold, what they share, and what is refused."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_tools

from regionsearch.errors import InvalidRegion
from regionsearch.regions import (
    Box,
    Mask,
    Point,
    Polygon,
    RegionPrompt,
    box_iou,
    box_iou_matrix,
    denormalise,
    mask_iou,
    validate_within,
)

TRIANGLE = Polygon((((10.0, 10.0), (50.0, 10.0), (30.0, 40.0)),))

planes = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20))
sides = st.integers(1, 30)


@st.composite
def whole_boxes(draw: st.DrawFn) -> Box:
    x0, y0 = draw(st.integers(-20, 30)), draw(st.integers(-20, 30))
    return Box(x0, y0, x0 + draw(st.integers(1, 25)), y0 + draw(st.integers(1, 25)))


def pixels_of(box: Box, height: int, width: int) -> NDArray[np.bool_]:
    """Which pixels' middles the box holds: the obvious way."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside: NDArray[np.bool_] = (x >= box.x0) & (x < box.x1) & (y >= box.y0) & (y < box.y1)
    return inside


# Points and boxes


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_coordinates_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(InvalidRegion, match="not finite"):
        Point(bad, 1)
    with pytest.raises(InvalidRegion, match="not finite"):
        Point(1, bad)
    for place in range(4):
        corners = [0.0, 0.0, 5.0, 5.0]
        corners[place] = bad
        with pytest.raises(InvalidRegion, match="not finite"):
            Box(*corners)
    with pytest.raises(InvalidRegion, match="not finite"):
        Polygon((((0, 0), (1, bad), (1, 1)),))


@pytest.mark.parametrize("corners", [(3, 3, 3, 9), (3, 3, 9, 3), (9, 3, 3, 9), (3, 9, 9, 3)])
def test_an_empty_box_is_refused(corners: tuple[int, int, int, int]) -> None:
    with pytest.raises(InvalidRegion, match="box is empty"):
        Box(*corners)


def test_a_box_holds_its_first_corner_and_not_its_last() -> None:
    box = Box(2, 3, 10, 20)
    assert box.contains(2, 3)
    assert box.contains(9.99, 19.99)
    assert not box.contains(10, 5)
    assert not box.contains(5, 20)
    assert box.area == 8 * 17
    assert box.as_tuple() == (2.0, 3.0, 10.0, 20.0)


@given(whole_boxes(), whole_boxes())
def test_overlap_of_boxes_is_that_of_their_pixels(a: Box, b: Box) -> None:
    def shift(box: Box) -> Box:
        return Box(box.x0 + 20, box.y0 + 20, box.x1 + 20, box.y1 + 20)

    pixels_a, pixels_b = pixels_of(shift(a), 80, 80), pixels_of(shift(b), 80, 80)
    expected = (pixels_a & pixels_b).sum() / (pixels_a | pixels_b).sum()
    assert box_iou(a, b) == pytest.approx(expected)
    assert a.area == pixels_a.sum()


@given(st.lists(whole_boxes(), max_size=5), st.lists(whole_boxes(), max_size=5))
def test_the_matrix_of_overlaps_is_that_of_each_pair(a: list[Box], b: list[Box]) -> None:
    rows = np.array([box.as_tuple() for box in a], dtype=np.float32).reshape(-1, 4)
    columns = np.array([box.as_tuple() for box in b], dtype=np.float32).reshape(-1, 4)
    matrix = box_iou_matrix(rows, columns)
    assert matrix.shape == (len(a), len(b))
    for (i, box_a), (j, box_b) in itertools.product(enumerate(a), enumerate(b)):
        assert matrix[i, j] == pytest.approx(box_iou(box_a, box_b))


@given(whole_boxes(), sides, sides)
def test_a_clipped_box_keeps_the_pixels_within_the_image(box: Box, height: int, width: int) -> None:
    expected = pixels_of(box, height, width)
    if expected.any():
        clipped = box.clip(height, width)
        assert 0 <= clipped.x0 < clipped.x1 <= width
        assert 0 <= clipped.y0 < clipped.y1 <= height
        assert (pixels_of(clipped, height, width) == expected).all()
    else:
        with pytest.raises(InvalidRegion, match=f"outside the image of {width} × {height} pixels"):
            box.clip(height, width)


# Masks


@given(planes)
def test_a_mask_comes_back_from_every_form(pixels: NDArray[np.bool_]) -> None:
    mask = Mask.from_array(pixels)
    assert (mask.to_array() == pixels).all()
    coded = json.loads(json.dumps(mask.to_coco()))
    assert Mask.from_coco(coded) == mask
    assert Mask.from_coco({**coded, "counts": coded["counts"].encode()}) == mask
    assert Mask.from_coco({**coded, "counts": mask.counts.tolist()}) == mask
    assert hash(Mask.from_coco(coded)) == hash(mask)
    assert mask.pixels == pixels.sum()
    assert mask.area == pytest.approx(pixels.mean())


@given(planes)
def test_a_mask_reads_what_coco_wrote(pixels: NDArray[np.bool_]) -> None:
    written = coco_tools.encode(np.asfortranarray(pixels, dtype=np.uint8))
    mask = Mask.from_coco(written)
    assert (mask.to_array() == pixels).all()
    assert mask.to_coco() == {"size": list(pixels.shape), "counts": written["counts"].decode()}


@given(planes)
def test_the_box_of_a_mask_is_tight(pixels: NDArray[np.bool_]) -> None:
    mask = Mask.from_array(pixels)
    if not pixels.any():
        with pytest.raises(InvalidRegion, match="empty"):
            mask.box()
        return
    rows, columns = np.nonzero(pixels)
    assert mask.box() == Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@given(planes, st.floats(-2, 22), st.floats(-2, 22))
def test_a_point_is_on_a_mask_when_its_pixel_is(pixels: NDArray[np.bool_], x: float, y: float) -> None:
    height, width = pixels.shape
    inside = 0 <= x < width and 0 <= y < height
    expected = inside and bool(pixels[int(y), int(x)])
    assert Mask.from_array(pixels).contains_point(x, y) == expected


@given(whole_boxes(), sides, sides)
def test_the_mask_of_a_box_holds_its_pixels(box: Box, height: int, width: int) -> None:
    expected = pixels_of(box, height, width)
    assume(expected.any())
    assert (Mask.from_box(box, height, width).to_array() == expected).all()


@given(st.data(), sides, sides)
def test_masks_of_many_boxes_are_those_of_each(data: st.DataObject, height: int, width: int) -> None:
    def edges(side: int) -> st.SearchStrategy[list[float]]:
        place = st.one_of(st.floats(0, side, width=32), st.integers(0, 2 * side).map(lambda half: half / 2))
        return st.lists(place, min_size=2, max_size=2, unique=True).map(sorted)

    pairs = data.draw(st.lists(st.tuples(edges(width), edges(height)), max_size=6))
    boxes = np.array([(x[0], y[0], x[1], y[1]) for x, y in pairs], np.float32).reshape(-1, 4)
    assert Mask.from_boxes(boxes, height, width) == [
        Mask.from_box(Box(*box), height, width) for box in boxes.tolist()
    ]


@pytest.mark.parametrize("wrong", [[0, 0, 11, 5], [-1, 0, 5, 5], [3, 3, 3, 5], [0, 0, float("nan"), 5]])
def test_masks_are_made_of_boxes_within_the_image_alone(wrong: list[float]) -> None:
    boxes = np.array([[0, 0, 5, 5], wrong], np.float32)
    with pytest.raises(InvalidRegion, match="not within the image of 10 × 7 pixels"):
        Mask.from_boxes(boxes, 7, 10)
    with pytest.raises(InvalidRegion, match="0 × 7 pixels"):
        Mask.from_boxes(boxes[:0], 7, 0)


@given(st.floats(0, 9.999), st.floats(0, 6.999), st.floats(1e-9, 20), st.floats(1e-9, 20))
def test_a_box_in_the_image_never_becomes_an_empty_mask(x: float, y: float, w: float, h: float) -> None:
    assume(x + w > x and y + h > y)
    box = Box(x, y, x + w, y + h)
    mask = Mask.from_box(box, 7, 10)
    expected = pixels_of(box, 7, 10)
    if expected.any():
        assert (mask.to_array() == expected).all()
    else:
        touched = mask.box()
        assert touched.x0 < box.x1
        assert touched.x1 > box.x0
        assert touched.y0 < box.y1
        assert touched.y1 > box.y0


def test_the_last_sliver_of_an_image_is_its_last_pixel() -> None:
    edge = math.nextafter(10, 0)
    assert Mask.from_box(Box(edge, edge, 30, 30), 10, 10).box() == Box(9, 9, 10, 10)


def test_a_full_mask_covers_its_image() -> None:
    mask = Mask.full(3, 5)
    assert mask.to_array().all()
    assert mask.area == 1.0
    assert mask.box() == Box(0, 0, 5, 3)


def test_the_mask_of_a_polygon_is_the_union_of_its_rings_as_in_coco() -> None:
    rings = (TRIANGLE.rings[0], ((20.0, 20.0), (60.0, 20.0), (60.0, 35.0), (20.0, 35.0)))
    mask = Mask.from_polygon(Polygon(rings), 48, 64)
    flat = [[coordinate for corner in ring for coordinate in corner] for ring in rings]
    expected = coco_tools.merge(coco_tools.frPyObjects(flat, 48, 64))
    assert mask.to_coco()["counts"] == expected["counts"].decode()


def test_a_polygon_that_covers_no_pixel_is_refused() -> None:
    with pytest.raises(InvalidRegion, match=r"polygon within \[1, 1, 5, 1\] covers no pixel"):
        Mask.from_polygon(Polygon((((1, 1), (5, 1), (3, 1)),)), 48, 64)


@given(st.data(), hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=16))
def test_overlap_of_masks_is_that_of_their_pixels(data: st.DataObject, shape: tuple[int, int]) -> None:
    a, b = data.draw(hnp.arrays(np.bool_, shape)), data.draw(hnp.arrays(np.bool_, shape))
    expected = (a & b).sum() / (a | b).sum() if (a | b).any() else 0.0
    assert mask_iou(Mask.from_array(a), Mask.from_array(b)) == pytest.approx(expected)


def test_masks_of_different_images_cannot_overlap() -> None:
    with pytest.raises(InvalidRegion, match="5 × 3 and 3 × 5"):
        mask_iou(Mask.full(3, 5), Mask.full(5, 3))


@given(planes, st.integers(1, 4))
def test_a_mask_enlarged_by_a_whole_factor_repeats_its_pixels(pixels: NDArray[np.bool_], times: int) -> None:
    height, width = pixels.shape
    enlarged = Mask.from_array(pixels).resized(height * times, width * times)
    assert (enlarged.to_array() == np.kron(pixels, np.ones((times, times), dtype=np.bool_))).all()
    assert enlarged.resized(height, width) == Mask.from_array(pixels)


@given(planes, sides, sides)
def test_a_resized_pixel_takes_the_value_under_its_middle(
    pixels: NDArray[np.bool_], height: int, width: int
) -> None:
    resized = Mask.from_array(pixels).resized(height, width).to_array()
    for row, column in itertools.product(range(height), range(width)):
        y = math.floor((2 * row + 1) * pixels.shape[0] / (2 * height))
        x = math.floor((2 * column + 1) * pixels.shape[1] / (2 * width))
        assert resized[row, column] == pixels[y, x]


@pytest.mark.parametrize(
    ("coded", "reason"),
    [
        ({}, "size"),
        ({"size": [3], "counts": [9]}, "size"),
        ({"size": [3, 3.0], "counts": [9]}, "size"),
        ({"size": [True, 9], "counts": [9]}, "size"),
        ({"size": "33", "counts": [9]}, "size"),
        ({"size": [3, 3]}, "neither a string nor a list"),
        ({"size": [3, 3], "counts": 9}, "neither a string nor a list"),
        ({"size": [3, 3], "counts": []}, "not integers in a row"),
        ({"size": [3, 3], "counts": [[9]]}, "not integers in a row"),
        ({"size": [3, 3], "counts": [1, [2], 6]}, "not integers in a row"),
        ({"size": [3, 3], "counts": [4.5, 4.5]}, "not integers in a row"),
        ({"size": [3, 3], "counts": ["4", "5"]}, "not integers in a row"),
        ({"size": [3, 3], "counts": [2**80]}, "not integers in a row"),
        ({"size": [3, 3], "counts": [10, -1]}, "a run of -1"),
        ({"size": [3, 3], "counts": [4, 4]}, "add up to 8 pixels, but it has 3 × 3"),
        ({"size": [3, 3], "counts": "55"}, "add up to 10 pixels"),
        ({"size": [3, 3], "counts": ""}, "empty"),
        ({"size": [0, 3], "counts": [0]}, "from 1 to 4294967295"),
        ({"size": [-3, -3], "counts": [9]}, "from 1 to 4294967295"),
        ({"size": [2**16, 2**16], "counts": [2**32]}, "from 1 to 4294967295"),
    ],
)
def test_a_malformed_coded_mask_is_refused_with_the_reason(coded: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRegion, match=reason):
        Mask.from_coco(coded)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (4, 4, 1)])
def test_a_dense_mask_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRegion, match="not a plane of bool"):
        Mask.from_array(np.zeros(shape, dtype=np.bool_))


def test_a_dense_mask_of_numbers_is_refused() -> None:
    with pytest.raises(InvalidRegion, match="uint8"):
        Mask.from_array(np.zeros((4, 4), dtype=np.uint8))


def test_the_counts_of_a_mask_cannot_be_changed_afterwards() -> None:
    mask = Mask.from_array(np.eye(4, dtype=np.bool_))
    with pytest.raises(ValueError, match="read-only"):
        mask.counts[0] = 3


# Prompts


def test_a_region_needs_something_positive_and_at_most_one_outline() -> None:
    box, mask = Box(0, 0, 5, 5), Mask.full(48, 64)
    with pytest.raises(InvalidRegion, match="region is empty"):
        RegionPrompt()
    with pytest.raises(InvalidRegion, match="only negative points"):
        RegionPrompt(points=(Point(1, 1, positive=False),))
    with pytest.raises(InvalidRegion, match="a box and a mask"):
        RegionPrompt(box=box, mask=mask)
    with pytest.raises(InvalidRegion, match="a box and a mask and a polygon"):
        RegionPrompt(box=box, mask=mask, polygon=TRIANGLE)
    assert RegionPrompt(points=(Point(1, 1, positive=False),), box=box).box == box


def test_a_polygon_needs_rings_of_three_corners() -> None:
    with pytest.raises(InvalidRegion, match="no ring"):
        Polygon(())
    with pytest.raises(InvalidRegion, match="ring 1 has 2 corners"):
        Polygon((TRIANGLE.rings[0], ((0, 0), (1, 1))))
    with pytest.raises(InvalidRegion, match=r"\(2e\+08, 0\) is not finite or beyond ±1e\+08"):
        Polygon((((0, 0), (2e8, 0), (0, 5)),))


OUTSIDE = [
    (RegionPrompt(points=(Point(64, 10),)), r"point \(64, 10\) lies outside the image of 64 × 48 pixels"),
    (RegionPrompt(points=(Point(10, 48),)), r"point \(10, 48\) lies outside the image of 64 × 48 pixels"),
    (RegionPrompt(points=(Point(1, 1), Point(-0.5, 3, False))), r"point \(-0.5, 3\) lies outside"),
    (RegionPrompt(box=Box(64, 0, 80, 10)), r"box \[64, 0, 80, 10\) lies outside the image of 64 × 48"),
    (RegionPrompt(box=Box(0, -10, 5, 0)), r"box \[0, -10, 5, 0\) lies outside the image of 64 × 48"),
    (
        RegionPrompt(polygon=Polygon((((70, 1), (90, 1), (80, 9)),))),
        r"polygon within \[70, 1, 90, 9\] lies outside the image of 64 × 48 pixels",
    ),
    (RegionPrompt(mask=Mask.full(64, 48)), "mask of 48 × 64 pixels does not fit the image of 64 × 48"),
    (
        RegionPrompt(mask=Mask.from_array(np.zeros((48, 64), dtype=np.bool_))),
        "mask of 64 × 48 pixels is empty",
    ),
]


@pytest.mark.parametrize(("prompt", "reason"), OUTSIDE)
def test_a_region_outside_its_image_is_named_with_the_image_size(prompt: RegionPrompt, reason: str) -> None:
    with pytest.raises(InvalidRegion, match=reason):
        validate_within(prompt, 48, 64)


def test_a_region_within_its_image_stays_and_a_box_across_the_edge_is_clipped() -> None:
    points = (Point(0, 0), Point(63.9, 47.9, positive=False))
    for prompt in (
        RegionPrompt(points),
        RegionPrompt(points, box=Box(3, 4, 64, 48)),
        RegionPrompt(mask=Mask.full(48, 64)),
        RegionPrompt(polygon=TRIANGLE),
        RegionPrompt(polygon=Polygon((((-5, 1), (20, 1), (8, 9)),))),
    ):
        assert validate_within(prompt, 48, 64) == prompt
    clipped = validate_within(RegionPrompt(points, box=Box(-3, 4, 70, 60)), 48, 64)
    assert clipped == RegionPrompt(points, box=Box(0, 4, 64, 48))


def test_normalised_coordinates_become_pixels() -> None:
    points = (Point(0.5, 0.25), Point(0, 0, positive=False))
    assert denormalise(RegionPrompt(points), 48, 64).points == (Point(32, 12), Point(0, 0, positive=False))
    assert denormalise(RegionPrompt(box=Box(0, 0.5, 1, 1)), 48, 64).box == Box(0, 24, 64, 48)
    triangle = Polygon((((0, 0), (1, 0), (0.5, 1)),))
    scaled = Polygon((((0, 0), (64, 0), (32, 48)),))
    assert denormalise(RegionPrompt(polygon=triangle), 48, 64).polygon == scaled
    mask = Mask.full(48, 64)
    assert denormalise(RegionPrompt(mask=mask), 48, 64).mask == mask


@pytest.mark.parametrize(
    "prompt",
    [
        RegionPrompt(points=(Point(240, 100),)),
        RegionPrompt(points=(Point(-0.1, 0.5),)),
        RegionPrompt(box=Box(0, 0, 100, 100)),
        RegionPrompt(polygon=TRIANGLE),
    ],
)
def test_pixels_tagged_as_normalised_are_refused(prompt: RegionPrompt) -> None:
    with pytest.raises(InvalidRegion, match="tagged as normalised"):
        denormalise(prompt, 48, 64)


def test_float32_rounding_does_not_push_a_normalised_box_out() -> None:
    reached = float(np.nextafter(np.float32(1), np.float32(2)))
    assert denormalise(RegionPrompt(box=Box(0, 0, reached, 0.5)), 48, 64).box == Box(0, 0, 64, 24)
