"""The yardstick for segmenters: Felzenszwalb and Huttenlocher 2004, as scikit-image has it.

Used for comparison only, at fixed settings, so that figures and times can be held against it anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from regionsearch.images import Image

LONGEST_SIDE = 256
SCALES = (100, 300, 800)
SIGMA = 0.8
MIN_SIZE = 80


@dataclass(frozen=True, eq=False)
class Segments:
    """masks: n of (height, width) bool at working size. boxes: (n, 4) float64, pixels of that size."""

    masks: list[NDArray[np.bool_]]
    boxes: NDArray[np.float64]


def partition(
    pixels: NDArray[np.uint8], scale: float, min_size: int, sigma: float = SIGMA
) -> NDArray[np.int64]:
    """(height, width) int64 labels from 0 of one segmentation of (height, width, 3) uint8 pixels."""
    from skimage.segmentation import felzenszwalb

    labels: NDArray[np.int64] = felzenszwalb(pixels, scale=scale, sigma=sigma, min_size=min_size)
    return labels


def three_scale_segments(image: Image) -> Segments:
    """The segments of three scales over the image at 256 px on its longest side, as masks and boxes."""
    from scipy.ndimage import find_objects

    small = shrunk(image)
    masks: list[NDArray[np.bool_]] = []
    boxes: list[tuple[int, int, int, int]] = []
    for scale in SCALES:
        labels = partition(small, scale, MIN_SIZE)
        for number, found in enumerate(find_objects(labels + 1)):
            rows, columns = found
            masks.append(labels == number)
            boxes.append((columns.start, rows.start, columns.stop, rows.stop))
    return Segments(masks, np.array(boxes, dtype=np.float64))


def shrunk(image: Image) -> NDArray[np.uint8]:
    """The pixels at 256 px on the longest side; smaller images stay as they are."""
    factor = LONGEST_SIDE / max(image.height, image.width)
    if factor >= 1:
        return image.pixels
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    resized = PIL.Image.fromarray(image.pixels).resize(size, PIL.Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8)
