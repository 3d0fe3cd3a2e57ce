"""What one search sees: an immutable list of parts, published by one assignment."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.fields.field_columns import FieldColumns
from regionsearch.collection.index import IMAGE_ORDINAL, ORDINAL_BITS
from regionsearch.collection.inner_products import inner_products
from regionsearch.collection.segments.best_rows import best_rows
from regionsearch.collection.segments.entity_columns import EntityColumns

Arm = Literal["entities", "images"]
"""Which vectors are compared: those of entities, or the images' own."""
FEW_ALLOWED = 1_000
"""Up to here rows that a filter allows are read from their records and compared exactly."""


class Allowed(Protocol):
    """What a filter let through (`fields.Matching`).

    view: that it was made for. rows: per part of the view (n,) bool, live entity rows. images: per part (m,)
    bool, live images.
    """

    @property
    def view(self) -> View: ...

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


class Found(NamedTuple):
    """Rows of one part, best first, equal ones in the order of rows.

    rows: places. similarities: float32. exact: or estimates, of more rows than were asked for.
    """

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]
    exact: bool


class SearchedPart(Part, ABC):
    """A part that can be searched. in_memory: whether its vectors are, so that reading some costs nothing."""

    in_memory: ClassVar[bool]

    @abstractmethod
    def nearest(
        self, arm: Arm, vector: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
    ) -> Found:
        """The k live rows (fewer when there are fewer) of an arm with the largest inner product with
        `vector` (d,).

        allowed: (n,) or (m,) bool, a part of the live rows; None: all of them.
        """


class StoredVectors(Protocol):
    """What scores rows exactly (`RecordVectors`)."""

    def of_rows(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Of n rows by their ascending ids the vectors (m, d) of those that are still there and sound, and
        which of the n those are. Raises DataLoss."""


class Nearest(NamedTuple):
    """ids: 63-bit. similarities: exact. gone: how many rows of the view a write had buried meanwhile, or
    are of damaged records."""

    ids: NDArray[np.int64]
    similarities: NDArray[np.float32]
    gone: int


@dataclass(frozen=True, eq=False)
class View:
    """parts: ascending by image number, without overlap. generation: of the collection when it was like this.
    stored: where rows of segments are scored; None when all parts are in memory. fields: the columns of the
    collection's declared fields then.
    """

    parts: tuple[Part, ...]
    generation: int
    stored: StoredVectors | None = None
    fields: FieldColumns = field(default_factory=FieldColumns)

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
        similarities, best first, equal ones in the order of ids. Rows that a write buried since the view was
        published may be missing, and those of damaged records. Raises DataLoss when a record is missing that
        no write has buried.
        """
        nearest = self.nearest(arm, vector, k, matching)
        return nearest.ids, nearest.similarities

    def nearest(
        self, arm: Arm, vector: NDArray[np.float32], k: int, matching: Allowed | None = None
    ) -> Nearest:
        """As `search`, and how many rows were gone."""
        allowed: tuple[NDArray[np.bool_] | None, ...] = (None,) * len(self.parts)
        if matching is not None:
            allowed = matching.rows if arm == "entities" else matching.images
        asked = k
        while True:
            found, gone, more = self._scored(arm, vector, asked, allowed)
            if len(found.ids) >= k or not (gone and more):
                return Nearest(found.ids[:k], found.similarities[:k], gone)
            asked *= 2  # the rows that are gone took the places of others

    def _scored(
        self,
        arm: Arm,
        vector: NDArray[np.float32],
        k: int,
        allowed: tuple[NDArray[np.bool_] | None, ...],
    ) -> tuple[Nearest, int, bool]:
        """The k nearest that are still there, how many are not, and whether a larger k could find more."""
        exact: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        estimated: list[tuple[Part, NDArray[np.int64], NDArray[np.float32]]] = []
        listed: list[NDArray[np.int64]] = []
        lists = self._lists_rows(allowed)
        for part, mask in zip(self.parts, allowed, strict=True):
            assert isinstance(part, SearchedPart)
            if lists and not part.in_memory and mask is not None:
                listed.append(part.ids(arm, np.flatnonzero(mask)))
                continue
            if not len(part.live):
                continue
            rows, similarities, is_exact = part.nearest(arm, vector, k, mask)
            if is_exact:
                exact.append((part.ids(arm, rows), similarities))
            elif len(rows):
                estimated.append((part, rows, similarities))
        if len(exact) == 1 and not estimated and not listed:
            return Nearest(*exact[0], 0), 0, False
        listed.extend(_most_likely(arm, estimated, k))
        gone = 0
        if listed:
            assert self.stored is not None
            ids = np.sort(np.concatenate(listed))
            vectors, there = self.stored.of_rows(ids)
            if not there.all():
                gone = len(ids) - int(np.count_nonzero(there))
                ids = ids[there]
            exact.append((ids, inner_products([vectors], vector)))
        if not exact:
            return Nearest(np.empty(0, np.int64), np.empty(0, np.float32), gone), gone, False
        every_id = np.concatenate([each[0] for each in exact])
        every = np.concatenate([each[1] for each in exact])
        ascending = np.argsort(every_id)
        every_id, every = every_id[ascending], every[ascending]
        best = best_rows(every, k)
        more = any(len(rows) >= k for _, rows, _ in estimated)
        return Nearest(every_id[best], every[best], gone), gone, more

    def _lists_rows(self, allowed: tuple[NDArray[np.bool_] | None, ...]) -> bool:
        """Whether so few rows on disk are allowed that reading just those is the quickest search."""
        count = 0
        for part, mask in zip(self.parts, allowed, strict=True):
            if mask is None:
                return False
            if isinstance(part, SearchedPart) and not part.in_memory:
                count += int(np.count_nonzero(mask))
                if count > FEW_ALLOWED:
                    return False
        return True


def _most_likely(
    arm: Arm, estimated: list[tuple[Part, NDArray[np.int64], NDArray[np.float32]]], k: int
) -> list[NDArray[np.int64]]:
    """Ids of the rows worth scoring of what the segments found, (part, rows, estimates) each.

    One segment hands on as many as its own estimates need. Several have more rows whose estimates are too
    high, of which the best of all are to be told: more rows are scored, by the root of how many they are.
    """
    count = max((len(rows) for _, rows, _ in estimated), default=0)
    if len(estimated) < 2 or count < k:  # none was full, so all that they have is wanted
        return [part.ids(arm, rows) for part, rows, _ in estimated]
    similarities = np.concatenate([each for _, _, each in estimated])
    best = np.sort(best_rows(similarities, math.ceil(count * math.sqrt(len(estimated)))))
    ends = np.cumsum([len(rows) for _, rows, _ in estimated])
    # Only now, for finding the images of rows in a mapped file takes a while.
    chosen = np.split(best, np.searchsorted(best, ends[:-1]))
    starts = [0, *ends[:-1].tolist()]
    return [
        part.ids(arm, rows[places - start])
        for (part, rows, _), places, start in zip(estimated, chosen, starts, strict=True)
        if len(places)
    ]
