"""How much of a mask lies in each cell of a grid over its image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regionsearch.regions import Mask


def mask_coverage(mask: Mask, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """(r, c) float64: mask pixels in each cell, those on a border shared out.

    rows: (r + 1,) borders of the cells from the top, rising; columns: (c + 1,) from the left; pixels. They
    may end before the image does, or go beyond it.
    Works on the runs: 32 dense masks of a large photo would be a gigabyte.
    """
    ends = np.concatenate([[0], np.cumsum(mask.counts, dtype=np.int64)])
    ones = mask.counts.astype(np.int64)
    ones[::2] = 0
    set_before = np.concatenate([[0], np.cumsum(ones)])
    # Pixels set before a position grow linearly within a run, so that reading them off at the cells'
    # borders in every column is exact, also where a border cuts through a pixel.
    borders = np.clip(rows, 0, mask.height) + mask.height * np.arange(mask.width)[:, None]
    by_column = np.diff(np.interp(borders, ends, set_before), axis=1)
    pixel = np.arange(mask.width)
    inside = np.minimum(columns[1:, None], pixel + 1) - np.maximum(columns[:-1, None], pixel)
    coverage: NDArray[np.float64] = (np.clip(inside, 0, 1) @ by_column).T
    return coverage
