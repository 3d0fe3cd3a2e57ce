"""What joint scoring reads of many images at once, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.inner_products import inner_products


@dataclass(frozen=True, eq=False)
class Candidate:
    """What joint scoring reads of an image in one LMDB read: vectors (1 + n, d) float32 and areas,
    boxes, objectness of its n entities, without masks or payload."""

    number: int
    image_id: str
    vectors: NDArray[np.float32]
    boxes: NDArray[np.float32]
    areas: NDArray[np.float32]
    objectness: NDArray[np.float32]


class Candidates(Sequence[Candidate]):
    """c images, their arrays one after the other, so that they are scored in a few array operations.

    numbers: of the images. image_ids: likewise. vectors: (rows, d) float32, for each image its own
    vector, then those of its entities. starts: (c + 1,) int64, the row of each image's own vector, and
    the number of rows. outlines: (6 × entities,) float32, for each image the boxes (n, 4), the areas (n,)
    and the objectness (n,) of its entities.
    """

    def __init__(
        self,
        numbers: Sequence[int],
        image_ids: Sequence[str],
        vectors: NDArray[np.float32],
        starts: NDArray[np.int64],
        outlines: NDArray[np.float32],
    ) -> None:
        self.numbers = list(numbers)
        self.image_ids = list(image_ids)
        self.vectors = vectors
        self.starts = starts
        self._outlines = outlines

    @staticmethod
    def of(candidates: Sequence[Candidate]) -> Candidates:
        """From at least one image, one by one."""
        lengths = [len(each.vectors) for each in candidates]
        return Candidates(
            [each.number for each in candidates],
            [each.image_id for each in candidates],
            np.concatenate([each.vectors for each in candidates]),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.concatenate(
                [part for each in candidates for part in (each.boxes.ravel(), each.areas, each.objectness)]
            ),
        )

    def similarities(self, queries: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(rows, q) float32: inner products of all vectors with each of the q queries (d,)."""
        return np.stack([inner_products([self.vectors], query) for query in queries], axis=1)

    def image_similarities(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """(c,) float32: inner products of the images' own vectors with a query (d,)."""
        return inner_products([self.vectors[self.starts[:-1]]], query)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Candidate]:
        return (self[place] for place in range(len(self)))

    @overload
    def __getitem__(self, place: int) -> Candidate: ...

    @overload
    def __getitem__(self, place: slice) -> list[Candidate]: ...

    def __getitem__(self, place: int | slice) -> Candidate | list[Candidate]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        row, end = int(self.starts[place]), int(self.starts[place + 1])
        count = end - row - 1
        # Before this image, every row but the images' own was an entity with six numbers.
        outline = self._outlines[6 * (row - place) :]
        return Candidate(
            number=self.numbers[place],
            image_id=self.image_ids[place],
            vectors=self.vectors[row:end],
            boxes=outline[: 4 * count].reshape(count, 4),
            areas=outline[4 * count : 5 * count],
            objectness=outline[5 * count : 6 * count],
        )
