"""What VIRTUE is told of a region: in words, and in SAM's frame."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from regionsearch.errors import NotAccepted
from regionsearch.models.virtue import templates
from regionsearch.models.virtue.preprocessing import token_count
from regionsearch.models.virtue.prompts import sam_prompt
from regionsearch.regions import Box, Mask, Point, Polygon, RegionPrompt

SENTENCE = (
    "Find the caption that best describes the segmented object, considering both local details and global "
    "context in the given image."
)
BOX = RegionPrompt(box=Box(10, 20.5, 40, 60.75))


def test_an_entity_is_worded_as_in_scar_training() -> None:
    words = templates.entity_words(Box(10, 20.5, 40, 60.75))
    assert words == f"<|image_pad|>\n{SENTENCE}\nReferring object bbox: [10, 20.5, 40, 60.75]"


def test_an_instruction_takes_the_place_of_scars_own() -> None:
    words = templates.query_region_words(BOX, "The same {thing} at night")
    assert words == "<|image_pad|>\nThe same {thing} at night\nReferring object bbox: [10, 20.5, 40, 60.75]"


def test_a_point_is_worded_in_whole_pixels_as_in_the_example() -> None:
    region = RegionPrompt(points=(Point(200.9, 299.5),))
    assert templates.region_words(region) == "Referring object point: (200, 299)"


def test_a_mask_and_a_polygon_are_worded_as_their_boxes() -> None:
    mask = Mask.from_box(Box(3, 4, 9, 12), 30, 40)
    polygon = Polygon((((3, 4), (9, 4), (9, 12)),))
    for region in (RegionPrompt(mask=mask), RegionPrompt(polygon=polygon)):
        assert templates.region_words(region) == "Referring object bbox: [3, 4, 9, 12]"


def test_pictures_and_words_alone_are_worded_as_in_the_demo() -> None:
    assert templates.image_words() == "<|image_pad|>\nRepresent the given image.\n"
    assert templates.query_image_words("a cat") == "<|image_pad|>\nRetrieve an image that matches: a cat\n"
    assert templates.query_text_words("a cat") == "a cat"


def test_regions_are_scaled_to_sams_frame_on_each_axis() -> None:
    box = sam_prompt(BOX, 100, 200)
    assert (box.kind, box.coordinates) == (
        "box",
        pytest.approx((10 * 5.12, 20.5 * 10.24, 40 * 5.12, 60.75 * 10.24)),
    )
    point = sam_prompt(RegionPrompt(points=(Point(50, 25),)), 100, 200)
    assert (point.kind, point.coordinates) == ("point", (256.0, 256.0))


def test_boxes_are_left_unscaled_only_where_the_published_tables_did_so() -> None:
    unscaled = sam_prompt(BOX, 100, 200, boxes_unscaled=True)
    assert unscaled.coordinates == (10, 20.5, 40, 60.75)
    point = sam_prompt(RegionPrompt(points=(Point(50, 25),)), 100, 200, boxes_unscaled=True)
    assert point.coordinates == (256.0, 256.0)


def test_a_mask_goes_in_as_its_box_and_itself() -> None:
    mask = Mask.from_box(Box(20, 10, 60, 50), 100, 200)
    prompt = sam_prompt(RegionPrompt(mask=mask), 100, 200)
    assert (prompt.kind, prompt.mask) == ("mask", mask)
    assert prompt.coordinates == pytest.approx((102.4, 102.4, 307.2, 512.0))


@pytest.mark.parametrize(
    "region",
    [
        RegionPrompt(points=(Point(1, 2), Point(3, 4))),
        RegionPrompt(points=(Point(1, 2), Point(3, 4, positive=False))),
        RegionPrompt(points=(Point(1, 2),), box=Box(0, 0, 5, 5)),
        RegionPrompt(points=(Point(1, 2, positive=False),), mask=Mask.full(100, 200)),
    ],
)
def test_a_second_or_negative_point_is_refused_not_dropped(region: RegionPrompt) -> None:
    with pytest.raises(NotAccepted, match=r"one point"):
        sam_prompt(region, 100, 200)


def test_pictures_have_as_many_tokens_as_the_published_processor_gives_them() -> None:
    assert token_count(100, 150) == 20
    assert token_count(130, 90) == 15
    assert token_count(480, 640, square=True) == 1225
    # Tiny pictures become 56 pixels square first.
    assert token_count(10, 500) == token_count(1, 1) == 4


def test_the_strings_are_at_hand_without_torch() -> None:
    code = "import sys, regionsearch.models.virtue.templates; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_numbers_of_a_float32_box_are_short() -> None:
    box = Box(*(float(value) for value in np.array([0.1, 0.2, 10.3, 20.007], dtype=np.float32)))
    assert templates.box_words(box) == "Referring object bbox: [0.1, 0.2, 10.3, 20.01]"
