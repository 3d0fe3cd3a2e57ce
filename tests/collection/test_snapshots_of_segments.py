"""Index segments go with a snapshot; what is lost of them is made again."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from stored_images import record, spec, unit_vectors

from regionsearch.collection import Collection, DataDirectory, snapshots
from regionsearch.collection.segment_folders import segment_folder
from regionsearch.collection.segments.upkeep import UpkeepSettings
from regionsearch.collection.snapshots.manifest import Manifest

QUIET = UpkeepSettings.small(background=False)


def with_segments(directory: DataDirectory) -> Collection:
    """Several segments with dead rows in them, and fresh rows above."""
    random = np.random.default_rng(1)
    photos = directory.create_collection(spec())
    for piece in range(3):
        photos.upsert([record(random, f"{piece}-{number}", entities=3) for number in range(40)])
        photos.seal()
    photos.delete([f"{piece}-{number}" for piece in range(3) for number in range(0, 40, 7)])
    photos.upsert([record(random, f"fresh-{number}", entities=3) for number in range(10)])
    return photos


def assert_same_answers(one: Collection, other: Collection) -> None:
    """Exactly, whatever lies in which segment: similarities come from the stored vectors."""
    random = np.random.default_rng(2)
    for vector in unit_vectors(random, 10):
        for k in (1, 10, 1_000):
            ours, theirs = one.search(vector, k), other.search(vector, k)
            np.testing.assert_array_equal(ours.similarities, theirs.similarities)
            np.testing.assert_array_equal(ours.numbers, theirs.numbers)
            np.testing.assert_array_equal(ours.ordinals, theirs.ordinals)
        np.testing.assert_array_equal(
            one.search_images(vector, 7).numbers, other.search_images(vector, 7).numbers
        )


@pytest.mark.parametrize("shape", ["snapshot", "snapshot.tar"])
def test_a_restored_collection_has_the_segments_of_the_original(tmp_path: Path, shape: str) -> None:
    with DataDirectory(tmp_path / "data", "write", upkeep=QUIET) as directory:
        photos = with_segments(directory)
        snapshots.create(directory, "photos", tmp_path / shape)
        assert snapshots.verify(tmp_path / shape).problems == ()
        copy = snapshots.restore(directory, tmp_path / shape, name="copy")
        assert_same_answers(photos, copy)
        assert copy.stats.segments == photos.stats.segments != ()
        for file in segment_folder(directory.path, photos.number).rglob("*.*"):
            same = segment_folder(directory.path, copy.number) / file.relative_to(
                segment_folder(directory.path, photos.number)
            )
            assert same.read_bytes() == file.read_bytes()
            assert same.stat().st_ino != file.stat().st_ino
        copy.compact()
        assert copy.stats.deleted_rows == 0
        assert_same_answers(photos, copy)
        directory.drop_collection("photos")
        assert not segment_folder(directory.path, photos.number).exists()
        assert segment_folder(directory.path, copy.number).exists()
    assert snapshots.verify(tmp_path / shape).ok  # its files are its own, linked or not


@pytest.mark.parametrize("lost", ["all files", "one file"])
def test_a_snapshot_without_files_of_segments_restores_to_the_same_answers(tmp_path: Path, lost: str) -> None:
    """Such as one that was taken while a merge removed them."""
    path = tmp_path / "snapshot"
    with DataDirectory(tmp_path / "data", "write", upkeep=QUIET) as directory:
        photos = with_segments(directory)
        snapshots.create(directory, "photos", path)
        manifest = Manifest.from_bytes((path / "manifest.json").read_bytes(), "it")
        derived = [entry for entry in manifest.files if not entry.holds_rows]
        gone = derived if lost == "all files" else derived[:1]
        for entry in gone:
            (path / entry.name).unlink()
        if lost == "all files":
            shutil.rmtree(path / "segments")
        left = tuple(entry for entry in manifest.files if entry not in gone)
        (path / "manifest.json").write_bytes(dataclasses.replace(manifest, files=left).to_bytes())
        assert snapshots.verify(path).ok
        copy = snapshots.restore(directory, path, name="copy")
        assert_same_answers(photos, copy)
        copy.compact()
        assert_same_answers(photos, copy)
    with DataDirectory(tmp_path / "data", "read") as directory:
        assert_same_answers(directory.collection("photos"), directory.collection("copy"))


def test_snapshots_are_sound_while_segments_are_sealed_and_merged(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    with DataDirectory(tmp_path / "data", "write", upkeep=UpkeepSettings.small()) as directory:
        photos = directory.create_collection(spec())
        over = threading.Event()

        def write() -> None:
            own = np.random.default_rng(4)
            while not over.is_set():
                photos.upsert([record(own, f"{own.integers(200)}", entities=3) for _ in range(10)])
                photos.search(unit_vectors(own, 1)[0], 3)

        photos.upsert([record(random, f"{number}", entities=3) for number in range(200)])
        thread = threading.Thread(target=write)
        thread.start()
        try:
            for number in range(6):
                path = tmp_path / (f"{number}.tar" if number % 2 else f"{number}")
                snapshots.create(directory, "photos", path)
                copy = snapshots.restore(directory, path, name=f"copy-{number}")
                assert copy.stats.images == 200
                query = unit_vectors(random, 1)[0]
                found = copy.search(query, 10)
                records = [copy.get(image_id) for image_id in copy.image_ids()]
                best = sorted(float(row @ query) for each in records for row in each.vectors[1:])[-10:]
                np.testing.assert_allclose(found.similarities, best[::-1], atol=1e-6)
        finally:
            over.set()
            thread.join()
