"""What a collection with segments should answer, and what lies on its disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from stored_images import record, unit_vectors

from regionsearch.collection import Collection, ImageRecord


class Oracle:
    """What the collection holds: number and record by id."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.images: dict[str, tuple[int, ImageRecord]] = {}

    def upsert(self, collection: Collection, ids: list[str]) -> None:
        records = [record(self.random, image_id) for image_id in dict.fromkeys(ids)]
        for result, each in zip(collection.upsert(records), records, strict=True):
            self.images[each.image_id] = (result.number, each)

    def delete(self, collection: Collection, ids: list[str]) -> None:
        there = {image_id for image_id in ids if image_id in self.images}
        assert collection.delete(ids) == len(there)
        for image_id in there:
            del self.images[image_id]

    def assert_found(self, collection: Collection, k: int = 10) -> None:
        """Both arms, in the order of a sort, with exact similarities."""
        query = unit_vectors(self.random, 1)[0]
        for found, whole in (
            (collection.search(query, k), False),
            (collection.search_images(query, k), True),
        ):
            rows = [
                (-float(vector.astype(np.float64) @ query), number, ordinal)
                for number, each in self.images.values()
                for ordinal, vector in enumerate(each.vectors[:1] if whole else each.vectors[1:])
            ]
            best = sorted(rows)[:k]
            got = list(zip(found.numbers.tolist(), found.ordinals.tolist(), strict=True))
            assert got == [(number, ordinal) for _, number, ordinal in best]
            np.testing.assert_allclose(found.similarities, [-each[0] for each in best], atol=2e-6)


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.01)


def segment_files(path: Path) -> list[Path]:
    return sorted(file for file in (path / "segments").rglob("*") if file.is_file())


def some_ids(random: np.random.Generator, count: int, of: int = 120) -> list[str]:
    return [f"{each}.jpg" for each in random.integers(of, size=count).tolist()]
