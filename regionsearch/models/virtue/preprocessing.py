"""Pictures as VIRTUE reads them, once for Qwen2-VL and once for SAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regionsearch.images import Image
from regionsearch.models.qwen2_vl.pictures import PixelBounds
from regionsearch.models.qwen2_vl.preprocessing import QwenPixels, resize_bicubic
from regionsearch.models.virtue.prompts import FRAME

if TYPE_CHECKING:
    import torch

VERSION = 1
"""Of everything here and in `templates`, `prompts` and `positions`; raised when vectors change."""
PUBLISHED_SIDE = 1344
"""Pixels: the square that pictures were brought to for the published tables, whatever their aspect."""
_BOUNDS = PixelBounds(4, 1280, twice=False)
"""Of the published program."""


def qwen_pixels(image: Image, *, square: bool = False) -> QwenPixels:
    """The picture at its own aspect or, as for the published tables, squared to 1344 × 1344 first."""
    if square:
        image = Image(resize_bicubic(image.pixels, PUBLISHED_SIDE, PUBLISHED_SIDE))
    return _BOUNDS.plan(image.height, image.width).read(image)


def token_count(height: int, width: int, *, square: bool = False) -> int:
    """Tokens that the language model sees of a picture of height × width pixels."""
    if square:
        height = width = PUBLISHED_SIDE
    return _BOUNDS.plan(height, width).tokens


def sam_pixels(picture: QwenPixels) -> torch.Tensor:
    """(3, 1024, 1024) float32: the picture as Qwen2-VL has it, squashed, normalised a second time.

    The published model normalises pixels for CLIP, and what comes out once more for ImageNet. The
    connector was trained on what SAM makes of that, so this is no mistake to mend here.
    """
    import torch

    from regionsearch.models.sam2.pixels import IMAGENET_DEVIATION, IMAGENET_MEAN

    resized = torch.nn.functional.interpolate(
        torch.from_numpy(picture.normalised)[None],
        size=(FRAME, FRAME),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )[0]
    mean, deviation = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_DEVIATION)
    normalised: torch.Tensor = (resized - mean[:, None, None]) / deviation[:, None, None]
    return normalised
