"""Small holes filled and small islands removed."""

from __future__ import annotations

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.bool_)


def cleaned(pixels: NDArray[np.bool_], least_area: int) -> NDArray[np.bool_]:
    """A mask (height, width) without holes, then without islands, of fewer than `least_area` pixels.

    Pixels that touch at a corner belong together, in holes and islands alike, as in Meta's generator. Where
    every island is small, the largest stays (of equal ones the first by rows), so that a mask never vanishes.
    """
    if least_area <= 1 or not pixels.any():
        return pixels
    # A "hole" is any connected part of the background, also one at the frame's edge.
    filled = pixels | _small_parts(~pixels, least_area, keep_largest=False)
    result: NDArray[np.bool_] = filled & ~_small_parts(filled, least_area, keep_largest=True)
    return result


def _small_parts(pixels: NDArray[np.bool_], least_area: int, *, keep_largest: bool) -> NDArray[np.bool_]:
    labels, count = scipy.ndimage.label(pixels, structure=_EIGHT_NEIGHBOURS)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    small = sizes < least_area
    small[0] = False
    if keep_largest and small[1:].all():
        small[1 + int(np.argmax(sizes[1:]))] = False
    result: NDArray[np.bool_] = small[labels]
    return result
