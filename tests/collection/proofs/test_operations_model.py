"""Random operations with restarts against a dictionary and brute force."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filters_by_hand import Filter, random_filter, random_payload
from numpy.typing import NDArray
from stored_images import assert_same_image, record, spec, unit_vectors

from regionsearch.collection import DataDirectory, ImageRecord, snapshots
from regionsearch.collection.records import IndexedField
from regionsearch.collection.segments.upkeep import UpkeepSettings
from regionsearch.errors import VersionMismatch

IMAGES = 400
FIELDS = (
    IndexedField("serial", "number"),
    IndexedField("year", "number"),
    IndexedField("place", "string"),
    IndexedField("tags", "string"),
    IndexedField("outdoors", "boolean"),
)
LEAST_RECALL = 0.95


class Oracle:
    """What the collection should hold: obviously right, and slow."""

    def __init__(self) -> None:
        self.images: dict[str, ImageRecord] = {}
        self._rows: tuple[list[tuple[ImageRecord, int]], NDArray[np.float32]] | None = None

    def put(self, image: ImageRecord, number: int, version: int) -> None:
        self.images[image.image_id] = _with(image, number=number, version=version)
        self._rows = None

    def delete(self, image_ids: list[str]) -> int:
        existing = [image_id for image_id in dict.fromkeys(image_ids) if image_id in self.images]
        for image_id in existing:
            del self.images[image_id]
        self._rows = None
        return len(existing)

    def version(self, image_id: str) -> int:
        return self.images[image_id].version if image_id in self.images else 0

    def matching(self, asked: Filter) -> list[tuple[ImageRecord, int]]:
        return [row for row in self.rows()[0] if asked.means(*row)]

    def matching_ids(self, asked: Filter) -> list[str]:
        return sorted({image.image_id for image, _ in self.matching(asked)}, key=str.encode)

    def rows(self) -> tuple[list[tuple[ImageRecord, int]], NDArray[np.float32]]:
        if self._rows is None:
            rows = [(image, each) for image in self.images.values() for each in range(len(image.entities))]
            vectors = [image.vectors[1 + each] for image, each in rows]
            self._rows = rows, np.array(vectors)
        return self._rows


class Walk:
    """A collection and its oracle, changed and compared."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.folder = folder
        self.oracle = Oracle()
        self.directory = self._open()
        self.collection = self.directory.create_collection(spec())
        self.found = 0
        self.missed = 0
        self.searches = 0
        self.keys = 0

    def _open(self) -> DataDirectory:
        return DataDirectory(self.folder / "data", "write", upkeep=UpkeepSettings.small())

    def step(self) -> None:
        kinds: dict[Any, float] = {
            self.upsert: 0.42,
            self.delete: 0.1,
            self.update_payload: 0.15,
            self.delete_matching: 0.02,
            self.refused: 0.05,
            self.seal: 0.03,
            self.compact: 0.01,
            self.declare: 0.01,
            self.reopen: 0.02,
            self.search: 0.19,
        }
        chosen = self.random.choice(len(kinds), p=list(kinds.values()))
        list(kinds)[chosen]()

    # what is done

    def upsert(self) -> None:
        batch = [self._record(image_id) for image_id in self._ids(int(self.random.integers(1, 6)))]
        options: dict[str, Any] = {}
        if self.random.random() < 0.2:
            options["if_versions"] = {each.image_id: self.oracle.version(each.image_id) for each in batch}
        if self.random.random() < 0.2:
            self.keys += 1
            options["idempotency_key"] = f"key {self.keys}"
        results = self.collection.upsert(batch, **options)
        for each, result in zip(batch, results, strict=True):
            assert result.created == (each.image_id not in self.oracle.images)
            assert result.version == self.oracle.version(each.image_id) + 1
            self.oracle.put(each, result.number, result.version)
        if "idempotency_key" in options:
            assert self.collection.upsert(batch, **options) == results

    def delete(self) -> None:
        doomed = self._ids(int(self.random.integers(1, 4)))
        assert self.collection.delete(doomed) == self.oracle.delete(doomed)

    def update_payload(self) -> None:
        image_id = self._ids(1)[0]
        if image_id not in self.oracle.images:
            return
        before = self.oracle.images[image_id]
        merge = bool(self.random.integers(2))
        change = random_payload(self.random, int(before.payload["serial"]))
        result = self.collection.update_payload(image_id, change, merge=merge)
        assert (result.number, result.version) == (before.number, before.version + 1)
        payload = {**before.payload, **change} if merge else change
        self.oracle.put(_with(before, payload=payload), result.number, result.version)

    def delete_matching(self) -> None:
        asked = random_filter(self.random, self._serial())
        doomed = self.oracle.matching_ids(asked)
        if len(doomed) > len(self.oracle.images) // 4:
            return  # the store should stay large
        assert self.collection.delete_matching(asked.text) == self.oracle.delete(doomed)

    def refused(self) -> None:
        image_id = self._ids(1)[0]
        wrong = {image_id: self.oracle.version(image_id) + 1}
        with pytest.raises(VersionMismatch):
            self.collection.upsert([self._record(image_id)], if_versions=wrong)
        with pytest.raises(VersionMismatch):
            self.collection.delete([image_id], if_versions=wrong)

    def seal(self) -> None:
        self.collection.seal()

    def compact(self) -> None:
        self.collection.compact()

    def declare(self) -> None:
        some = [field for field in FIELDS if self.random.random() < 0.5]
        self.collection.update(indexed_fields=some)

    def reopen(self) -> None:
        self.directory.close()
        self.directory = self._open()
        self.collection = self.directory.collection("photos")

    # what is compared

    def search(self) -> None:
        asked = random_filter(self.random, self._serial()) if self.random.random() < 0.7 else None
        rows, vectors = self.oracle.rows()
        may = [asked is None or asked.means(*row) for row in rows]
        query = self._query()
        similarities = np.where(may, vectors @ query, -np.inf) if rows else np.empty(0)
        k = int(self.random.choice([1, 10, 10, 50, 3000]))
        matching = None if asked is None else self.collection.matching(asked.text)
        if matching is not None:
            assert matching.entity_count == sum(may), asked
        found = self.collection.search(query, k, matching)
        allowed = {
            (image.number, each): similarity
            for (image, each), similarity in zip(rows, similarities.tolist(), strict=True)
            if similarity > -np.inf
        }
        got = list(zip(found.numbers.tolist(), found.ordinals.tolist(), strict=True))
        assert len(got) == min(k, len(allowed)) == len(set(got)), asked
        assert set(got) <= set(allowed), asked
        np.testing.assert_allclose(found.similarities, [allowed[row] for row in got], atol=2e-6)
        assert (np.diff(found.similarities) <= 0).all()
        if got:
            last = sorted(allowed.values(), reverse=True)[len(got) - 1]
            missed = sum(similarity < last - 1e-5 for similarity in found.similarities.tolist())
            self.missed += missed
            self.found += len(got) - missed
        self.searches += 1

    def compare(self) -> None:
        oracle, collection = self.oracle, self.collection
        ids = sorted(oracle.images, key=str.encode)
        assert list(collection.image_ids()) == ids
        stats = collection.stats
        assert stats.images == len(ids)
        assert stats.entities == len(oracle.rows()[0])
        for image_id in self._ids(20):
            assert collection.contains(image_id) == (image_id in oracle.images)
            if image_id in oracle.images:
                stored = collection.get(image_id)
                assert_same_image(stored, oracle.images[image_id])
                assert stored.version == oracle.images[image_id].version
        asked = random_filter(self.random, self._serial())
        expected = oracle.matching_ids(asked)
        listed, token = collection.list(100, where=asked.text)
        while token:
            page, token = collection.list(100, token, where=asked.text)
            listed += page
        assert [each.image_id for each in listed] == expected, asked
        count = collection.count(asked.text)
        assert (count.images, count.entities) == (len(expected), len(oracle.matching(asked)))
        everything = collection.search_images(self._query(), IMAGES)
        assert sorted(everything.numbers.tolist()) == sorted(each.number for each in oracle.images.values())

    def compare_a_snapshot(self) -> None:
        path = self.folder / "snapshot.tar"
        snapshots.create(self.directory, "photos", path)
        restored = snapshots.restore(self.directory, path, name="restored")
        ids = list(self.oracle.images)
        assert sorted(restored.image_ids()) == sorted(ids)
        for image_id in ids:
            assert_same_image(restored.get(image_id), self.oracle.images[image_id])
        query = self._query()
        ours, theirs = self.collection.search(query, 10), restored.search(query, 10)
        np.testing.assert_allclose(ours.similarities, theirs.similarities, atol=1e-6)
        self.directory.drop_collection("restored")
        path.unlink()

    def _ids(self, count: int) -> list[str]:
        numbers = self.random.choice(IMAGES, size=count, replace=False)
        return [f"{number % 7}/{number}.jpg" for number in numbers]

    def _serial(self) -> int:
        return int(self.random.integers(IMAGES))

    def _record(self, image_id: str) -> ImageRecord:
        serial = int(image_id.partition("/")[2].removesuffix(".jpg"))
        return record(self.random, image_id, payload=random_payload(self.random, serial))

    def _query(self) -> NDArray[np.float32]:
        return unit_vectors(self.random, 1)[0]


def _with(image: ImageRecord, **changes: Any) -> ImageRecord:
    values = {name: getattr(image, name) for name in ImageRecord.__dataclass_fields__}
    return ImageRecord(**(values | changes))


@pytest.fixture
def operations(request: pytest.FixtureRequest) -> int:
    """--operations N; otherwise 2,000, and 10,000 with --slow."""
    given: int | None = request.config.getoption("--operations")
    return given or (10_000 if request.config.getoption("--slow") else 2_000)


def test_any_operations_leave_what_a_dictionary_would_hold(tmp_path: Path, operations: int) -> None:
    seed = 52_025
    print(f"seed {seed}, {operations} operations")
    walk = Walk(tmp_path, seed)
    for step in range(operations):
        walk.step()
        if step % 100 == 99:
            walk.compare()
        if step % 1_000 == 999:
            walk.compare_a_snapshot()
    recall = walk.found / (walk.found + walk.missed)
    print(f"{walk.searches} searches, recall {recall:.4f}, segments {len(walk.collection.stats.segments)}")
    assert recall >= LEAST_RECALL
    walk.directory.close()
    shutil.rmtree(tmp_path)
