"""Images from files on disk and from arrays, and what is written of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from regionsearch.errors import InvalidImage
from regionsearch.images import (
    Image,
    content_hash,
    decode_image,
    encode_png,
    image_from_array,
    image_size,
    load_image,
    read_image_file,
    thumbnail_jpeg,
)

HEIGHT, WIDTH = 30, 40


def photo() -> NDArray[np.uint8]:
    """A smooth picture whose four quarters differ, (30, 40, 3)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack((x * 6, y * 8, 255 - x * 3 - y * 3), axis=2).astype(np.uint8)


def test_a_file_is_loaded_and_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "häuser.png"
    data = encode_png(Image(photo()))
    path.write_bytes(data)
    assert (load_image(path).pixels == photo()).all()
    assert read_image_file(path) == data
    with pytest.raises(InvalidImage, match=r"häuser\.png' has \d+ bytes; the limit is 10 \("):
        load_image(path, max_bytes=10)
    with pytest.raises(InvalidImage, match=r"häuser\.png' has 0.0012 megapixels"):
        load_image(path, max_megapixels=0.001)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidImage, match=r"gone\.png' is no file"):
        load_image(tmp_path / "gone.png")
    with pytest.raises(InvalidImage, match="is not a regular file"):
        load_image(tmp_path)
    with pytest.raises(InvalidImage, match="'/dev/zero' is not a regular file"):
        load_image(Path("/dev/zero"))
    looped = tmp_path / "loop.png"
    looped.symlink_to(looped)
    with pytest.raises(InvalidImage, match=r"loop\.png'"):
        load_image(looped)


def test_arrays_of_every_accepted_kind_become_the_same_picture() -> None:
    pixels = photo()
    assert (image_from_array(pixels).pixels == pixels).all()
    assert (image_from_array(pixels.astype(np.uint16) * 257).pixels == pixels).all()
    for dtype in (np.float16, np.float32, np.float64):
        assert (image_from_array((pixels / 255).astype(dtype)).pixels == pixels).all()
    assert (image_from_array(np.asfortranarray(pixels)).pixels == pixels).all()
    solid = np.concatenate((pixels, np.full((HEIGHT, WIDTH, 1), 255, np.uint8)), axis=2)
    assert (image_from_array(solid).pixels == pixels).all()
    gray = pixels[:, :, :1]
    assert (image_from_array(gray).pixels == gray).all()
    assert (image_from_array(gray[:, :, 0]).pixels == gray).all()
    clear = solid.copy()
    clear[:, :, 3] = 0
    assert (image_from_array(clear).pixels == 255).all()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"is uint8 of shape \(4, 4, 2\)"),
        (np.zeros((4,), np.uint8), r"is uint8 of shape \(4,\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"is uint8 of shape \(1, 4, 4, 3\)"),
        (np.zeros((4, 0, 3), np.uint8), "has no pixels: 0 × 4"),
        (np.zeros((4, 4, 3), np.int64), "int64 .* uint8, uint16 or floats"),
        (np.zeros((4, 4), np.bool_), "bool .* uint8, uint16 or floats"),
        (np.full((4, 4), 255.0), "floats outside 0 to 1: 255.0 to 255.0"),
        (np.full((4, 4), -0.1), "floats outside 0 to 1"),
        (np.array([[0.5, np.nan]]), "floats outside 0 to 1"),
        (np.array([[0.5, np.inf]]), "floats outside 0 to 1"),
    ],
)
def test_other_arrays_are_refused_with_the_reason(array: NDArray[Any], reason: str) -> None:
    with pytest.raises(InvalidImage, match=f"image 'mine' .*{reason}|image 'mine' {reason}"):
        image_from_array(array, "mine")


def test_an_image_is_read_only_and_does_not_follow_its_array() -> None:
    array = photo()
    image = image_from_array(array)
    array[:] = 0
    assert (image.pixels == photo()).all()
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0, 0] = 1
    Image(array)
    array[0, 0, 0] = 1  # the caller's own array stays writable


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_an_image_of_another_shape_or_dtype_is_refused(pixels: NDArray[Any]) -> None:
    with pytest.raises(InvalidImage, match=r"uint8 of \(height, width, 3\) is needed"):
        Image(pixels)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(600, 900, (213, 320)), (900, 600, (320, 213)), (320, 320, (320, 320)), (100, 50, (100, 50))],
)
def test_a_thumbnail_keeps_the_proportions_and_is_never_enlarged(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack((x * 255 // width, y * 255 // height, np.full_like(x, 90)), axis=2).astype(np.uint8)
    data = thumbnail_jpeg(Image(pixels))
    assert data.startswith(b"\xff\xd8\xff")
    assert image_size(data) == expected
    thumbnail = decode_image(data)
    rows = (np.arange(expected[0]) + 0.5) * height / expected[0]
    columns = (np.arange(expected[1]) + 0.5) * width / expected[1]
    sampled = pixels[rows.astype(int)][:, columns.astype(int)]
    assert np.abs(thumbnail.pixels.astype(int) - sampled).mean() < 4


def test_png_carries_every_pixel() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (31, 17, 3), dtype=np.uint8)
    assert (decode_image(encode_png(Image(noise))).pixels == noise).all()


@given(st.binary(max_size=200))
def test_equal_bytes_have_equal_hashes(data: bytes) -> None:
    assert content_hash(data) == hashlib.sha256(bytes(bytearray(data))).hexdigest()
