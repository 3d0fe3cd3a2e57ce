"""The weightless models are right about a world of flat colours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRegion, InvalidRequest, NotAccepted
from regionsearch.images import Image
from regionsearch.models.dummy import COLOURS, DIMENSION, load_embedder, load_segmenter
from regionsearch.models.embedder import EncodableQuery
from regionsearch.regions import Box, Mask, Point, RegionPrompt, box_iou

SIZE = 200
RED, GREEN = Box(20, 30, 80, 70), Box(110, 90, 180, 190)


def picture(rectangles: dict[str, Box], height: int = SIZE, width: int = SIZE) -> Image:
    pixels = np.full((height, width, 3), 255, dtype=np.uint8)
    for colour, box in rectangles.items():
        x0, y0, x1, y1 = map(int, box.as_tuple())
        pixels[y0:y1, x0:x1] = COLOURS[colour]
    return Image(pixels)


@pytest.fixture
def image() -> Image:
    return picture({"red": RED, "green": GREEN})


def test_entities_are_the_coloured_areas_largest_first(image: Image) -> None:
    (entities,) = load_segmenter().propose([image])
    assert [mask.box() for mask in entities.masks] == [GREEN, RED]
    assert entities.masks[0] == Mask.from_box(GREEN, SIZE, SIZE)


def test_a_limit_keeps_the_largest(image: Image) -> None:
    (entities,) = load_segmenter().propose([image], limit=1)
    assert [mask.box() for mask in entities.masks] == [GREEN]


def test_one_colour_alone_is_one_entity_the_whole_frame() -> None:
    (entities,) = load_segmenter().propose([picture({}, 30, 50)])
    assert [mask.box() for mask in entities.masks] == [Box(0, 0, 50, 30)]


def test_entities_of_large_pictures_are_found_on_a_grid() -> None:
    box = Box(300, 500, 900, 1300)
    (entities,) = load_segmenter().propose([picture({"blue": box}, 1500, 2000)])
    assert len(entities) == 1
    assert box_iou(entities.masks[0].box(), box) > 0.97


@settings(max_examples=25)
@given(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1))
def test_a_point_means_the_area_under_it(x: int, y: int) -> None:
    image = picture({"red": RED, "green": GREEN})
    under = [box for box in (RED, GREEN) if box.contains(x, y)]
    prompt = RegionPrompt(points=(Point(x, y),))
    if under:
        assert load_segmenter().prompt(image, prompt).box() == under[0]
    else:
        with pytest.raises(InvalidRegion, match=rf"nothing lies at point \({x}, {y}\)"):
            load_segmenter().prompt(image, prompt)


def test_points_that_no_one_area_can_satisfy_are_refused(image: Image) -> None:
    on_red, on_green = Point(30, 40), Point(120, 100)
    with pytest.raises(InvalidRegion, match=r"holds point \(120, 100\)"):
        load_segmenter().prompt(image, RegionPrompt(points=(on_red, on_green)))
    with pytest.raises(InvalidRegion, match="is negative"):
        load_segmenter().prompt(image, RegionPrompt(points=(on_red, Point(31, 41, positive=False))))


def test_outlines_mean_themselves(image: Image) -> None:
    segmenter = load_segmenter()
    mask = Mask.from_box(Box(3, 4, 50, 60), SIZE, SIZE)
    assert segmenter.prompt(image, RegionPrompt(box=Box(3, 4, 50, 60))) == mask
    assert segmenter.prompt(image, RegionPrompt(mask=mask)) == mask


def test_words_find_their_colours(image: Image) -> None:
    embedder = load_embedder()
    (vectors,) = embedder.embed_images([image], load_segmenter().propose([image]))
    similarities = embedder.embed_texts(["a red square", "Green!", "a dog"]) @ vectors.entities.T
    assert np.allclose(similarities, [[0, 1], [1, 0], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_is_found_by_its_name(colour: str) -> None:
    image = Image(np.full((20, 20, 3), COLOURS[colour], dtype=np.uint8))
    embedder = load_embedder()
    (vectors,) = embedder.embed_images([image], [Entities.whole_frame(20, 20)])
    assert vectors.image @ embedder.embed_texts([f"something {colour}"])[0] == pytest.approx(1)


def test_regions_and_instructions_both_count(image: Image) -> None:
    embedder = load_embedder()
    red = Mask.from_box(RED, SIZE, SIZE)
    vectors = embedder.embed_query(EncodableQuery(image=image, mask=red, text="with green"))
    expected = embedder.embed_texts(["red and green"])[0]
    assert vectors.entity_arm @ expected == pytest.approx(1)
    assert vectors.region is not None
    assert vectors.region @ embedder.embed_texts(["red"])[0] == pytest.approx(1)
    assert vectors.entity_arm.shape == (DIMENSION,)


def test_what_cannot_be_embedded_is_refused(image: Image) -> None:
    embedder = load_embedder()
    with pytest.raises(InvalidRequest, match="empty"):
        embedder.embed_query(EncodableQuery(text="  "))
    with pytest.raises(InvalidRequest, match="an image, a text, or both"):
        embedder.embed_query(EncodableQuery())
    with pytest.raises(NotAccepted, match="masks, not as points"):
        embedder.embed_query(EncodableQuery(image=image, prompt=RegionPrompt(box=RED)))
    with pytest.raises(NotAccepted, match="needs the image"):
        embedder.embed_query(EncodableQuery(text="red", mask=Mask.full(2, 2)))
    with pytest.raises(InvalidRequest, match="from 1 to 1024 can be"):
        load_segmenter().propose([image], limit=0)


def test_a_refined_box_means_the_area_within_it_and_itself_where_there_is_none(image: Image) -> None:
    segmenter = load_segmenter()
    for box, meant in (
        (Box(10, 20, 90, 80), RED),
        (Box(15, 40, 90, 80), RED),
        (Box(0, 0, SIZE, SIZE), GREEN),
        (Box(90, 0, 105, 80), Box(90, 0, 105, 80)),
        (Box(60, 50, 90, 80), Box(60, 50, 90, 80)),
    ):
        region = RegionPrompt(box=box)
        assert segmenter.prompt(image, region, refine=True).box() == meant
        assert segmenter.prompt(image, region).box() == box
    mask = Mask.from_box(Box(10, 20, 90, 80), SIZE, SIZE)
    assert segmenter.prompt(image, RegionPrompt(mask=mask), refine=True) == mask
