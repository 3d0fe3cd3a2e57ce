"""Which candidates become entities, and in which order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regionsearch.regions import box_iou_matrix

Array = NDArray[np.float32]

OVERLAP_PENALTY = 0.5
"""Taken off a candidate's score times the squared box IoU with what is chosen already: of two regions
that would find the same thing, the second is worth less."""
MAX_BOX_IOU = 0.6
MAX_MASK_IOU = 0.6


def select(scores: Array, boxes: Array, intersections: Array, limit: int) -> NDArray[np.intp]:
    """Indices of at most `limit` candidates, best first, chosen greedily.

    scores: (c,) 0 to 1. boxes: (c, 4). intersections: (c, c) pixels shared by two masks; the diagonal
    holds their sizes. Each next one has the highest score less its overlap penalty; none overlaps an
    earlier one by more than MAX_BOX_IOU or MAX_MASK_IOU while there are others. When those run out
    before the limit, the rest follow, least overlap first in the same way, down to exact copies
    (IoU of boxes or masks above 0.9), which never do.
    """
    box_overlap = box_iou_matrix(boxes, boxes)
    sizes = np.diagonal(intersections)
    mask_overlap = intersections / (sizes[:, None] + sizes[None, :] - intersections)
    chosen: list[int] = []
    highest = np.zeros(len(scores), dtype=np.float32)
    for strictest in (MAX_BOX_IOU, 0.9):
        open_ = np.ones(len(scores), dtype=bool)
        for index in chosen:
            open_ &= (box_overlap[index] <= strictest) & (mask_overlap[index] <= strictest)
        while len(chosen) < limit and open_.any():
            value = np.where(open_, scores - OVERLAP_PENALTY * np.square(highest), -np.inf)
            index = int(value.argmax())
            chosen.append(index)
            np.maximum(highest, box_overlap[index], out=highest)
            open_ &= (box_overlap[index] <= strictest) & (mask_overlap[index] <= strictest)
            open_[index] = False
    return np.asarray(chosen, dtype=np.intp)
