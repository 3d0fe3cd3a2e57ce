"""Questions for the demo: about what is there, with the right answer known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from regionsearch.demonstration.answers import Answer, Found
from regionsearch.demonstration.questions import (
    IndexedPhoto,
    Question,
    Thing,
    about_two_things,
    contrast,
    deepest_point,
    lookalikes,
    mask_from_view,
    mask_in_view,
    more_like_this,
    plan_questions,
    view_of,
)
from regionsearch.images import Image
from regionsearch.regions import Box, Mask, box_iou, mask_iou


def photo_with(image_id: str, masks: list[NDArray[np.bool_]], objectness: list[float]) -> IndexedPhoto:
    height, width = masks[0].shape
    generator = np.random.default_rng(len(image_id))
    pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    things = []
    for index, (plane, worth) in enumerate(zip(masks, objectness, strict=True)):
        mask = Mask.from_array(plane)
        things.append(Thing(image_id, index, mask, mask.box(), mask.area, worth))
    return IndexedPhoto(image_id, Image(pixels), tuple(things))


def rectangle(height: int, width: int, x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    plane = np.zeros((height, width), dtype=np.bool_)
    plane[y0:y1, x0:x1] = True
    return plane


@pytest.fixture
def photos() -> list[IndexedPhoto]:
    return [
        photo_with(
            f"{name}.jpg",
            [rectangle(60, 80, 0, 0, 80, 60), rectangle(60, 80, 10 + shift, 10, 40 + shift, 40)],
            [0.9, 0.5],
        )
        for shift, name in enumerate("abcdef")
    ]


def test_every_kind_of_question_is_asked_about_another_photo(photos: list[IndexedPhoto]) -> None:
    questions = plan_questions(photos, ("a dog",), "at night")
    assert [question.kind for question in questions] == [
        "box",
        "point",
        "words",
        "box + words",
        "mask",
    ]
    about = [question.expected.image_id for question in questions if question.expected]
    assert len(set(about)) == len(about) == 4


def test_a_question_is_about_a_thing_and_not_about_the_whole_scene(photos: list[IndexedPhoto]) -> None:
    asked = [question.expected for question in plan_questions(photos) if question.expected]
    assert [thing.index for thing in asked] == [1] * len(asked)


def test_a_thing_that_stands_out_is_preferred_to_a_patch_of_texture() -> None:
    patch, thing = rectangle(60, 80, 5, 5, 35, 35), rectangle(60, 80, 40, 20, 70, 50)
    photo = photo_with("meadow.jpg", [patch, thing], [0.9, 0.5])
    pixels = photo.image.pixels.copy()
    pixels[thing] = (250, 240, 30)
    standing_out = IndexedPhoto(photo.image_id, Image(pixels), photo.things)
    assert next(q.expected.index for q in plan_questions([standing_out]) if q.expected) == 1
    assert contrast(standing_out.image, photo.things[1].mask) > contrast(photo.image, photo.things[0].mask)


def test_one_coin_among_many_is_not_asked_for() -> None:
    pixels = np.zeros((60, 80, 3), dtype=np.uint8)
    coins = [rectangle(60, 80, 5 + 25 * n, 5, 20 + 25 * n, 20) for n in range(3)]
    pixels[coins[0] | coins[1] | coins[2]] = 200
    odd = rectangle(60, 80, 5, 30, 20, 45)
    pixels[odd] = (0, 90, 250)
    purse = photo_with("purse.jpg", [*coins, odd], [0.9, 0.9, 0.9, 0.5])
    purse = IndexedPhoto("purse.jpg", Image(pixels), purse.things)
    assert [lookalikes(purse, thing) for thing in purse.things] == [2, 2, 2, 0]
    assert next(q.expected.index for q in plan_questions([purse]) if q.expected) == 3


def test_more_like_this_names_an_indexed_entity_and_sends_no_picture_of_its_own(
    photos: list[IndexedPhoto],
) -> None:
    asked = more_like_this(photos, 4)
    assert len({q.image_id for q in asked}) == 4
    assert [q.entity for q in asked] == [1] * 4
    assert all(q.region is None and q.expected is None for q in asked)


def test_one_photo_without_things_still_gives_questions() -> None:
    only = photo_with("frame.jpg", [rectangle(30, 40, 0, 0, 40, 30)], [0.0])
    questions = plan_questions([only])
    assert more_like_this([only], 5) == []  # there is no other photo to find
    assert [q.expected.image_id for q in questions if q.expected] == ["frame.jpg"] * 4


def test_a_view_shows_the_photo_mirrored_and_the_mask_goes_with_it() -> None:
    plane = rectangle(100, 200, 20, 30, 60, 80)
    pixels = np.zeros((100, 200, 3), dtype=np.uint8)
    pixels[plane] = 200
    view = view_of(Image(pixels))
    assert (view.width, view.height) == (160, 80)
    bright = Mask.from_array(np.asfortranarray(view.pixels[..., 0] > 100))
    assert mask_iou(bright, mask_in_view(Mask.from_array(plane))) > 0.97
    assert mask_in_view(Mask.from_array(plane)).box() == Box(112, 24, 144, 64)
    back = mask_from_view(mask_in_view(Mask.from_array(plane)), 100, 200)
    assert mask_iou(back, Mask.from_array(plane)) > 0.95


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sets(st.tuples(st.integers(0, 39), st.integers(0, 39)), min_size=1, max_size=60),
)
def test_a_mask_never_vanishes_in_a_view_and_its_deepest_point_lies_on_it(
    height: int, width: int, pixels: set[tuple[int, int]]
) -> None:
    plane = np.zeros((height, width), dtype=np.bool_)
    for row, column in pixels:
        plane[row % height, column % width] = True
    mask = mask_in_view(Mask.from_array(plane))
    point = deepest_point(mask)
    assert mask.contains_point(point.x, point.y)


def test_the_deepest_point_of_a_disc_is_its_middle() -> None:
    rows, columns = np.mgrid[0:61, 0:81]
    disc = np.hypot(rows - 30, columns - 50) <= 20
    disc |= rectangle(61, 81, 0, 29, 50, 32)  # a thin handle must not pull the point away
    point = deepest_point(Mask.from_array(disc))
    assert abs(point.x - 50.5) <= 2
    assert abs(point.y - 30.5) <= 2


def test_an_answer_knows_at_which_place_the_right_photo_is_and_how_far_its_entity_overlaps(
    photos: list[IndexedPhoto],
) -> None:
    wanted, other = photos[0].things[1], photos[1].things[1]
    half = Mask.from_array(rectangle(60, 80, 10, 10, 25, 40))

    def found(thing: Thing, mask: Mask) -> Found:
        return Found(thing.image_id, photos[0].image, 0.5, (), 0, mask, mask.box(), mask.area)

    question = Question("box", "?", expected=wanted)
    answer = Answer(question, (found(other, other.mask), found(wanted, half)), None, 1.0)
    assert answer.rank == 2
    assert answer.overlap == pytest.approx(0.5)
    meant = Question("point", "?", expected=wanted)
    clicked = Answer(meant, (found(wanted, half),), mask_in_view(half), 1.0)
    assert clicked.overlap == pytest.approx(1.0, abs=0.1)  # the click meant just this half
    missed = Answer(question, (found(other, other.mask),), None, 1.0)
    assert (missed.rank, missed.overlap) == (None, None)


def test_a_photo_with_two_things_apart_is_asked_for_by_both() -> None:
    masks = [
        rectangle(60, 80, 5, 5, 35, 35),
        rectangle(60, 80, 45, 20, 75, 50),
        rectangle(60, 80, 8, 8, 30, 30),
    ]
    (question,) = about_two_things([photo_with("two.jpg", masks, [0.9, 0.8, 0.7])])
    assert question.kind == "two boxes"
    regions = (question.region, *question.further)
    boxes = [region.box for region in regions if region is not None and region.box is not None]
    known = [mask_in_view(Mask.from_array(plane)).box() for plane in masks]
    assert all(box in known for box in boxes)
    assert box_iou(boxes[0], boxes[1]) == 0
    assert about_two_things([photo_with("one.jpg", [masks[0], masks[2]], [0.9, 0.8])]) == []
