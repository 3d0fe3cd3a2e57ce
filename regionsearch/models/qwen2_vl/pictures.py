"""How embedders on Qwen2-VL that know no regions size their pictures, or the crops that regions become."""

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
"""Least and most tokens after the resizing by Qwen's own loader."""
TOKEN_PIXELS = FACTOR * FACTOR
_TINY = (2 * FACTOR, 2 * FACTOR)


@dataclass(frozen=True, slots=True)
class PicturePlan:
    """How a picture will be resized: (height, width) in pixels; `first` only where there is such a step."""

    first: tuple[int, int] | None
    second: tuple[int, int]

    @property
    def tokens(self) -> int:
        return image_tokens(*self.second)

    def read(self, image: Image) -> QwenPixels:
        """The picture, ready for the vision tower."""
        pixels = image.pixels if self.first is None else resize_bicubic(image.pixels, *self.first)
        return prepare(pixels, *self.second)


@dataclass(frozen=True, slots=True)
class PixelBounds:
    """Least and most tokens of a picture, 28 × 28 pixels each.

    twice: as ABC and GME do, first by the rule of Qwen's own loader within LOADER_TOKENS, then within
    these bounds; the second resampling sees the result of the first, so leaving it out changes pixels.
    Otherwise once, by the rule of VLM2Vec (and VIRTUE), which makes squares of very thin pictures.
    """

    min_tokens: int
    max_tokens: int
    twice: bool = True

    def plan(self, height: int, width: int) -> PicturePlan:
        """For a picture of height × width pixels."""
        if self.twice:
            first = _loader_size(height, width)
            return PicturePlan(first, self._within(*first))
        if min(height, width) < FACTOR:
            return PicturePlan(_TINY, self._within(*_TINY))
        return PicturePlan(None, self._within(height, width))

    def _within(self, height: int, width: int) -> tuple[int, int]:
        return smart_resize(
            height,
            width,
            min_pixels=self.min_tokens * TOKEN_PIXELS,
            max_pixels=self.max_tokens * TOKEN_PIXELS,
            square_when_extreme=not self.twice,
        )


def _loader_size(height: int, width: int) -> tuple[int, int]:
    """Aspects above 200, which the loader refuses, are brought to 200."""
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
