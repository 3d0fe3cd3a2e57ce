"""Where the patches of a vision transformer lie in the image, and what of each a mask covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.models.mask_coverage import mask_coverage
from regionsearch.regions import Mask

_NOISE = 1e-9
"""Below this share of a region's best-covered patch, coverage is rounding and not pixels."""


@dataclass(frozen=True, eq=False)
class PatchGrid:
    """The borders of the patches, in pixels of the image.

    rows: (r + 1,) float64, from the top; columns: (c + 1,), from the left. They may end before the image
    does: a network whose side is no multiple of its patch (SigLIP so400m: 384 and 14) never sees the rest.
    """

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]

    @staticmethod
    def over(height: int, width: int, *, side: tuple[int, int], patch: int) -> PatchGrid:
        """The patches of an image of height × width pixels that was resized to `side` (height, width)."""
        down, across = side[0] // patch, side[1] // patch
        return PatchGrid(
            np.arange(down + 1, dtype=np.float64) * (patch * height / side[0]),
            np.arange(across + 1, dtype=np.float64) * (patch * width / side[1]),
        )

    @property
    def patches(self) -> int:
        return (len(self.rows) - 1) * (len(self.columns) - 1)

    def shares(self, masks: Sequence[Mask]) -> NDArray[np.float32]:
        """(n, patches) float32, row by row: how much of each patch's area each mask covers, 0 to 1.

        Every row has a value above 0: a mask without a pixel in any patch gets the patch nearest to the
        middle of its box, and one without pixels at all every patch.
        """
        shares = np.empty((len(masks), self.patches), dtype=np.float32)
        for index, mask in enumerate(masks):
            shares[index] = 1 if mask.pixels == 0 else self._shares(mask).ravel()
        return shares

    def _shares(self, mask: Mask) -> NDArray[np.float64]:
        covered = mask_coverage(mask, self.rows, self.columns)
        most = covered.max()
        if most <= 0:
            nearest = np.zeros_like(covered)
            nearest[self._nearest(mask)] = 1
            return nearest
        areas = np.diff(self.rows)[:, None] * np.diff(self.columns)
        # Never exactly 1 because of rounding would be a full mask that is not quite full.
        shares = np.minimum(covered / areas, 1)
        shares[covered < _NOISE * most] = 0
        shares[shares > 1 - _NOISE] = 1
        return shares

    def _nearest(self, mask: Mask) -> tuple[int, int]:
        box = mask.box()
        row = np.searchsorted(self.rows, (box.y0 + box.y1) / 2, side="right") - 1
        column = np.searchsorted(self.columns, (box.x0 + box.x1) / 2, side="right") - 1
        return min(int(row), len(self.rows) - 2), min(int(column), len(self.columns) - 2)
