"""Duplicates out, then at most so many masks that are good and cover the picture. Pure functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

QUALITY_STEP = 1e-4
"""Qualities closer than this count as equal, so that the rounding of another batch size decides nothing."""
FRAME = 0.95
"""Share of the picture from which a mask is the frame, not a thing."""
LIKE_SIZED = 4.0
"""Masks whose areas differ by less than this factor compete for the same pixels: a part does not take
the place of the thing that it belongs to, nor the other way round."""
SMALLEST_WEIGHT = 0.2
"""Of the tiniest masks, beside 1 for one that fills the picture."""
LEAST_NEW = 0.1
"""Share of a mask that must not be covered yet by masks of about its size, as long as others have more."""


def quality_order(predicted_iou: Array, stability: Array) -> NDArray[np.intp]:
    """(n,), (n,) → indices, best first: by predicted IoU, then stability, both in steps of QUALITY_STEP,
    then as they come."""
    return np.lexsort((-_steps(stability), -_steps(predicted_iou)))


def mask_ious(shared: Array) -> Array:
    """(n, n) pixels that each two masks share, on the diagonal their own → (n, n) IoU, 0 to 1."""
    areas = np.diagonal(shared)
    together = areas[:, None] + areas[None, :] - shared
    return shared / np.maximum(together, 1)


def without_duplicates(order: NDArray[np.intp], ious: Array, threshold: float) -> NDArray[np.intp]:
    """Greedy non-maximum suppression: of `order`, best first, those whose IoU with everything kept before
    is at most the threshold.

    ious: (n, n), 0 to 1.
    """
    kept: list[int] = []
    suppressed = np.zeros(len(ious), dtype=np.bool_)
    for index in order:
        if not suppressed[index]:
            kept.append(int(index))
            suppressed |= ious[index] > threshold
    return np.array(kept, dtype=np.intp)


def size_weight(areas: Array) -> Array:
    """(n,) shares of the picture → (n,) SMALLEST_WEIGHT to 1: an eighth less for every factor of four.

    Of equally good masks the larger ones come first, but a good small one before a poor large one.
    """
    weight: Array = 1 + np.log(np.maximum(areas, 1e-12)) / np.log(4) / 8
    return np.clip(weight, SMALLEST_WEIGHT, 1)


def choose(quality: Array, areas: Array, shared: Array, limit: int) -> NDArray[np.intp]:
    """At most `limit` masks, for quality and cover, in the order of choice.

    quality: (n,) 0 to 1. areas: (n,) shares of the picture, above 0. shared: (n, n) shares of the picture
    that two masks have in common, on the diagonal the areas.

    Greedy. The gain of a mask is quality × size weight × the share of it that masks of about its size
    (LIKE_SIZED) have not covered yet; what is covered twice counts twice. The largest gain is taken,
    of equal ones the better, then the earlier mask, until no mask has LEAST_NEW left to cover. Places that
    are left then go to the others by quality × size weight: a person is no less a thing for the shirt and
    the trousers that were taken before. A mask over FRAME of the picture is never taken.
    """
    ratio = areas[:, None] / areas[None, :]
    competing = (ratio < LIKE_SIZED) & (ratio > 1 / LIKE_SIZED)
    taken_share = np.where(competing, shared / areas[:, None], 0.0)
    worth = quality * size_weight(areas)
    ties = np.lexsort((np.arange(len(quality)), -_steps(quality)))
    covered = np.zeros(len(quality))
    open_to = areas <= FRAME
    chosen: list[int] = []
    while len(chosen) < limit:
        new = np.clip(1 - covered, 0, 1)
        gain = np.where(open_to & (new >= LEAST_NEW), _steps(worth * new), -1)
        best = int(ties[np.argmax(gain[ties])]) if len(gain) else -1
        if best < 0 or gain[best] < 0:
            break
        chosen.append(best)
        open_to[best] = False
        covered += taken_share[:, best]
    others = [int(index) for index in ties[np.argsort(-_steps(worth)[ties], kind="stable")] if open_to[index]]
    return np.array([*chosen, *others][:limit], dtype=np.intp)


def _steps(values: Array) -> Array:
    return np.rint(values / QUALITY_STEP)
