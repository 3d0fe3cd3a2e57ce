"""Pictures that a benchmark names: there, missing, damaged, cut to a box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.errors import InvalidImage, InvalidRequest
from regionsearch.evaluation.published.benchmark_inputs import BenchmarkInput
from regionsearch.evaluation.published.image_files import ImageFiles, box_within
from regionsearch.regions import Box, RegionPrompt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    PIL.Image.effect_noise((64, 64), 90).save(tmp_path / "noise.jpg")
    whole = (tmp_path / "noise.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    (tmp_path / "text.png").write_text("no picture")
    return tmp_path


def test_missing_pictures_are_counted_and_named(folder: Path) -> None:
    paths = ["a.png", *(f"{n}.png" for n in range(7)), "text.png"]
    with pytest.raises(InvalidRequest, match=r"8 of 9 pictures.*--skip-missing.*0\.png.*4\.png.*and 3 more"):
        ImageFiles(folder).scan(paths)


def test_missing_pictures_are_passed_over_when_asked(folder: Path) -> None:
    files = ImageFiles(folder, skip=True)
    files.scan(["a.png", "0.png", "text.png"])
    assert set(files.unreadable) == {"0.png", "text.png"}
    assert files.size("a.png") == (6, 8)


def test_a_damaged_picture_is_found_when_it_is_decoded(folder: Path) -> None:
    strict, lenient = ImageFiles(folder), ImageFiles(folder, skip=True)
    for files in (strict, lenient):
        files.scan(["cut.jpg"])  # its header is whole
    with pytest.raises(InvalidImage, match=r"cut\.jpg"):
        strict.model_input(BenchmarkInput(image="cut.jpg"))
    assert lenient.model_input(BenchmarkInput(image="cut.jpg")) is None
    assert "cut.jpg" in lenient.unreadable


def test_a_folder_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="there is no folder"):
        ImageFiles(folder / "nowhere")


def test_a_box_is_a_region_of_the_picture_or_the_picture_itself(folder: Path) -> None:
    files = ImageFiles(folder)
    files.scan(["a.png"])
    given = files.model_input(BenchmarkInput("words", "a.png", (1.5, 2, 4, 99)))
    assert given is not None
    assert given.image is not None
    assert (given.text, given.region) == ("words", RegionPrompt(box=Box(1.5, 2, 4, 6)))
    assert given.image.pixels.shape == (6, 8, 3)
    crop = files.model_input(BenchmarkInput("words", "a.png", (1.5, 2, 4, 99), crop=True))
    assert crop is not None
    assert crop.image is not None
    assert crop.region is None
    np.testing.assert_array_equal(crop.image.pixels, given.image.pixels[2:6, 1:4])


@given(st.lists(st.floats(-20, 40), min_size=4, max_size=4))
def test_every_box_keeps_a_pixel_within_the_picture(numbers: list[float]) -> None:
    x0, y0, x1, y1 = numbers
    box = box_within((x0, y0, x1, y1), 6, 8)
    assert box.clip(6, 8) == box
    assert box.x1 - box.x0 >= 1
    assert box.y1 - box.y0 >= 1
    if 0 <= x0 <= x1 - 1 and x1 <= 8:
        assert (box.x0, box.x1) == (x0, x1)


def test_the_same_words_on_other_pixels_or_another_box_are_another_input() -> None:
    keys = {
        BenchmarkInput("a", "x").key("1"),
        BenchmarkInput("b", "x").key("1"),
        BenchmarkInput(None, "x").key("1"),
        BenchmarkInput("a", "x").key("2"),
        BenchmarkInput("a").key(None),
        BenchmarkInput("a", "x", (1, 2, 3, 4)).key("1"),
        BenchmarkInput("a", "x", (1, 2, 3, 5)).key("1"),
        BenchmarkInput("a", "x", (1, 2, 3, 4), crop=True).key("1"),
    }
    assert len(keys) == 8
    # Where the picture lies is no part of what the model sees.
    assert BenchmarkInput("a", "y").key("1") == BenchmarkInput("a", "x").key("1")
