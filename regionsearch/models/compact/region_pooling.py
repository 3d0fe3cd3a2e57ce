"""Where regions lie on a feature map: the share that each cell has in each region."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regionsearch.regions import Mask


def pooling_weights(masks: Sequence[Mask], rows: int, columns: int) -> NDArray[np.float32]:
    """(n, rows × columns) float32, each row adds up to 1: how much each cell of a feature map of
    `rows` × `columns` counts for each region. A mask without pixels counts as the whole frame."""
    weights = np.empty((len(masks), rows, columns), dtype=np.float32)
    for index, mask in enumerate(masks):
        if mask.pixels == 0:
            weights[index] = 1 / (rows * columns)
            continue
        coverage = mask_coverage(mask, rows, columns)
        weights[index] = coverage / coverage.sum()
    return weights.reshape(len(masks), rows * columns)


def mask_coverage(mask: Mask, rows: int, columns: int) -> NDArray[np.float64]:
    """(rows, columns): mask pixels in each cell, a pixel on a border shared out.

    Works on the runs: 32 dense masks of a large photo would be a gigabyte.
    """
    ends = np.concatenate([[0], np.cumsum(mask.counts, dtype=np.int64)])
    ones = mask.counts.astype(np.int64)
    ones[::2] = 0
    set_before = np.concatenate([[0], np.cumsum(ones)])
    # Pixels set before a position grow linearly within a run, so that reading them off at the cells'
    # borders in every column is exact, also where a border cuts through a pixel.
    borders = np.linspace(0, mask.height, rows + 1) + mask.height * np.arange(mask.width)[:, None]
    by_column = np.diff(np.interp(borders, ends, set_before), axis=1)
    coverage: NDArray[np.float64] = (_interval_shares(mask.width, columns) @ by_column).T
    return coverage


def _interval_shares(pixels: int, cells: int) -> NDArray[np.float64]:
    """(cells, pixels): how much of each pixel of a row lies in each of `cells` equal cells."""
    edges = np.linspace(0, pixels, cells + 1)
    pixel = np.arange(pixels)
    inside = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    shares: NDArray[np.float64] = np.clip(inside, 0, 1)
    return shares
