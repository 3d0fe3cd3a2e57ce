"""What an index of vectors does, whatever stands behind it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

ORDINAL_BITS = 16
IMAGE_ORDINAL = (1 << ORDINAL_BITS) - 1
"""The ordinal under which an image's own vector is indexed; entities have the ones below."""
MAX_IMAGE_NUMBER = (1 << (63 - ORDINAL_BITS)) - 1


def row_ids(number: int, count: int) -> NDArray[np.int64]:
    """The 63-bit ids of the first `count` entities of an image: number × 65,536 + ordinal."""
    return np.arange(count, dtype=np.int64) + (number << ORDINAL_BITS)


def image_row_id(number: int) -> int:
    """The 63-bit id of an image's own vector."""
    return (number << ORDINAL_BITS) | IMAGE_ORDINAL


def image_numbers(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The image that each row belongs to, a shift away."""
    return ids >> ORDINAL_BITS


def ordinals(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The entity's place in its image, `IMAGE_ORDINAL` for the image's own vector."""
    return ids & IMAGE_ORDINAL


class VectorIndex(Protocol):
    """Rows of one arm: (id, vector) pairs, searched by inner product.

    One thread changes an index; any number search it at the same time, and each search sees the rows
    as they were between two changes, never half of one.
    """

    def __len__(self) -> int:
        """Live rows."""

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """ids (n,) ascending and above all earlier ones, as image numbers only grow; vectors (n, d)."""

    def delete(self, numbers: NDArray[np.int64]) -> None:
        """All rows of these images; numbers that have none are passed over."""

    def replace(
        self, numbers: NDArray[np.int64], ids: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> None:
        """`delete` and `add` as one change: no search sees the old rows gone and the new ones missing."""

    def search(self, vector: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k live rows of the largest inner product with `vector` (d,), fewer when there are fewer.

        Returns ids and exact similarities, best first; equal similarities in the order of their ids,
        also where k cuts through them.
        """

    def live_images(self) -> NDArray[np.int64]:
        """Numbers of the images that have live rows, ascending."""
