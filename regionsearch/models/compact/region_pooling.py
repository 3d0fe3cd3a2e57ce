"""Where regions lie on a feature map: the share that each cell has in each region."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regionsearch import run_length
from regionsearch.regions import Box, Mask

MASK_SHARE = 0.5
"""Of a region's weight that follows its outline; the rest follows its box (measured: docs/compact.md).
A cell of the last map sees far beyond itself, and what surrounds a thing helps to name it."""


def pooling_weights(masks: Sequence[Mask], rows: int, columns: int) -> NDArray[np.float32]:
    """(n, rows × columns) float32, each row adds up to 1: how much each cell of a feature map of
    `rows` × `columns` counts for each region. A mask without pixels counts as the whole frame."""
    weights = np.empty((len(masks), rows, columns), dtype=np.float32)
    for index, mask in enumerate(masks):
        if mask.pixels == 0:
            weights[index] = 1 / (rows * columns)
            continue
        of_mask = mask_coverage(mask, rows, columns)
        of_box = box_coverage(mask.box(), mask.height, mask.width, rows, columns)
        weights[index] = MASK_SHARE * of_mask / of_mask.sum() + (1 - MASK_SHARE) * of_box / of_box.sum()
    return weights.reshape(len(masks), rows * columns)


def mask_coverage(mask: Mask, rows: int, columns: int) -> NDArray[np.float64]:
    """(rows, columns): mask pixels in each cell, a pixel on a border shared out.

    Works on the runs: 32 dense masks of a large photo would be a gigabyte.
    """
    starts, ends = run_length.spans(mask.counts)
    column, top, bottom = _column_pieces(starts, ends, mask.height)
    edges = np.linspace(0, mask.height, rows + 1)
    below = np.clip(bottom[:, None], edges[:-1], edges[1:])
    above = np.clip(top[:, None], edges[:-1], edges[1:])
    pieces = np.concatenate([np.zeros((1, rows)), np.cumsum(below - above, axis=0)])
    # Pieces come column by column, so a column's sum is the difference of two running sums.
    by_column = np.diff(pieces[np.searchsorted(column, np.arange(mask.width + 1))], axis=0)
    coverage: NDArray[np.float64] = (_interval_shares(mask.width, columns) @ by_column).T
    return coverage


def box_coverage(box: Box, height: int, width: int, rows: int, columns: int) -> NDArray[np.float64]:
    """(rows, columns): pixels of the box in each cell of a map of an image of height × width."""
    down = _overlaps(box.y0, box.y1, np.linspace(0, height, rows + 1))
    across = _overlaps(box.x0, box.x1, np.linspace(0, width, columns + 1))
    return np.outer(down, across)


def _column_pieces(
    starts: NDArray[np.int64], ends: NDArray[np.int64], height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Runs of the column-major image cut at the columns' ends: column, first row, row behind the last."""
    first, last = starts // height, (ends - 1) // height
    pieces = last - first + 1
    run = np.repeat(np.arange(len(starts)), pieces)
    within = np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    column = first[run] + within
    top = np.maximum(starts[run] - column * height, 0)
    bottom = np.minimum(ends[run] - column * height, height)
    return column, top, bottom


def _interval_shares(pixels: int, cells: int) -> NDArray[np.float64]:
    """(cells, pixels): how much of each pixel of a row lies in each of `cells` equal cells."""
    edges = np.linspace(0, pixels, cells + 1)
    pixel = np.arange(pixels)
    inside = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    shares: NDArray[np.float64] = np.clip(inside, 0, 1)
    return shares


def _overlaps(start: float, end: float, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    shared: NDArray[np.float64] = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0, None)
    return shared
