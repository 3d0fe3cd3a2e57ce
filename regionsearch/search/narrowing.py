"""Conditions on the place, size and name of entities, as what the arms may look at.

Joint scoring decides exactly which entities may be matches (`agreement.allowed`). Where few are, the arms
would bring image after image in vain; so the same conditions are read from the columns that a collection
keeps of its entities, a little more generously, since these are float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.fields.matching import Matching
from regionsearch.collection.segments.entity_columns import EntityColumns
from regionsearch.search.agreement import distance_from_box, distance_from_part, is_about_place
from regionsearch.search.counting import counts_softly
from regionsearch.search.placement import Placement

SLACK = 1e-5
"""Fractions of the frame, by which columns may differ from what joint scoring computes."""

Mask = NDArray[np.bool_]


def is_hard(placement: Placement) -> bool:
    """Whether entities that do not meet it are no matches."""
    return placement.label is not None or (placement.strict and is_about_place(placement))


def narrowed(matching: Matching, placements: Sequence[Placement]) -> Matching:
    """Those of the images and entities that can meet the hard placements: images with enough entities for
    each of them; entities that can be one of the matches."""
    rows, images = [], []
    for part, meets, among in zip(matching.view.parts, matching.rows, matching.images, strict=True):
        some: Mask = np.zeros_like(meets)
        every = among
        for placement in placements:
            own = meets & _can_match(placement, part.entities) if is_hard(placement) else meets
            least = 1 if counts_softly(placement) else placement.min_count or 1
            # Entities that overlap count once, so that there may be fewer things than entities, never more.
            summed = np.concatenate([[0], np.cumsum(own, dtype=np.int64)])
            every = every & (np.diff(summed[part.starts]) >= least)
            some |= own
        rows.append(some & np.repeat(every, np.diff(part.starts)))
        images.append(every)
    return replace(
        matching,
        rows=tuple(rows),
        images=tuple(images),
        entity_count=sum(int(np.count_nonzero(each)) for each in rows),
        image_count=sum(int(np.count_nonzero(each)) for each in images),
    )


def _can_match(placement: Placement, entities: EntityColumns) -> Mask:
    """(n,) of each entity."""
    may: Mask = np.ones(len(entities.areas), dtype=np.bool_)
    if placement.label is not None:
        codes = [code for code, label in enumerate(entities.label_table) if label == placement.label]
        may &= np.isin(entities.labels, codes)
    if placement.strict:
        # Each of the following reads only what is left: there are millions, and few with a label.
        if placement.min_area is not None:
            may &= entities.areas >= placement.min_area - SLACK
        if placement.max_area is not None:
            may &= entities.areas <= placement.max_area + SLACK
        left = np.flatnonzero(may)
        boxes = entities.boxes[left].astype(np.float64)
        if placement.part is not None:
            may[left] = distance_from_part(placement.part, boxes) <= SLACK
        if placement.box is not None:
            may[left] = distance_from_box(placement.box, boxes) <= placement.tolerance + SLACK
    return may
