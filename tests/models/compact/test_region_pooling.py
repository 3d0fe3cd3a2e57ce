"""Regions lie on feature maps where their pixels lie."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.models.compact.region_pooling import mask_coverage, pooling_weights
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
    found = mask_coverage(Mask.from_array(pixels), rows, columns)
    assert np.allclose(found, expected, atol=1e-9)


@given(sides, sides, cells, cells)
def test_weights_of_any_region_add_up_to_one(height: int, width: int, rows: int, columns: int) -> None:
    empty = np.zeros((height, width), dtype=np.bool_)
    corner = empty.copy()
    corner[-1, -1] = True
    masks = [Mask.full(height, width), Mask.from_array(corner), Mask.from_array(empty)]
    weights = pooling_weights(masks, rows, columns)
    assert weights.shape == (3, rows * columns)
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(weights[0], 1 / (rows * columns), atol=1e-6)


def test_a_small_region_counts_only_the_cells_that_it_touches() -> None:
    pixels = np.zeros((64, 96), dtype=np.bool_)
    pixels[40:44, 70:74] = True
    weights = pooling_weights([Mask.from_array(pixels)], 2, 3).reshape(2, 3)
    assert np.allclose(weights, [[0, 0, 0], [0, 0, 1]])
