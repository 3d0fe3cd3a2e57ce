"""Where regions lie on a feature map: the share that each cell has in each region."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regionsearch.models.mask_coverage import mask_coverage
from regionsearch.regions import Mask


def pooling_weights(masks: Sequence[Mask], rows: int, columns: int) -> NDArray[np.float32]:
    """(n, rows × columns) float32, each row adds up to 1: how much each cell of a feature map of
    `rows` × `columns` counts for each region. A mask without pixels counts as the whole frame."""
    weights = np.empty((len(masks), rows, columns), dtype=np.float32)
    for index, mask in enumerate(masks):
        if mask.pixels == 0:
            weights[index] = 1 / (rows * columns)
            continue
        coverage = mask_coverage(
            mask, np.linspace(0, mask.height, rows + 1), np.linspace(0, mask.width, columns + 1)
        )
        weights[index] = coverage / coverage.sum()
    return weights.reshape(len(masks), rows * columns)
