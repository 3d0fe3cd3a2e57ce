"""The one safe door for pixels: decode, orient, limit.

INTERFACE SKETCH: the owner of this module completes it; names and signatures below stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DEFAULT_MAX_MEGAPIXELS = 64.0


@dataclass(frozen=True, eq=False)
class Image:
    """An upright RGB picture: pixels (height, width, 3) uint8."""

    pixels: NDArray[np.uint8]

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])


def decode_image(data: bytes, name: str = "image", *, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS) -> Image: raise NotImplementedError
def load_image(path: Path, *, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS) -> Image: raise NotImplementedError
def thumbnail_jpeg(image: Image, longest_side: int = 320, quality: int = 85) -> bytes: raise NotImplementedError
def content_hash(data: bytes) -> str: raise NotImplementedError
