"""Masks written run by run are those of the upsampled label map."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_superpixels import levels_for, patchwork

from regionsearch.models.compact.region_masks import RegionMasks
from regionsearch.models.compact.superpixels import Superpixels, cut_superpixels
from regionsearch.regions import Mask


@pytest.fixture(scope="module")
def cut() -> Superpixels:
    return cut_superpixels(patchwork(40, 40), levels_for(256, 256))


sides = st.integers(1, 9)


@settings(deadline=None, max_examples=150)
@given(rows=sides, columns=sides, taller=sides, wider=sides, seed=st.integers(0, 2**32 - 1))
def test_a_mask_is_the_nearest_upsampling_of_its_superpixels(
    cut: Superpixels, rows: int, columns: int, taller: int, wider: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, (rows, columns)).astype(np.int32)
    height, width = rows + taller - 1, columns + wider - 1
    other = dataclasses.replace(cut, labels=labels, image_height=height, image_width=width)
    members = np.zeros(4, dtype=bool)
    members[random.permutation(labels.ravel())[:2]] = True

    found = RegionMasks(other).mask(members)

    assert found == Mask.from_array(members[labels]).resized(height, width)
    x, y = random.integers(0, width), random.integers(0, height)
    on_it = members[RegionMasks(other).superpixel_at(float(x), float(y))]
    assert on_it == found.to_array()[y, x]


def test_shares_of_a_full_mask_are_the_superpixels_sizes(cut: Superpixels) -> None:
    shares = RegionMasks(cut).shares(np.ones((40, 40), dtype=bool))
    np.testing.assert_array_equal(shares, cut.sizes)
