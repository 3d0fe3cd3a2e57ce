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
    # Most masks are small, and labelling a large picture takes seconds. The margin makes this exact:
    # background that goes on beyond it fills it, and so is no small hole.
    around = (
        _extent(np.flatnonzero(pixels.any(1)), least_area),
        _extent(np.flatnonzero(pixels.any(0)), least_area),
    )
    part = pixels[around]
    # A "hole" is any connected part of the background, also one at the frame's edge.
    filled = part | _small_parts(~part, least_area, keep_largest=False)
    result: NDArray[np.bool_] = pixels.copy()
    result[around] = filled & ~_small_parts(filled, least_area, keep_largest=True)
    return result


def _extent(places: NDArray[np.intp], margin: int) -> slice:
    """From the first to the last of the places, which ascend, and so many more on both sides."""
    return slice(max(0, int(places[0]) - margin), int(places[-1]) + 1 + margin)


def _small_parts(pixels: NDArray[np.bool_], least_area: int, *, keep_largest: bool) -> NDArray[np.bool_]:
    labels, count = scipy.ndimage.label(pixels, structure=_EIGHT_NEIGHBOURS)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    small = sizes < least_area
    small[0] = False
    if keep_largest and small[1:].all():
        small[1 + int(np.argmax(sizes[1:]))] = False
    if not small.any():
        return np.zeros_like(pixels)
    result: NDArray[np.bool_] = small[labels]
    return result
