"""Of a mask, each cell of a grid has the pixels that lie in it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.models.mask_coverage import mask_coverage
from regionsearch.regions import Mask

sides = st.integers(1, 40)
cells = st.integers(1, 9)


@given(sides, sides, cells, cells, st.integers(0, 2**32 - 1))
def test_coverage_is_what_counting_dense_pixels_gives(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    pixels = random.random((height, width)) < random.random()
    # Every pixel cut into rows × columns bits, so that cells are whole numbers of bits.
    bits = np.kron(pixels, np.ones((rows, columns))) / (rows * columns)
    expected = bits.reshape(rows, height, columns, width).sum(axis=(1, 3))
    found = mask_coverage(
        Mask.from_array(pixels), np.linspace(0, height, rows + 1), np.linspace(0, width, columns + 1)
    )
    assert np.allclose(found, expected, atol=1e-9)


@given(sides, sides, st.integers(0, 2**32 - 1))
def test_a_grid_that_ends_before_its_image_or_beyond_it_has_what_lies_in_both(
    height: int, width: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    pixels = random.random((height, width)) < 0.5
    rows = np.unique(random.integers(0, height + 5, 4)).astype(np.float64)
    columns = np.unique(random.integers(0, width + 5, 4)).astype(np.float64)
    found = mask_coverage(Mask.from_array(pixels), rows, columns)
    expected = [
        [pixels[int(top) : int(bottom), int(left) : int(right)].sum() for left, right in pairwise(columns)]
        for top, bottom in pairwise(rows)
    ]
    assert np.allclose(found, np.reshape(expected, found.shape), atol=1e-9)
