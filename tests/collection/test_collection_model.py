"""Random operations on a collection against a dictionary and a sort."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from stored_images import DIMENSION, assert_same_image, record, spec, unit_vectors

from regionsearch.collection import Collection, DataDirectory, ImageRecord, Neighbours
from regionsearch.errors import ImageNotFound

OPERATIONS = 250
IDS = [f"{folder}/{number}.jpg" for folder in ("a", "b", "ä") for number in range(12)]


class Oracle:
    """What the collection should hold: obviously right, and slow."""

    def __init__(self) -> None:
        self.images: dict[str, tuple[ImageRecord, int, int]] = {}  # record, number, version
        self.next_number = 1

    def upsert(self, records: list[ImageRecord]) -> dict[str, tuple[int, int]]:
        last = {each.image_id: each for each in records}
        for image_id, each in last.items():
            version = self.images[image_id][2] + 1 if image_id in self.images else 1
            self.images[image_id] = (each, self.next_number, version)
            self.next_number += 1
        return {image_id: self.images[image_id][1:] for image_id in last}

    def nearest(
        self, vector: NDArray[np.float32], k: int, *, whole_images: bool
    ) -> list[tuple[int, int, float]]:
        rows = [
            (number, ordinal, float(row.astype(np.float64) @ vector))
            for each, number, _ in self.images.values()
            for ordinal, row in enumerate(each.vectors[:1] if whole_images else each.vectors[1:])
        ]
        # Equal vectors have equal similarities; rounding tells apart only what is really apart.
        return sorted(rows, key=lambda row: (-round(row[2], 5), row[0], row[1]))[:k]


def assert_same_neighbours(found: Neighbours, expected: list[tuple[int, int, float]]) -> None:
    got = list(zip(found.numbers.tolist(), found.ordinals.tolist(), strict=True))
    assert got == [(number, ordinal) for number, ordinal, _ in expected]
    np.testing.assert_allclose(found.similarities, [each[2] for each in expected], atol=2e-6)


def assert_agrees(collection: Collection, oracle: Oracle, random: np.random.Generator) -> None:
    """One reading of everything that a caller can see."""
    ids = sorted(oracle.images, key=str.encode)
    page_size = int(random.integers(1, 9))
    listed, token = collection.list(page_size)
    while token:
        assert len(listed) % page_size == 0
        page, token = collection.list(page_size, token)
        listed += page
    assert [each.image_id for each in listed] == ids
    assert [each.image_id for each in collection.list(1000, prefix="ä/")[0]] == [
        image_id for image_id in ids if image_id.startswith("ä/")
    ]
    assert list(collection.image_ids()) == ids
    stats = collection.stats
    assert stats.images == len(ids)
    assert stats.entities == sum(len(each.entities) for each, *_ in oracle.images.values())
    some = [IDS[index] for index in random.integers(len(IDS), size=5)]
    for image_id in some:
        assert collection.contains(image_id) == (image_id in oracle.images)
        if image_id not in oracle.images:
            with pytest.raises(ImageNotFound):
                collection.get(image_id)
            continue
        given, number, version = oracle.images[image_id]
        stored = collection.get(image_id, pixels=True)
        assert_same_image(stored, given)
        assert (stored.number, stored.version, stored.pixels) == (number, version, given.pixels)
        by_content = collection.find_content(given.content_hash)
        assert by_content is not None
        assert by_content.content_hash == given.content_hash
    for image_id in some:
        given = oracle.images[image_id][0] if image_id in oracle.images else None
        assert not collection.is_stored(image_id, "ab" * 32)
        if given is not None:
            assert collection.is_stored(image_id, given.content_hash)
    known = [number for _, number, _ in oracle.images.values()]
    assert sorted(collection.sample_numbers(10**6, 3).tolist()) == sorted(known)
    for candidate in collection.candidates(known[::-1]):
        given, number, _ = oracle.images[candidate.image_id]
        assert candidate.number == number
        np.testing.assert_array_equal(candidate.vectors, given.vectors)
        np.testing.assert_array_equal(candidate.boxes, given.entities.boxes)
        np.testing.assert_array_equal(candidate.areas, given.entities.areas)
        np.testing.assert_array_equal(candidate.objectness, given.entities.objectness)
    vector = unit_vectors(random, 1)[0]
    for k in (1, 7, 1000):
        assert_same_neighbours(collection.search(vector, k), oracle.nearest(vector, k, whole_images=False))
        assert_same_neighbours(
            collection.search_images(vector, k), oracle.nearest(vector, k, whole_images=True)
        )


@pytest.mark.parametrize("seed", [1, 2])
def test_any_sequence_of_operations_leaves_what_a_dictionary_would_hold(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    random = np.random.default_rng(seed)
    oracle = Oracle()
    directory = DataDirectory(tmp_path / "data", "write")
    collection = directory.create_collection(spec())
    # Vectors from a small stock, so that equal similarities are common.
    stock = unit_vectors(random, 40)
    generation = collection.stats.generation
    for step in range(OPERATIONS):
        kind = random.choice(
            ["upsert", "upsert", "upsert", "delete", "reopen"], p=[0.4, 0.2, 0.1, 0.25, 0.05]
        )
        if kind == "upsert":
            batch = []
            for image_id in random.choice(IDS, size=random.integers(1, 5)).tolist():
                count = int(random.integers(1, 5))
                vectors = stock[random.integers(len(stock), size=1 + count)]
                pixels = random.bytes(20) if random.random() < 0.5 else None
                batch.append(record(random, image_id, entities=count, vectors=vectors, pixels=pixels))
            before = set(oracle.images)
            expected = oracle.upsert(batch)
            for result, each in zip(collection.upsert(batch), batch, strict=True):
                assert (result.image_id, result.created) == (each.image_id, each.image_id not in before)
                assert (result.number, result.version) == expected[each.image_id]
        elif kind == "delete":
            doomed = random.choice(IDS, size=random.integers(1, 4)).tolist()
            existing = {image_id for image_id in doomed if image_id in oracle.images}
            assert collection.delete(doomed) == len(existing)
            for image_id in existing:
                del oracle.images[image_id]
        else:
            directory.close()
            directory = DataDirectory(tmp_path / "data", "write")
            collection = directory.collection("photos")
        assert collection.stats.generation >= generation
        generation = collection.stats.generation
        if step % 4 == 0 or kind == "reopen":
            assert_agrees(collection, oracle, random)
    collection.delete(IDS)
    assert collection.stats.bytes == 0
    assert len(collection.search(unit_vectors(random, 1)[0], 5).numbers) == 0
    directory.close()
    assert collection.spec.embedder.dimension == DIMENSION
