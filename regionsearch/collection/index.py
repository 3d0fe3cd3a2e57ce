"""The 63-bit ids of rows: image number × 65,536 + the entity's ordinal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ORDINAL_BITS = 16
IMAGE_ORDINAL = (1 << ORDINAL_BITS) - 1
"""The ordinal under which an image's own vector is indexed; entities have the ones below."""
MAX_IMAGE_NUMBER = (1 << (63 - ORDINAL_BITS)) - 1


def image_numbers(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The image that each row belongs to, a shift away."""
    return ids >> ORDINAL_BITS


def ordinals(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The entity's place in its image, `IMAGE_ORDINAL` for the image's own vector."""
    return ids & IMAGE_ORDINAL
