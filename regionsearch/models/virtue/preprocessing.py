"""Pictures as VIRTUE reads them, once for Qwen2-VL and once for SAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regionsearch.images import Image
from regionsearch.models.qwen2_vl.preprocessing import (
    FACTOR,
    QwenPixels,
    image_tokens,
    prepare,
    resize_bicubic,
    smart_resize,
)
from regionsearch.models.virtue.prompts import FRAME

if TYPE_CHECKING:
    import torch

VERSION = 1
"""Of everything here and in `templates`, `prompts` and `positions`; raised when vectors change."""
PUBLISHED_SIDE = 1344
"""Pixels: the square that pictures were brought to for the published tables, whatever their aspect."""
TINY_SIDE = 2 * FACTOR
"""Pixels: the square that a picture with a side below 28 becomes first."""
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def qwen_pixels(image: Image, *, square: bool = False) -> QwenPixels:
    """The picture at its own aspect or, as for the published tables, squared to 1344 × 1344 first."""
    pixels = image.pixels
    if square:
        pixels = resize_bicubic(pixels, PUBLISHED_SIDE, PUBLISHED_SIDE)
    if min(pixels.shape[:2]) < FACTOR:
        pixels = resize_bicubic(pixels, TINY_SIDE, TINY_SIDE)
    height, width = _resized(pixels.shape[0], pixels.shape[1])
    return prepare(pixels, height, width)


def token_count(height: int, width: int, *, square: bool = False) -> int:
    """Tokens that the language model sees of a picture of height × width pixels."""
    if square:
        height = width = PUBLISHED_SIDE
    if min(height, width) < FACTOR:
        height = width = TINY_SIDE
    return image_tokens(*_resized(height, width))


def sam_pixels(picture: QwenPixels) -> torch.Tensor:
    """(3, 1024, 1024) float32: the picture as Qwen2-VL has it, squashed, normalised a second time.

    The published model normalises pixels for CLIP, and what comes out once more for ImageNet. The
    connector was trained on what SAM makes of that, so this is no mistake to mend here.
    """
    import torch

    resized = torch.nn.functional.interpolate(
        torch.from_numpy(picture.normalised)[None],
        size=(FRAME, FRAME),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )[0]
    mean, deviation = torch.tensor(_IMAGENET_MEAN), torch.tensor(_IMAGENET_DEVIATION)
    normalised: torch.Tensor = (resized - mean[:, None, None]) / deviation[:, None, None]
    return normalised


def _resized(height: int, width: int) -> tuple[int, int]:
    return smart_resize(height, width, square_when_extreme=True)
