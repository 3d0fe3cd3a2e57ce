"""What a filter lets through of one view of a collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.segments.view import View


@dataclass(frozen=True, slots=True)
class MatchCount:
    """How many images and entities a filter lets through, exactly; entities of images that match but do not
    match themselves are not counted. notes: as `Matching.notes`."""

    images: int
    entities: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Matching:
    """rows: per part of the view (n,) bool, the live entities that satisfy the filter. images: per part (m,)
    bool, the live images with at least one of them. Neither may be written.

    notes: what answering cost that a declaration would spare, for people to read.
    """

    view: View
    rows: tuple[NDArray[np.bool_], ...]
    images: tuple[NDArray[np.bool_], ...]
    entity_count: int
    image_count: int
    notes: tuple[str, ...]

    @property
    def count(self) -> MatchCount:
        return MatchCount(self.image_count, self.entity_count, self.notes)

    def image_numbers(self) -> NDArray[np.int64]:
        """(image_count,) int64, ascending: the images that match."""
        numbers = [part.image_numbers[mask] for part, mask in zip(self.view.parts, self.images, strict=True)]
        return np.concatenate([np.empty(0, np.int64), *numbers])

    def entity_mask(self, numbers: Sequence[int], counts: Sequence[int]) -> NDArray[np.bool_]:
        """(sum of counts,) bool: which entities of these images match, image after image.

        counts: how many entities each has. All of an image are False that the view does not have alive, or
        with another number of entities.
        """
        wanted = np.asarray(numbers, np.int64)
        sizes = np.asarray(counts, np.int64)
        ends = np.cumsum(sizes)
        mask = np.zeros(int(ends[-1]) if len(ends) else 0, bool)
        for part, rows in zip(self.view.parts, self.rows, strict=True):
            if not len(part.image_numbers):
                continue
            at = np.searchsorted(part.image_numbers, wanted)
            at[at == len(part.image_numbers)] = 0
            starts = part.starts[at]
            here = np.flatnonzero(
                (part.image_numbers[at] == wanted) & (part.starts[at + 1] - starts == sizes) & part.live[at]
            )
            if not len(here):
                continue
            length = sizes[here]
            # Of each of these entities, its place among all asked about, less its row in the part.
            shift = np.repeat(ends[here] - length - starts[here], length)
            row = np.repeat(starts[here] - (np.cumsum(length) - length), length) + np.arange(length.sum())
            mask[row + shift] = rows[row]
        return mask
