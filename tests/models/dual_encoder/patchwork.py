"""Pictures of random colours and regions in them."""

from __future__ import annotations

import numpy as np

from regionsearch.entities import Entities
from regionsearch.images import Image
from regionsearch.regions import Box, Mask


def photo(seed: int, height: int = 48, width: int = 70) -> Image:
    """Patches of random colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (-(-height // 12), -(-width // 14), 3), np.uint8)
    return Image(colours.repeat(12, axis=0).repeat(14, axis=1)[:height, :width])


def frame_and_parts(image: Image) -> Entities:
    height, width = image.height, image.width
    masks = [
        Mask.full(height, width),
        Mask.from_box(Box(0, 0, width / 2, height / 2), height, width),
        Mask.from_box(Box(width - 3, height - 3, width, height), height, width),
    ]
    return Entities.from_masks(masks, np.zeros(3, dtype=np.float32))
