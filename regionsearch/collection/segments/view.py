"""What one search sees: an immutable list of parts, published by one assignment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.index import IMAGE_ORDINAL, ORDINAL_BITS
from regionsearch.collection.segments.best_rows import best_rows
from regionsearch.collection.segments.entity_columns import EntityColumns

Arm = Literal["entities", "images"]
"""Which vectors are compared: those of entities, or the images' own."""


class Allowed(Protocol):
    """What a filter let through (`fields.Matching`).

    rows: per part of the view (n,) bool, live entity rows. images: per part (m,) bool, live images.
    """

    @property
    def rows(self) -> tuple[NDArray[np.bool_], ...]: ...

    @property
    def images(self) -> tuple[NDArray[np.bool_], ...]: ...


@dataclass(frozen=True, eq=False)
class Part:
    """Some images of a collection, ascending, with their entities: the fresh ones, or one segment's.

    image_numbers: (m,) int64, ascending, those that died since included. starts: (m + 1,) int64, where the
    entities of each image begin among the n entity rows, and n. live: (m,) bool. entities: n rows.
    """

    image_numbers: NDArray[np.int64]
    starts: NDArray[np.int64]
    live: NDArray[np.bool_]
    entities: EntityColumns

    @cached_property
    def dead_images(self) -> int:
        return len(self.live) - int(np.count_nonzero(self.live))

    @cached_property
    def live_rows(self) -> NDArray[np.bool_]:
        """(n,) bool: entity rows of images that live."""
        return np.repeat(self.live, np.diff(self.starts))

    @cached_property
    def live_row_count(self) -> int:
        return int(np.count_nonzero(self.live_rows)) if self.dead_images else int(self.starts[-1])

    def ids(self, arm: Arm, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The 63-bit ids of rows of an arm, by their places."""
        if arm == "images":
            return (self.image_numbers[rows] << ORDINAL_BITS) | IMAGE_ORDINAL
        images = np.searchsorted(self.starts, rows, side="right") - 1
        return (self.image_numbers[images] << ORDINAL_BITS) + (rows - self.starts[images])

    def places(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of those numbers that this part has, where: ascending places of images."""
        if not len(self.image_numbers):
            return np.empty(0, np.int64)
        at = np.minimum(np.searchsorted(self.image_numbers, numbers), len(self.image_numbers) - 1)
        return np.unique(at[self.image_numbers[at] == numbers])

    def without(self, numbers: NDArray[np.int64]) -> Self:
        """The same rows with these images dead; itself when it has none of them alive."""
        places = self.places(numbers)
        if not self.live[places].any():
            return self
        live = self.live.copy()
        live[places] = False
        return replace(self, live=live)


class SearchedPart(Part, ABC):
    """A part that can be searched."""

    @abstractmethod
    def nearest(
        self, arm: Arm, vector: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k live rows (fewer when there are fewer) of an arm with the largest inner product, best first,
        equal ones in the order of rows: places, and exact similarities.

        allowed: (n,) or (m,) bool, a part of the live rows; None: all of them.
        """


@dataclass(frozen=True, eq=False)
class View:
    """parts: ascending by image number, without overlap. generation: of the collection when it was like this.

    Equal views give equal answers, whatever is written meanwhile.
    """

    parts: tuple[Part, ...]
    generation: int

    @cached_property
    def images(self) -> int:
        """Live ones."""
        return sum(len(part.live) - part.dead_images for part in self.parts)

    @cached_property
    def entities(self) -> int:
        """Of live images."""
        return sum(part.live_row_count for part in self.parts)

    def live_numbers(self) -> NDArray[np.int64]:
        """Numbers of the live images, ascending."""
        numbers = [part.image_numbers[part.live] for part in self.parts]
        return np.concatenate(numbers) if numbers else np.empty(0, np.int64)

    def search(
        self, arm: Arm, vector: NDArray[np.float32], k: int, matching: Allowed | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k rows of an arm nearest to `vector` (d,): exactly k whenever that many live rows match.

        matching: made for this very view; rows outside it are never found. Returns 63-bit ids and exact
        similarities, best first, equal ones in the order of ids.
        """
        ids: list[NDArray[np.int64]] = []
        similarities: list[NDArray[np.float32]] = []
        for place, part in enumerate(self.parts):
            assert isinstance(part, SearchedPart)
            allowed = None
            if matching is not None:
                allowed = (matching.rows if arm == "entities" else matching.images)[place]
            rows, found = part.nearest(arm, vector, k, allowed)
            ids.append(part.ids(arm, rows))
            similarities.append(found)
        if len(ids) == 1:
            return ids[0], similarities[0]
        if not ids:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        every_id, every = np.concatenate(ids), np.concatenate(similarities)
        ascending = np.argsort(every_id)
        every_id, every = every_id[ascending], every[ascending]
        best = best_rows(every, k)
        return every_id[best], every[best]
