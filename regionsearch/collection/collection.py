"""One collection: records in LMDB, their vectors in an exact index.

INTERFACE SKETCH: the owner of this module completes it; names and signatures below stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.records import (
    Candidate, CollectionSpec, CollectionStats, ImageListing, ImageRecord, Neighbours, UpsertResult,
)


class Collection:
    @property
    def spec(self) -> CollectionSpec: raise NotImplementedError
    @property
    def stats(self) -> CollectionStats: raise NotImplementedError

    # writes (each returns when the LMDB transaction is on disk and the rows are searchable)
    def upsert(self, records: Sequence[ImageRecord]) -> list[UpsertResult]:
        """All or none. A repeated image_id within one call: the last wins. Raises InvalidRecord (names image and what does not fit), ReadOnly, StorageFull."""
        raise NotImplementedError
    def delete(self, image_ids: Sequence[str]) -> int:
        """Returns how many existed."""
        raise NotImplementedError
    def set_background(self, background: dict[str, Any]) -> None:
        """A JSON object kept with the collection (statistics for joint scoring), replaced atomically."""
        raise NotImplementedError

    # reads
    def background(self) -> dict[str, Any] | None: raise NotImplementedError
    def get(self, image_id: str, *, pixels: bool = False) -> ImageRecord:
        """Raises ImageNotFound, DataLoss."""
        raise NotImplementedError
    def records(self, numbers: Sequence[int]) -> list[ImageRecord | None]:
        """By image number; None for those that are gone."""
        raise NotImplementedError
    def contains(self, image_id: str) -> bool: raise NotImplementedError
    def content_hashes(self, image_ids: Sequence[str]) -> list[str | None]:
        """The stored content hash of each id, None where there is no such image."""
        raise NotImplementedError
    def find_content(self, content_hash: str) -> ImageRecord | None:
        """Any live image with these bytes, so that its entities and vectors can be copied."""
        raise NotImplementedError
    def list(self, page_size: int = 100, page_token: str = "", prefix: str = "") -> tuple[list[ImageListing], str]:
        """A page in the order of ids and the token of the next ("" at the end). Raises InvalidRequest on a bad token."""
        raise NotImplementedError
    def image_ids(self) -> Iterable[str]: raise NotImplementedError
    def pixels(self, image_id: str) -> bytes | None: raise NotImplementedError

    # search: exact, thread-safe, beside writes
    def search(self, vector: NDArray[np.float32], k: int) -> Neighbours:
        """Entity arm."""
        raise NotImplementedError
    def search_images(self, vector: NDArray[np.float32], k: int) -> Neighbours:
        """Global arm."""
        raise NotImplementedError
    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """In the order asked; images that are gone are left out."""
        raise NotImplementedError
    def sample_numbers(self, count: int, seed: int) -> NDArray[np.int64]:
        """A seeded sample, without repetition, of live image numbers."""
        raise NotImplementedError
