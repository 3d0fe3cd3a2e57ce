"""Pixels for Qwen2-VL are those of the published processor, bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen2VLImageProcessorPil

from regionsearch.models.qwen2_vl.preprocessing import (
    FACTOR,
    MAX_PIXELS,
    MIN_PIXELS,
    prepare,
    smart_resize,
)

sides = st.integers(1, 3000)


@given(sides, sides, st.booleans())
def test_every_size_becomes_whole_tokens_within_the_bounds(height: int, width: int, square: bool) -> None:
    resized = smart_resize(height, width, square_when_extreme=square)
    assert all(side >= FACTOR and side % FACTOR == 0 for side in resized)
    # Enlarged to the least, sides are rounded up; a line much longer than the most stays one token thick.
    assert resized[0] * resized[1] >= MIN_PIXELS
    assert resized[0] * resized[1] <= MAX_PIXELS or min(resized) == FACTOR


@given(st.integers(30, 400), st.integers(30, 400), st.integers(0, 2**32 - 1))
def test_patches_are_those_of_the_published_processor(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    theirs = Qwen2VLImageProcessorPil(min_pixels=MIN_PIXELS, max_pixels=100 * FACTOR * FACTOR)(
        pixels, return_tensors="np"
    )
    ours = prepare(pixels, *smart_resize(height, width, max_pixels=100 * FACTOR * FACTOR))
    assert np.array_equal(ours.patches, theirs["pixel_values"])
    assert ours.grid == tuple(theirs["image_grid_thw"][0])
    assert ours.tokens == len(ours.patches) // 4


def test_a_thin_line_is_squared_by_virtues_rule_and_kept_thin_by_qwens() -> None:
    assert smart_resize(20, 600, square_when_extreme=True) == (588, 588)
    height, width = smart_resize(20, 600)
    assert width > 10 * height
