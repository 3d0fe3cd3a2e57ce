"""Regions made of superpixels, as run-length masks of the whole picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regionsearch.models.compact.superpixels import Superpixels
from regionsearch.regions import Box, Mask


def middles(small: int, large: int) -> NDArray[np.intp]:
    """For each of `large` pixels the one of `small` under its middle; either may be the longer row."""
    return (2 * np.arange(large) + 1) * small // (2 * large)


class RegionMasks:
    """Turns sets of superpixels of one picture into masks of its full size, one at a time.

    Each pixel of the picture takes the superpixel under its middle. The runs are written from the
    working picture's columns, so that no mask of full size is ever held: 1,000 masks of a 64-megapixel
    picture cost what their outlines cost.
    """

    def __init__(self, superpixels: Superpixels) -> None:
        self._height, self._width = superpixels.image_height, superpixels.image_width
        self.sizes = superpixels.sizes
        """(n,) float32, working pixels."""
        self._boxes = superpixels.boxes
        self._by_column = np.ascontiguousarray(superpixels.labels.T)
        columns, rows = self._by_column.shape
        # Working row or column under the middle of each full one, and the first full row of each working row.
        self._column_of = middles(columns, self._width)
        self._row_of = middles(rows, self._height)
        self._row_start = np.searchsorted(self._row_of, np.arange(rows))

    def mask(self, members: NDArray[np.bool_]) -> Mask:
        """The mask of the superpixels for which `members`, (n,) bool, is true; at least one is."""
        inside = members[self._by_column]
        column, row = np.nonzero(inside[:, 1:] != inside[:, :-1])
        per_column = np.bincount(column, minlength=len(inside))
        first = np.cumsum(per_column) - per_column

        # Every full column repeats the changes within its working column …
        repeats = per_column[self._column_of]
        ends = np.cumsum(repeats)
        within = np.arange(ends[-1]) - np.repeat(ends - repeats, repeats)
        change = np.repeat(first[self._column_of], repeats) + within
        starts = np.arange(self._width) * self._height
        toggles = np.repeat(starts, repeats) + self._row_start[row[change] + 1]
        # … and changes at its top when the column before ended otherwise.
        top = inside[self._column_of, 0]
        before = np.concatenate([[False], inside[self._column_of[:-1], -1]])
        toggles = np.sort(np.concatenate([toggles, starts[top != before]]))

        ends_at = self._height * self._width
        counts = np.diff(np.concatenate([[0], toggles, [ends_at]]))
        return Mask(self._height, self._width, counts.astype(np.uint32))

    def shares(self, pixels: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(n,) float32: how much of each superpixel, in working pixels, a dense mask of the picture's
        size covers, sampled at the middle of each working pixel."""
        columns, rows = self._by_column.shape
        covered = pixels[middles(self._height, rows)][:, middles(self._width, columns)].T
        count = int(self._by_column.max()) + 1
        return np.bincount(self._by_column[covered], minlength=count).astype(np.float32)

    def superpixel_at(self, x: float, y: float) -> int:
        """The superpixel under a point of the picture, pixels, which lies within it."""
        return int(self._by_column[self._column_of[int(x)], self._row_of[int(y)]])

    def working_box(self, box: Box) -> NDArray[np.float32]:
        """(4,) float32: a box of the picture, clipped to it, in working pixels."""
        columns, rows = self._by_column.shape
        across, down = columns / self._width, rows / self._height
        corners = [max(box.x0, 0.0) * across, max(box.y0, 0.0) * down]
        corners += [min(box.x1, self._width) * across, min(box.y1, self._height) * down]
        return np.asarray(corners, dtype=np.float32)

    def shares_of_box(self, working: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n,) float32: working pixels of each superpixel whose middles a box of working pixels holds."""
        x0, y0, x1, y1 = np.round(working).astype(int)
        held = self._by_column[x0:x1, y0:y1].ravel()
        return np.bincount(held, minlength=len(self.sizes)).astype(np.float32)

    def box_of(self, members: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(4,) float32: the box of some superpixels, at least one, in working pixels."""
        boxes = self._boxes[members]
        corners = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
        return np.asarray(corners, dtype=np.float32)
