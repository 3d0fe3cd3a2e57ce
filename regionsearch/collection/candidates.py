"""What joint scoring reads of many images at once, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import overload

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.inner_products import inner_products, products_where_they_lie
from regionsearch.collection.record_layout import CandidateParts

Products = Mapping[bytes, NDArray[np.float32]]
"""(rows,) or (c,) float32 each, by the bytes of the query that vectors were compared with."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """What joint scoring reads of an image in one LMDB read: vectors (1 + n, d) float32 and areas,
    boxes, objectness of its n entities, without masks or payload.

    width, height: pixels, 0 when not known. labels: n, or None when they were not asked for.
    """

    number: int
    image_id: str
    vectors: NDArray[np.float32]
    boxes: NDArray[np.float32]
    areas: NDArray[np.float32]
    objectness: NDArray[np.float32]
    width: int = 0
    height: int = 0
    labels: tuple[str | None, ...] | None = None


class Candidates(Sequence[Candidate]):
    """c images, their arrays one after the other, so that they are scored in a few array operations.

    numbers: of the images. image_ids: likewise. sizes: (c, 2) int64, width and height in pixels.
    starts: (c + 1,) int64, the row of each image's own vector, which those of its entities follow, and the
    number of rows. labels: of all entities, image after image; None when they were not asked for.
    """

    def __init__(
        self,
        numbers: Sequence[int],
        parts: Sequence[CandidateParts],
        vectors: NDArray[np.float32] | None,
        products: Products,
        image_products: Products,
    ) -> None:
        """vectors: (rows, d) float32, of all; None where nothing will be asked for but `products` with them,
        (rows,), and `image_products` with the images' own, (c,)."""
        self.numbers = list(numbers)
        self.image_ids = [each.image_id for each in parts]
        self.sizes = np.array([each.size for each in parts], np.int64).reshape(-1, 2)
        self.starts = np.cumsum([0, *(len(each.vectors) for each in parts)], dtype=np.int64)
        labels = [each.labels for each in parts if each.labels is not None]
        self.labels = list(chain.from_iterable(labels)) if len(labels) == len(parts) else None
        # For each image the boxes (n, 4), the areas (n,) and the objectness (n,) of its entities.
        self._outlines = np.concatenate([np.empty(0, np.float32), *(each.outlines for each in parts)])
        self._vectors = vectors
        self._products = products
        self._image_products = image_products

    @staticmethod
    def copied(found: Mapping[int, CandidateParts], memory: NDArray[np.float32]) -> Candidates:
        """By image number, the vectors copied into memory (rows, d) that is theirs from now on."""
        parts = list(found.values())
        if parts:
            np.concatenate([each.vectors for each in parts], out=memory)
        return Candidates(list(found), parts, memory, {}, {})

    @staticmethod
    def compared(
        found: Mapping[int, CandidateParts],
        queries: Sequence[NDArray[np.float32]],
        image_queries: Sequence[NDArray[np.float32]],
    ) -> Candidates:
        """By image number, with products in the vectors' stead: of all with the queries (d,), of the images'
        own with image_queries (d,)."""
        parts = list(found.values())
        different = {_key(query): query for query in queries}
        products = products_where_they_lie([each.vectors for each in parts], list(different.values()))
        own = np.array([each.vectors[0] for each in parts])
        return Candidates(
            list(found),
            parts,
            None,
            dict(zip(different, products, strict=True)),
            {_key(query): inner_products([own] if parts else [], query) for query in image_queries},
        )

    @staticmethod
    def of(candidates: Sequence[Candidate]) -> Candidates:
        """From at least one image, one by one, also the same twice; with labels when all have them."""
        numbers = [each.number for each in candidates]
        vectors = np.concatenate([each.vectors for each in candidates])
        return Candidates(numbers, [_parts_of(each) for each in candidates], vectors, {}, {})

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(rows, d) float32: for each image its own vector, then those of its entities.

        Raises ValueError when the images were read for comparison alone."""
        if self._vectors is None:
            raise ValueError("these candidates were compared where they lay; their vectors were not copied")
        return self._vectors

    @property
    def entity_starts(self) -> NDArray[np.int64]:
        """(c + 1,) int64: where each image's entities begin among all entities, and their number."""
        starts: NDArray[np.int64] = self.starts - np.arange(len(self.starts))
        return starts

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(entities, 4) float32, pixels, of all entities, image after image."""
        boxes: NDArray[np.float32] = self._outlines[self._outline_rows[:, :4]]
        return boxes

    @property
    def areas(self) -> NDArray[np.float32]:
        """(entities,) float32, 0 to 1."""
        areas: NDArray[np.float32] = self._outlines[self._outline_rows[:, 4]]
        return areas

    @property
    def objectness(self) -> NDArray[np.float32]:
        """(entities,) float32, 0 to 1."""
        objectness: NDArray[np.float32] = self._outlines[self._outline_rows[:, 5]]
        return objectness

    def similarities(self, queries: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(rows, q) float32: inner products of all vectors with each of the q queries (d,).

        Raises ValueError on a query that candidates read for comparison alone were not compared with."""
        return np.stack([self._products_with(query) for query in queries], axis=1)

    def image_similarities(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """(c,) float32: inner products of the images' own vectors with a query (d,). Raises as above."""
        own_rows = self.starts[:-1]
        known = self._image_products.get(_key(query))
        if known is not None:
            return known
        if self._vectors is None or _key(query) in self._products:
            return self._products_with(query)[own_rows]
        return inner_products([self._vectors[own_rows]], query)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Candidate]:
        return (self[place] for place in range(len(self)))

    @overload
    def __getitem__(self, place: int) -> Candidate: ...

    @overload
    def __getitem__(self, place: slice) -> list[Candidate]: ...

    def __getitem__(self, place: int | slice) -> Candidate | list[Candidate]:
        """Raises ValueError where `vectors` does."""
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        row, end = int(self.starts[place]), int(self.starts[place + 1])
        count = end - row - 1
        # Before this image, every row but the images' own was an entity with six numbers.
        entity = row - place
        outline = self._outlines[6 * entity :]
        return Candidate(
            number=self.numbers[place],
            image_id=self.image_ids[place],
            vectors=self.vectors[row:end],
            boxes=outline[: 4 * count].reshape(count, 4),
            areas=outline[4 * count : 5 * count],
            objectness=outline[5 * count : 6 * count],
            width=int(self.sizes[place, 0]),
            height=int(self.sizes[place, 1]),
            labels=None if self.labels is None else tuple(self.labels[entity : entity + count]),
        )

    @cached_property
    def _outline_rows(self) -> NDArray[np.int64]:
        """(entities, 6) int64: where in `_outlines` each entity has its box, area and objectness."""
        starts = self.entity_starts
        counts = np.repeat(np.diff(starts), np.diff(starts))
        first = np.repeat(starts[:-1], np.diff(starts))
        ordinal = np.arange(len(first)) - first
        box = 6 * first + 4 * ordinal
        area = 6 * first + 4 * counts + ordinal
        return np.stack([box, box + 1, box + 2, box + 3, area, area + counts], axis=1)

    def _products_with(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        known = self._products.get(_key(query))
        if known is not None:
            return known
        return inner_products([self.vectors], query)


def _parts_of(candidate: Candidate) -> CandidateParts:
    return CandidateParts(
        candidate.image_id,
        (candidate.width, candidate.height),
        candidate.vectors,
        np.concatenate([candidate.boxes.ravel(), candidate.areas, candidate.objectness]),
        candidate.labels,
    )


def _key(query: NDArray[np.float32]) -> bytes:
    return np.asarray(query, np.float32).tobytes()
