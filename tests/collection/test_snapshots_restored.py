"""A restored collection is the one that was there when its snapshot was taken."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
from stored_images import assert_same_image, record, spec, unit_vectors

from regionsearch.collection import Collection, DataDirectory, snapshots
from regionsearch.collection.records import IndexedField, IndexWish
from regionsearch.errors import (
    Cancelled,
    CollectionExists,
    CollectionNotFound,
    InvalidRequest,
    ReadOnly,
    SnapshotExists,
    SnapshotNotFound,
)

SHAPES = ("snapshot", "snapshot.tar")


def fill(collection: Collection, seed: int, images: int = 40) -> None:
    """With replaced, deleted and updated images, and pictures."""
    random = np.random.default_rng(seed)
    ids = [f"{number:03}" for number in range(images)]
    collection.upsert([record(random, image_id, pixels=random.bytes(300)) for image_id in ids])
    collection.upsert([record(random, image_id, content_hash="") for image_id in ids[::5]])
    collection.delete(ids[::7])
    collection.set_background({"mean": 0.5, "version": 3})


def assert_same_collection(one: Collection, other: Collection) -> None:
    """Records, pictures, listings, backgrounds and answers, and what searches find by brute force."""
    assert list(one.image_ids()) == list(other.image_ids())
    vectors, names = [], []
    for image_id in one.image_ids():
        ours, theirs = one.get(image_id, pixels=True), other.get(image_id, pixels=True)
        assert_same_image(ours, theirs)
        assert (ours.number, ours.version, ours.updated, ours.pixels) == (
            theirs.number,
            theirs.version,
            theirs.updated,
            theirs.pixels,
        )
        vectors.append(ours.vectors[1:])
        names += [(ours.number, place) for place in range(len(ours.vectors) - 1)]
    assert one.list(1000) == (other.list(1000)[0], "")
    assert one.background() == other.background()
    assert dataclasses.replace(one.stats, name="", fill=0) == dataclasses.replace(
        other.stats, name="", fill=0
    )
    query = unit_vectors(np.random.default_rng(9), 1)[0]
    found = other.search(query, 10)
    best = np.argsort(-(np.concatenate(vectors) @ query), kind="stable")[:10]
    assert [names[place] for place in best] == list(
        zip(found.numbers.tolist(), found.ordinals.tolist(), strict=True)
    )
    np.testing.assert_array_equal(one.search(query, 10).similarities, found.similarities)
    np.testing.assert_array_equal(one.search_images(query, 9).numbers, other.search_images(query, 9).numbers)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_restored_collection_is_the_original_under_its_name_or_another(tmp_path: Path, shape: str) -> None:
    path = tmp_path / shape
    probe = unit_vectors(np.random.default_rng(0), 1)[0]
    wishes = spec(
        pixels="original",
        probe=probe,
        indexed_fields=(IndexedField("year", "number"),),
        index=IndexWish(0.9, "speed"),
    )
    with DataDirectory(tmp_path / "data", "write") as directory:
        photos = directory.create_collection(wishes)
        fill(photos, seed=1)
        info = snapshots.create(directory, "photos", path)
        stats = photos.stats
        assert (info.collection, info.images, info.entities, info.generation) == (
            "photos",
            stats.images,
            stats.entities,
            stats.generation,
        )
        assert snapshots.verify(path).ok
        copy = snapshots.restore(directory, path, name="copy")
        assert_same_collection(photos, copy)
        assert copy.spec.name == "copy"
        copy.upsert([record(np.random.default_rng(2), "new", pixels=b"new")])
        assert not photos.contains("new")
        with DataDirectory(tmp_path / "elsewhere", "write") as other:
            moved = snapshots.restore(other, path)
            assert_same_collection(photos, moved)
            restored, original = moved.spec, photos.spec
            np.testing.assert_array_equal(restored.probe, probe)
            assert dataclasses.replace(restored, probe=None) == dataclasses.replace(original, probe=None)
    with (
        DataDirectory(tmp_path / "data", "read") as directory,
        DataDirectory(tmp_path / "elsewhere", "read") as other,
    ):
        assert_same_collection(directory.collection("photos"), other.collection("photos"))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_snapshot_holds_one_moment_while_writes_go_on(tmp_path: Path, shape: str) -> None:
    """Each write replaces a pair of images with equal payloads: a snapshot never holds half of one."""
    random = np.random.default_rng(3)
    with DataDirectory(tmp_path / "data", "write") as directory:
        photos = directory.create_collection(spec())
        photos.upsert([record(random, f"{number:03}") for number in range(60)])
        over = threading.Event()

        def write() -> None:
            own = np.random.default_rng(4)
            turn = 0
            while not over.is_set():
                turn += 1
                photos.upsert([record(own, name, payload={"turn": turn}) for name in ("000", "059")])

        photos.upsert([record(random, name, payload={"turn": 0}) for name in ("000", "059")])
        thread = threading.Thread(target=write)
        thread.start()
        try:
            for number in range(5):
                path = tmp_path / f"{number}-{shape}"
                snapshots.create(directory, "photos", path)
                taken = snapshots.restore(directory, path, name=f"copy-{number}")
                first, last = taken.get("000"), taken.get("059")
                assert (first.payload, first.updated) == (last.payload, last.updated)
                assert taken.stats.images == 60
        finally:
            over.set()
            thread.join()


def test_a_snapshot_is_taken_beside_the_writer_of_another_open(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data", "write") as directory:
        fill(directory.create_collection(spec(pixels="original")), seed=1)
        directory.set_alias("newest", "photos")
        with DataDirectory(tmp_path / "data", "read") as reading:
            snapshots.create(reading, "newest", tmp_path / "one.tar")
            with pytest.raises(ReadOnly):
                snapshots.restore(reading, tmp_path / "one.tar", name="copy")
        assert_same_collection(
            directory.collection("photos"), snapshots.restore(directory, tmp_path / "one.tar", name="copy")
        )
        assert snapshots.describe(tmp_path / "one.tar").collection == "photos"


def test_an_empty_collection_and_one_of_large_records_come_back(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    with DataDirectory(tmp_path / "data", "write") as directory:
        directory.create_collection(spec("empty"))
        large = directory.create_collection(spec("large", dimension=2_000))
        large.upsert([record(random, f"{number}", entities=900, dimension=2_000) for number in range(4)])
        for name in ("empty", "large"):
            snapshots.create(directory, name, tmp_path / f"{name}.tar")
            restored = snapshots.restore(directory, tmp_path / f"{name}.tar", name=f"{name}-again")
            original = directory.collection(name)
            assert list(restored.image_ids()) == list(original.image_ids())
            for image_id in original.image_ids():
                assert_same_image(restored.get(image_id), original.get(image_id))
        assert (tmp_path / "large.tar").stat().st_size > 2 * 16 << 20 >> 1  # several files of rows


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_written_over_and_a_name_in_use_is_given_up_only_when_that_is_said(
    tmp_path: Path, shape: str
) -> None:
    path = tmp_path / shape
    with DataDirectory(tmp_path / "data", "write") as directory:
        photos = directory.create_collection(spec(pixels="original"))
        fill(photos, seed=1)
        snapshots.create(directory, "photos", path)
        with pytest.raises(SnapshotExists, match=shape):
            snapshots.create(directory, "photos", path)
        directory.set_alias("pictures", "photos")
        with pytest.raises(CollectionExists, match="'photos' exists already"):
            snapshots.restore(directory, path)
        with pytest.raises(CollectionExists, match="'pictures' is an alias"):
            snapshots.restore(directory, path, name="pictures", replace=True)
        with pytest.raises(InvalidRequest, match="name"):
            snapshots.restore(directory, path, name="../up")
        photos.delete(list(photos.image_ids()))
        restored = snapshots.restore(directory, path, replace=True)
        with pytest.raises(CollectionNotFound, match="dropped"):
            photos.get("001")
        assert directory.collection("pictures") is restored
        assert restored.stats.images == snapshots.describe(path).images > 30
        environment = directory.environment
        with environment.transaction() as transaction:
            rows = transaction.stat(environment.database("records"))["entries"]
        assert rows == restored.stats.images  # the one that gave way is freed


def test_a_restore_or_snapshot_that_is_called_off_leaves_nothing(tmp_path: Path) -> None:
    def asked(times: int) -> snapshots.Check:
        left = [times]

        def check() -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Cancelled("called off")

        return check

    with DataDirectory(tmp_path / "data", "write") as directory:
        fill(directory.create_collection(spec(pixels="original")), seed=1)
        snapshots.create(directory, "photos", tmp_path / "whole")
        for shape in SHAPES:
            for times in (0, 1):
                with pytest.raises(Cancelled):
                    snapshots.create(directory, "photos", tmp_path / "other" / shape, check=asked(times))
                assert list((tmp_path / "other").iterdir()) == []
        shares: list[float] = []
        snapshots.restore(directory, tmp_path / "whole", name="a", progress=shares.append)
        assert shares == sorted(shares)
        assert (shares[0] >= 0, shares[-1]) == (True, 1.0)
        environment = directory.environment
        for times in range(3):
            with pytest.raises(Cancelled):
                snapshots.restore(directory, tmp_path / "whole", name="b", check=asked(times))
            with environment.transaction() as transaction:
                rows = transaction.stat(environment.database("ids"))["entries"]
                assert transaction.stat(environment.database("dropped"))["entries"] == 0
            assert rows == 2 * directory.collection("photos").stats.images
        assert directory.collection_names() == ["a", "photos"]


def test_snapshots_in_a_folder_are_found_and_removed(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data", "write") as directory:
        fill(directory.create_collection(spec(pixels="original")), seed=1)
        for name in ("b.tar", "a"):
            snapshots.create(directory, "photos", tmp_path / "kept" / name)
    (tmp_path / "kept" / "notes.tar").write_text("no tar")
    (tmp_path / "kept" / "c").mkdir()
    assert [info.path.name for info in snapshots.find(tmp_path / "kept")] == ["a", "b.tar"]
    for name in ("a", "b.tar"):
        snapshots.remove(tmp_path / "kept" / name)
        with pytest.raises(SnapshotNotFound):
            snapshots.remove(tmp_path / "kept" / name)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["c", "notes.tar"]
    with pytest.raises(SnapshotNotFound, match="folder"):
        snapshots.find(tmp_path / "none")


def test_a_snapshot_inside_the_data_directory_is_refused(tmp_path: Path) -> None:
    """Opening for writing sweeps the folders of segments, and a snapshot there with them."""
    data = tmp_path / "data"
    (tmp_path / "link").symlink_to(data)
    with DataDirectory(data, "write") as directory:
        fill(directory.create_collection(spec(pixels="original")), seed=1)
        before = sorted(path.name for path in data.iterdir())
        for place in ("segments/9", "snapshot", "catalog/one.tar", "../link/one.tar", ""):
            with pytest.raises(InvalidRequest, match="inside the data directory"):
                snapshots.create(directory, "photos", data / place)
        assert sorted(path.name for path in data.iterdir()) == before


def test_what_is_no_unfinished_snapshot_is_not_removed_to_make_room_for_one(tmp_path: Path) -> None:
    (tmp_path / "one.partial").mkdir()
    (tmp_path / "one.partial" / "thesis.txt").write_text("three years")
    (tmp_path / "two.tar.partial").write_text("a film, half downloaded")
    with DataDirectory(tmp_path / "data", "write") as directory:
        fill(directory.create_collection(spec(pixels="original")), seed=1)
        for name in ("one", "two.tar"):
            with pytest.raises(SnapshotExists, match="in the way"):
                snapshots.create(directory, "photos", tmp_path / name)
    assert (tmp_path / "one.partial" / "thesis.txt").read_text() == "three years"
    assert (tmp_path / "two.tar.partial").read_text() == "a film, half downloaded"


def test_removing_a_link_to_a_snapshot_removes_the_snapshot(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data", "write") as directory:
        fill(directory.create_collection(spec(pixels="original")), seed=1)
        for shape in SHAPES:
            snapshots.create(directory, "photos", tmp_path / "kept" / shape)
            (tmp_path / shape).symlink_to(tmp_path / "kept" / shape)
            snapshots.remove(tmp_path / shape)
    assert list((tmp_path / "kept").iterdir()) == []
