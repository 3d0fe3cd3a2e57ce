"""Liked and disliked examples move a query.

Rocchio's rule (Rocchio 1971, in Salton's The SMART Retrieval System; equation 9.3 and the constants after
it in Manning, Raghavan and Schütze 2008, Introduction to Information Retrieval): the query's vector, plus a
share of the mean of what was liked, less a smaller share of the mean of what was not; here brought back to
unit length. Examples bring pixels: words that come with liked ones stay as they are and keep their own
signals, and what the examples have in common is what entities and images are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import InvalidRequest

Vector = NDArray[np.float32]
Vectors = NDArray[np.float32]

QUERY_SHARE = 1.0
LIKED_SHARE = 0.75
DISLIKED_SHARE = 0.15
"""Manning et al. call 1, 0.75 and 0.15 reasonable values: what is liked says more than what is not."""
LEAST_LENGTH = 1e-3
"""Of a moved vector, where the examples are unit vectors: a shorter one is what rounding left over."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Unit vectors of n examples. entities: (n, d) of the entity that is meant, or of its image when none
    is. images: (n, d) of its image."""

    entities: Vectors
    images: Vectors

    @staticmethod
    def none(dimension: int) -> Examples:
        nothing = np.empty((0, dimension), np.float32)
        return Examples(nothing, nothing)

    def __len__(self) -> int:
        return len(self.entities)


def moved(vector: Vector | None, liked: Vectors, disliked: Vectors) -> Vector:
    """(d,) the unit vector of a query after its examples; vector: None when examples are all there is.

    Raises InvalidRequest when they leave nothing.
    """
    total = np.zeros(liked.shape[1], np.float64)
    if vector is not None:
        total += QUERY_SHARE * vector.astype(np.float64)
    if len(liked):
        total += LIKED_SHARE * liked.mean(axis=0, dtype=np.float64)
    if len(disliked):
        total -= DISLIKED_SHARE * disliked.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(total))
    if length < LEAST_LENGTH:
        raise InvalidRequest(
            "the examples cancel each other out: nothing is left to search with", field="liked"
        )
    return (total / length).astype(np.float32)


def moved_regions(regions: Vectors, liked: Vectors, disliked: Vectors) -> Vectors:
    """(r, d) as `moved`, one region at least. Of several regions each example moves the one that it is most
    like: what is said about the dog should not bend the ball."""
    meant = _nearest(regions, liked), _nearest(regions, disliked)
    return np.stack(
        [
            moved(region, liked[meant[0] == number], disliked[meant[1] == number])
            if (meant[0] == number).any() or (meant[1] == number).any()
            else region
            for number, region in enumerate(regions)
        ]
    )


def _nearest(regions: Vectors, examples: Vectors) -> NDArray[np.int64]:
    """(n,) the region that each example is most like; of equally like ones the first."""
    nearest: NDArray[np.int64] = (examples @ regions.T).argmax(axis=1)
    return nearest


def unit_sum(vectors: Sequence[Vector]) -> Vector:
    """What an arm is asked with for several things at once: the unit vector of their sum; of vectors that
    cancel out, the first."""
    total = np.stack(vectors).astype(np.float64).sum(axis=0)
    length = float(np.linalg.norm(total))
    if length < LEAST_LENGTH:
        return vectors[0]
    unit: Vector = (total / length).astype(np.float32)
    return unit
