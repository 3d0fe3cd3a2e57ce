"""Pictures as ABC reads them: resized twice, as the official code does, then as any Qwen2-VL does.

First to whole tokens within the wide bounds of Qwen's own loader, then within ABC's narrower ones. The
second resampling sees the result of the first, so leaving it out changes pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from regionsearch.images import Image
from regionsearch.models.qwen2_vl.preprocessing import (
    FACTOR,
    LARGEST_ASPECT,
    QwenPixels,
    image_tokens,
    prepare,
    resize_bicubic,
    smart_resize,
)

LOADER_TOKENS = (4, 16_384)
"""Least and most tokens after the first resizing."""
MIN_TOKENS = 256
MAX_TOKENS = 1024
"""Of ABC at inference (it was trained with at most 512)."""
TOKEN_PIXELS = FACTOR * FACTOR


@dataclass(frozen=True, slots=True)
class PicturePlan:
    """How a picture will be resized: (height, width) in pixels, first and second."""

    first: tuple[int, int]
    second: tuple[int, int]

    @property
    def tokens(self) -> int:
        return image_tokens(*self.second)


@dataclass(frozen=True, slots=True)
class PixelBounds:
    """Least and most tokens of a picture, 28 × 28 pixels each."""

    min_tokens: int = MIN_TOKENS
    max_tokens: int = MAX_TOKENS

    def plan(self, height: int, width: int) -> PicturePlan:
        """For a picture of height × width pixels. Aspects above 200, which the official code refuses,
        are brought to 200."""
        first = _first_size(height, width)
        second = smart_resize(
            *first, min_pixels=self.min_tokens * TOKEN_PIXELS, max_pixels=self.max_tokens * TOKEN_PIXELS
        )
        return PicturePlan(first, second)


def read_picture(image: Image, plan: PicturePlan) -> QwenPixels:
    """The picture, ready for the vision tower."""
    return prepare(resize_bicubic(image.pixels, *plan.first), *plan.second)


def _first_size(height: int, width: int) -> tuple[int, int]:
    least, most = (tokens * TOKEN_PIXELS for tokens in LOADER_TOKENS)
    if max(height, width) <= LARGEST_ASPECT * min(height, width):
        # Here, unlike in the processor, a side under half a token is one token before the bounds are held.
        rounded = (
            max(FACTOR, round(height / FACTOR) * FACTOR),
            max(FACTOR, round(width / FACTOR) * FACTOR),
        )
        if least <= rounded[0] * rounded[1] <= most:
            return rounded
    return smart_resize(height, width, min_pixels=least, max_pixels=most)
