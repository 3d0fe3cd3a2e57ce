"""Pictures as SAM 2 reads them: squeezed into 1024 × 1024 pixels, normalised by ImageNet's statistics.

What VIRTUE hands to SAM instead is in regionsearch/models/virtue/preprocessing.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional

from regionsearch.images import Image
from regionsearch.models.sam2.architecture import SIDE
from regionsearch.models.transfer import to_device

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
        resized[place] = torch.nn.functional.interpolate(
            picture[None], size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
        )[0]
    pictures = to_device(resized, device).to(torch.float32) / 255
    mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float32, device=pictures.device)[:, None, None]
    deviation = torch.tensor(IMAGENET_DEVIATION, dtype=torch.float32, device=pictures.device)[:, None, None]
    return (pictures - mean) / deviation
