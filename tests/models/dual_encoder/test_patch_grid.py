"""What of each patch a mask covers, against counting pixels."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from regionsearch.models.dual_encoder.patch_grid import PatchGrid
from regionsearch.regions import Box, Mask

FINE = 12
"""Each pixel is split so that the borders of the grids below fall between its parts."""


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    full=st.floats(0, 1),
)
def test_shares_are_those_of_counted_parts_of_pixels(
    seed: int, rows: int, columns: int, height: int, width: int, full: float
) -> None:
    pixels = np.random.default_rng(seed).random((height, width)) < full
    if not pixels.any():
        pixels[0, 0] = True
    fine = pixels.repeat(FINE, axis=0).repeat(FINE, axis=1)
    cells = fine.reshape(rows, height * FINE // rows, columns, width * FINE // columns)
    expected = cells.mean(axis=(1, 3)).ravel()
    grid = PatchGrid.over(height, width, side=(8 * rows, 8 * columns), patch=8)
    found = grid.shares([Mask.from_array(pixels)])[0]
    assert np.abs(found - expected).max() < 1e-6
    assert found.max() > 0


def test_the_whole_frame_covers_every_patch_exactly() -> None:
    for height, width, side, patch in ((427, 640, 224, 14), (333, 77, 384, 14), (1, 1, 224, 32)):
        grid = PatchGrid.over(height, width, side=(side, side), patch=patch)
        assert (grid.shares([Mask.full(height, width)]) == 1).all()


def test_a_region_smaller_than_a_patch_is_in_the_patch_that_holds_it() -> None:
    grid = PatchGrid.over(480, 640, side=(224, 224), patch=32)
    shares = grid.shares([Mask.from_box(Box(639, 479, 640, 480), 480, 640)])[0]
    assert np.flatnonzero(shares).tolist() == [48]
    assert shares[48] > 0


def test_a_region_beyond_the_last_patch_gets_the_nearest() -> None:
    # 384 pixels hold 27 patches of 14; the last 6 columns and rows are seen by none.
    grid = PatchGrid.over(3840, 3840, side=(384, 384), patch=14)
    assert grid.patches == 27 * 27
    for box, nearest in (
        (Box(3800, 3800, 3830, 3830), 27 * 27 - 1),
        (Box(3800, 0, 3830, 20), 26),
        (Box(0, 3790, 130, 3840), 26 * 27),
    ):
        shares = grid.shares([Mask.from_box(box, 3840, 3840)])[0]
        assert np.flatnonzero(shares).tolist() == [nearest]


def test_a_mask_without_pixels_counts_as_the_whole_frame() -> None:
    grid = PatchGrid.over(10, 10, side=(16, 16), patch=8)
    assert (grid.shares([Mask.from_array(np.zeros((10, 10), dtype=np.bool_))]) == 1).all()
