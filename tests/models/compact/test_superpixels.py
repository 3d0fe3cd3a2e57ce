"""Superpixels and what is measured on each of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from regionsearch.images import Image
from regionsearch.models.compact import superpixels as module
from regionsearch.models.compact.superpixels import LEVELS, Superpixels, cut_superpixels

CHANNELS = dict(zip(LEVELS, (24, 40, 80, 112, 192, 320), strict=True))
STRIDES = dict(zip(LEVELS, (4, 8, 16, 16, 32, 32), strict=True))


def levels_for(height: int, width: int, seed: int = 0) -> dict[int, NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    return {
        block: random.normal(size=(CHANNELS[block], height // stride, width // stride)).astype(np.float32)
        for block, stride in STRIDES.items()
    }


def patchwork(height: int = 120, width: int = 160, seed: int = 0) -> Image:
    random = np.random.default_rng(seed)
    tiles = random.integers(0, 255, (height // 20, width // 20, 3))
    pixels = tiles.repeat(20, axis=0).repeat(20, axis=1) + random.integers(-6, 6, (height, width, 1))
    return Image(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def cut() -> Superpixels:
    return cut_superpixels(patchwork(), levels_for(256, 320))


def test_every_pixel_lies_in_one_superpixel_and_each_has_its_size_and_box(cut: Superpixels) -> None:
    assert cut.labels.shape == (120, 160)
    for label in range(len(cut)):
        rows, columns = np.nonzero(cut.labels == label)
        assert len(rows) == cut.sizes[label] > 0
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert tuple(cut.boxes[label]) == expected
    assert cut.sizes.sum() == 120 * 160


def test_the_shared_boundary_counts_the_pixel_edges_between_two_superpixels(cut: Superpixels) -> None:
    expected = np.zeros((len(cut), len(cut)))
    for y in range(cut.height):
        for x in range(cut.width):
            for other_y, other_x in ((y + 1, x), (y, x + 1)):
                if other_y < cut.height and other_x < cut.width:
                    one, other = cut.labels[y, x], cut.labels[other_y, other_x]
                    if one != other:
                        expected[one, other] += 1
                        expected[other, one] += 1
    np.testing.assert_array_equal(cut.shared, expected)


@pytest.mark.parametrize("dense_average", [0, 10**9])
def test_pooled_features_are_the_mean_of_the_upsampled_map(
    dense_average: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DENSE_AVERAGE", dense_average)
    levels = levels_for(96, 128, seed=3)
    cut = cut_superpixels(patchwork(), levels)
    for block in (2, 7, 15):
        channels, rows, columns = levels[block].shape
        y = np.clip((np.arange(cut.height) + 0.5) * rows / cut.height - 0.5, 0, rows - 1)
        x = np.clip((np.arange(cut.width) + 0.5) * columns / cut.width - 0.5, 0, columns - 1)
        for channel in (0, channels - 1):
            by_row = np.stack(
                [np.interp(x, np.arange(columns), row) for row in levels[block][channel]], axis=0
            )
            upsampled = np.stack([np.interp(y, np.arange(rows), line) for line in by_row.T], axis=1)
            for label in (0, len(cut) // 2, len(cut) - 1):
                expected = upsampled[cut.labels == label].mean()
                assert cut.groups[f"level{block}"][label, channel] == pytest.approx(expected, abs=1e-4)


def test_histograms_of_a_superpixel_sum_to_one_a_channel(cut: Superpixels) -> None:
    np.testing.assert_allclose(cut.groups["colour"].sum(axis=1), 3.0, rtol=1e-5)
    np.testing.assert_allclose(cut.groups["texture"].sum(axis=1), 1.0, rtol=1e-5)
