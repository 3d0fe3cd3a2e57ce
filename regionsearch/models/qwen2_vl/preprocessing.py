"""Pictures as Qwen2-VL reads them: resized to whole merged patches, normalised as for CLIP, cut up.

Follows the image processor that Qwen2-VL was published with (transformers' `Qwen2VLImageProcessorPil`),
bit for bit, and keeps the normalised picture beside its patches for models that look at both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

PATCH = 14
"""Pixels along the side of a patch of the vision tower."""
MERGE = 2
"""Patches along the side of the square that becomes one token of the language model."""
FRAMES = 2
"""Times that a still picture is repeated along the tower's time axis."""
FACTOR = PATCH * MERGE
MIN_PIXELS = 4 * FACTOR * FACTOR
MAX_PIXELS = 1280 * FACTOR * FACTOR
LARGEST_ASPECT = 200
"""Longer side over shorter side that Qwen's own rule accepts."""
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, eq=False)
class QwenPixels:
    """One picture, ready for the vision tower.

    patches: (rows × columns, 1176) float32, squares of 2 × 2 patches one after the other.
    normalised: (3, 14 × rows, 14 × columns) float32: the resized picture that they were cut from.
    rows, columns: patches, both even.
    """

    patches: NDArray[np.float32]
    normalised: NDArray[np.float32]
    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        """What the language model will see of it."""
        return self.rows * self.columns // (MERGE * MERGE)

    @property
    def grid(self) -> tuple[int, int, int]:
        """(1, rows, columns): `image_grid_thw` in the model's own words."""
        return (1, self.rows, self.columns)


def smart_resize(
    height: int,
    width: int,
    *,
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = MAX_PIXELS,
    square_when_extreme: bool = False,
) -> tuple[int, int]:
    """(height, width) in pixels, both multiples of 28, close to the aspect and within the two bounds.

    square_when_extreme: VIRTUE's own rule, after which a picture with a side below 28 or an aspect above
    200 becomes a square of its longer side. Qwen's rule keeps such aspects; pictures above 200 do not
    exist for it, and are brought to 200 here rather than refused.
    """
    if square_when_extreme and (min(height, width) < FACTOR or _aspect(height, width) > LARGEST_ASPECT):
        height = width = max(FACTOR, height, width)
    elif _aspect(height, width) > LARGEST_ASPECT:
        height = max(height, math.ceil(width / LARGEST_ASPECT))
        width = max(width, math.ceil(height / LARGEST_ASPECT))
    resized_height = round(height / FACTOR) * FACTOR
    resized_width = round(width / FACTOR) * FACTOR
    if resized_height * resized_width > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        resized_height = max(FACTOR, math.floor(height / shrink / FACTOR) * FACTOR)
        resized_width = max(FACTOR, math.floor(width / shrink / FACTOR) * FACTOR)
    elif resized_height * resized_width < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        resized_height = math.ceil(height * grow / FACTOR) * FACTOR
        resized_width = math.ceil(width * grow / FACTOR) * FACTOR
    return resized_height, resized_width


def image_tokens(height: int, width: int) -> int:
    """Tokens of a picture that is already resized to height × width pixels."""
    return height * width // (FACTOR * FACTOR)


def prepare(pixels: NDArray[np.uint8], height: int, width: int) -> QwenPixels:
    """(h, w, 3) uint8 RGB, resized to height × width pixels (multiples of 28) by Pillow's bicubic filter,
    brought to CLIP's mean and deviation, and cut up."""
    resized = resize_bicubic(pixels, height, width)
    # In this order and in these precisions, so that every bit is that of the published processor.
    scaled = (resized.transpose(2, 0, 1).astype(np.float64) * (1 / 255)).astype(np.float32)
    mean = np.array(CLIP_MEAN, dtype=np.float32)[:, None, None]
    deviation = np.array(CLIP_DEVIATION, dtype=np.float32)[:, None, None]
    normalised = (scaled - mean) / deviation
    return QwenPixels(patches_of(normalised), normalised, height // PATCH, width // PATCH)


def resize_bicubic(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(h, w, 3) → (height, width, 3) uint8."""
    picture = Pillow.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((width, height), Pillow.Resampling.BICUBIC))


def patches_of(normalised: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3, h, w), sides multiples of 28 → (h × w / 196, 1176): channel, frame, row, column within a patch."""
    channels, height, width = normalised.shape
    rows, columns = height // PATCH, width // PATCH
    cut = normalised.reshape(channels, rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH)
    # (row of squares, column of squares, row in square, column in square, channel, pixel row, pixel column)
    ordered = cut.transpose(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
    repeated = np.broadcast_to(ordered, (*ordered.shape[:5], FRAMES, PATCH, PATCH))
    return repeated.reshape(rows * columns, channels * FRAMES * PATCH * PATCH)


def _aspect(height: int, width: int) -> float:
    return max(height, width) / min(height, width)
