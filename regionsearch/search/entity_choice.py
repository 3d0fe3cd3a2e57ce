"""Which entity of an image is shown as the match.

What resembles words most is often a part of the thing that is meant: a face, a wheel, a patch of fur.
So the shown match is not the entity of highest cosine but the one that is expected to overlap the thing best:
every entity is taken for the thing with a probability that grows with its likeness and its objectness, and
the entity with the highest expected intersection over union with it is chosen (a minimum Bayes risk
decision: overlapping entities that are alike support each other and what encloses them). docs/fitting.md has
the figures for words; likeness to pixels, which tells a thing from its parts, counts far more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regionsearch.regions import box_iou_matrix
from regionsearch.search.entity_matching import NOT_ALLOWED, distinct_rows

WHOLE_FRAME = 0.95
"""Share of the image that a box covers from which it outlines no thing in it; such an entity is chosen only
where there is no other."""
LEAST_OBJECTNESS = 0.01
LEAST_AGREEMENT = 0.01
"""So that an entity without any is improbable, not impossible."""


def log_objectness(objectness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of 0 to 1, any shape, floored."""
    logs: NDArray[np.float64] = np.log(objectness + LEAST_OBJECTNESS)
    return logs


def choose_entities(
    log_odds: NDArray[np.float64],
    boxes: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    frame: tuple[float, float],
) -> NDArray[np.int64] | None:
    """(p,) distinct ordinals of one image's entities, those that are expected to overlap p things best.

    log_odds: (n, p) of each entity being each thing, up to a constant for each thing. boxes: (n, 4) pixels.
    allowed: (n, p) which entities may be chosen. frame: width and height of the image in pixels.
    None when there are no distinct allowed entities.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    is_frame = sides.prod(axis=1) >= WHOLE_FRAME * frame[0] * frame[1]
    # Whole frames only where they are all that is allowed.
    within = allowed & ~is_frame[:, None]
    within = np.where(within.any(axis=0), within, allowed)
    if not within.any(axis=0).all():
        return None
    logits = np.where(within, log_odds, NOT_ALLOWED)
    probabilities = np.exp(logits - logits.max(axis=0))
    probabilities /= probabilities.sum(axis=0)
    # Others are improbable and not to be chosen: of a thousand entities often one is left.
    some = np.flatnonzero(within.any(axis=1))
    expected = np.full_like(logits, NOT_ALLOWED)
    overlap = box_iou_matrix(boxes[some], boxes[some]) @ probabilities[some]
    expected[some] = np.where(within[some], overlap, NOT_ALLOWED)
    if expected.shape[1] == 1:
        best: NDArray[np.int64] = expected.argmax(axis=0)
        return best
    starts = np.array([0, len(boxes)])
    rows, found = distinct_rows(expected, starts)
    if not found[0]:
        # A whole frame may be what is left for one of several things.
        rows, found = distinct_rows(np.where(allowed, np.maximum(expected, -1.0), NOT_ALLOWED), starts)
    return rows[0] if found[0] else None
