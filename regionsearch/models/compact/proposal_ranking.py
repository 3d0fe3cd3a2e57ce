"""Which candidates become entities, and in which order.

The list serves two ends. Its first entities should be things, each found once, whole rather than in parts.
And all of it, painted larger first, should make a fair partition of the picture, stretches of background
included. A part that little sets apart from the rest of its thing serves neither.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regionsearch.regions import box_iou_matrix

Array = NDArray[np.float32]

OVERLAP_PENALTY = 0.5
"""Taken off a candidate's score times the squared box IoU with what is chosen already: of two regions
that would find the same thing, the second is worth less."""
MAX_BOX_IOU = 0.7
MAX_MASK_IOU = 0.7

APART = -0.5
"""Cost of a merge (minus the logit of belonging together) from which what it joins counts as apart."""
PART_PENALTY = 0.15
"""Taken off a candidate's score for each unit of cost that it was swallowed below APART."""


def worth(scores: Array, swallowed: Array) -> Array:
    """(c,) float32: what each candidate is worth as an entity; from 0 down, nothing.

    scores: (c,) 0 to 1. swallowed: (c,) cost of the dearest merge up to the one that swallowed it.
    """
    weak = np.maximum(np.float32(APART) - swallowed, 0)
    return np.asarray(scores - np.float32(PART_PENALTY) * weak, dtype=np.float32)


def select(
    worths: Array, boxes: Array, intersections: Array, limit: int, pieces: NDArray[np.bool_] | None = None
) -> NDArray[np.intp]:
    """Indices of at most `limit` candidates, best first, chosen greedily.

    worths: (c,). boxes: (c, 4). intersections: (c, c) pixels shared by two masks; the diagonal holds
    their sizes. Each next one is worth most after its overlap penalty; those worth nothing are not
    taken, nor what overlaps an earlier one by more than MAX_BOX_IOU or MAX_MASK_IOU. When those run out
    before the limit, the candidates of `pieces`, (c,) bool, follow, larger first, whatever they are
    worth; their masks, too, are no copies of earlier ones (MAX_MASK_IOU).
    """
    box_overlap = box_iou_matrix(boxes, boxes)
    sizes = np.diagonal(intersections)
    mask_overlap = intersections / (sizes[:, None] + sizes[None, :] - intersections)
    chosen: list[int] = []
    highest = np.zeros(len(worths), dtype=np.float32)
    open_ = worths > 0
    while len(chosen) < limit and open_.any():
        value = np.where(open_, worths - OVERLAP_PENALTY * np.square(highest), -np.inf)
        index = int(value.argmax())
        chosen.append(index)
        np.maximum(highest, box_overlap[index], out=highest)
        open_ &= (box_overlap[index] <= MAX_BOX_IOU) & (mask_overlap[index] <= MAX_MASK_IOU)
        open_[index] = False
    if pieces is not None:
        for index in sorted(np.flatnonzero(pieces).tolist(), key=lambda piece: -sizes[piece]):
            if len(chosen) == limit:
                break
            if (mask_overlap[index, chosen] <= MAX_MASK_IOU).all():
                chosen.append(index)
    return np.asarray(chosen, dtype=np.intp)
