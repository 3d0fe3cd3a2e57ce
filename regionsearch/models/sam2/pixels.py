"""Pictures as SAM 2 reads them: squeezed into 1024 × 1024 pixels, normalised by ImageNet's statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional

from regionsearch.images import Image
from regionsearch.models.sam2.architecture import SIDE

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def sam_pixels(images: Sequence[Image], device: torch.device) -> torch.Tensor:
    """(n, 3, 1024, 1024) float32 on the device: SAM's own preprocessing.

    The arithmetic of transformers' Sam2ImageProcessor on a CPU: bilinear with antialiasing on bytes, then
    / 255, then ImageNet's mean and deviation. (Meta's code resizes unrounded: up to one level of 255 apart.)
    """
    resized = torch.empty((len(images), 3, SIDE, SIDE), dtype=torch.uint8)
    for place, image in enumerate(images):
        # A copy: torch has no read-only tensors, and an Image's pixels are.
        picture = torch.from_numpy(np.array(image.pixels)).permute(2, 0, 1)
        resized[place] = _squeezed(picture)
    if device.type == "cuda":
        resized = resized.pin_memory().to(device, non_blocking=True)
    return _normalised(resized.to(torch.float32) / 255)


def twice_normalised(pictures: Sequence[torch.Tensor]) -> torch.Tensor:
    """(n, 3, 1024, 1024) float32: what VIRTUE hands to SAM.

    pictures: n of (3, h, w) float32, already resized and normalised as for CLIP. They are squeezed like raw
    pixels and normalised by ImageNet's statistics on top, as the published model was trained.
    """
    return _normalised(torch.stack([_squeezed(picture) for picture in pictures]))


def _squeezed(picture: torch.Tensor) -> torch.Tensor:
    """(3, h, w) → (3, 1024, 1024) of the same dtype."""
    resized: torch.Tensor = torch.nn.functional.interpolate(
        picture[None], size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
    )[0]
    return resized


def _normalised(pictures: torch.Tensor) -> torch.Tensor:
    mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float32, device=pictures.device)[:, None, None]
    deviation = torch.tensor(IMAGENET_DEVIATION, dtype=torch.float32, device=pictures.device)[:, None, None]
    return (pictures - mean) / deviation
