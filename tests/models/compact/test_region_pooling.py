"""Regions lie on feature maps where their pixels lie."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.models.compact.region_pooling import pooling_weights
from regionsearch.regions import Mask

sides = st.integers(1, 40)
cells = st.integers(1, 9)


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
