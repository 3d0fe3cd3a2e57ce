"""The yardstick for segmenters."""

from __future__ import annotations

import numpy as np

from regionsearch.evaluation.felzenszwalb import shrunk, three_scale_segments
from regionsearch.images import Image


def checkered() -> Image:
    """400 × 600 pixels: four flat quarters of strong colours, with a little seeded noise."""
    pixels = np.zeros((400, 600, 3), dtype=np.float64)
    pixels[:200, :300] = (220, 30, 30)
    pixels[:200, 300:] = (30, 200, 40)
    pixels[200:, :300] = (40, 40, 220)
    pixels[200:, 300:] = (240, 240, 60)
    noisy = pixels + np.random.default_rng(0).normal(0, 4, pixels.shape)
    return Image(noisy.clip(0, 255).astype(np.uint8))


def test_segments_of_each_scale_cover_every_pixel_once_and_boxes_are_tight() -> None:
    segments = three_scale_segments(checkered())
    assert (np.sum(segments.masks, axis=0) == 3).all()
    for mask, (x0, y0, x1, y1) in zip(segments.masks, segments.boxes, strict=True):
        rows, columns = np.nonzero(mask)
        assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_flat_quarters_are_segments_at_every_scale() -> None:
    segments = three_scale_segments(checkered())
    height, width = segments.masks[0].shape
    quarters = [
        box
        for box, mask in zip(segments.boxes, segments.masks, strict=True)
        if abs(mask.sum() / (height * width) - 0.25) < 0.02
    ]
    assert len(quarters) == 12


def test_photos_are_shrunk_to_256_pixels_and_never_enlarged() -> None:
    assert shrunk(checkered()).shape == (171, 256, 3)
    small = Image(np.zeros((30, 40, 3), dtype=np.uint8))
    assert shrunk(small).shape == (30, 40, 3)
