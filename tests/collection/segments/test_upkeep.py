"""What the upkeep of segments does when something goes wrong, and that it never holds anyone up."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from segments_oracle import until
from stored_images import record, spec, unit_vectors

from regionsearch.collection import Collection, DataDirectory, ImageRecord, steps
from regionsearch.collection.search_arms import SearchArms
from regionsearch.collection.segments import segment, segment_files, upkeep
from regionsearch.collection.segments.approximate import ApproximateIndex
from regionsearch.collection.segments.manifest import Manifest
from regionsearch.collection.segments.segment_files import SegmentFiles
from regionsearch.collection.segments.upkeep import Upkeep, UpkeepSettings
from regionsearch.collection.view_loading import ViewLoader
from regionsearch.errors import Cancelled, CollectionNotFound, FailedPrecondition, StorageFull

SMALL = UpkeepSettings.small()
BY_HAND = UpkeepSettings.small(background=False)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path / "data", "write", upkeep=BY_HAND) as opened:
        yield opened
    steps.observe(None)


def images(random: np.random.Generator, first: int, end: int) -> list[ImageRecord]:
    return [record(random, f"{number}", entities=3) for number in range(first, end)]


def assert_whole(collection: Collection, random: np.random.Generator) -> None:
    """Each live row is found, once."""
    stats = collection.stats
    for found, count in (
        (collection.search(unit_vectors(random, 1)[0], 10_000), stats.entities),
        (collection.search_images(unit_vectors(random, 1)[0], 10_000), stats.images),
    ):
        rows = set(zip(found.numbers.tolist(), found.ordinals.tolist(), strict=True))
        assert len(rows) == len(found.numbers) == count


def test_a_seal_inside_a_merge_does_not_load_the_collection_anew(
    directory: DataDirectory, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = directory.create_collection(spec())
    collection.upsert(images(random, 0, 20))
    collection.seal()
    collection.upsert(images(random, 20, 50))
    said: list[str] = []

    def step(name: str) -> None:
        said.append(name)
        if name == "merge: rows chosen" and said.count(name) == 1:
            collection.upsert(images(random, 100, 120))

    loaded: list[object] = []
    steps.observe(step)
    monkeypatch.setattr(ViewLoader, "followed", lambda loader, known: loaded.append(known))
    collection.seal()
    assert said.index("seal: published", said.index("merge: rows chosen")) < said.index("merge: published")
    assert loaded == []
    assert_whole(collection, random)


def test_a_view_that_was_lost_during_a_seal_is_loaded_whole(
    directory: DataDirectory, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = directory.create_collection(spec())
    collection.upsert(images(random, 0, 20))

    def broken(arms: SearchArms, state: object, change: object) -> None:
        raise MemoryError("no memory for this change")

    def step(name: str) -> None:
        if name == "seal: files written":
            with monkeypatch.context() as patched:
                patched.setattr(SearchArms, "_apply", broken)
                with pytest.raises(MemoryError):
                    collection.delete(["3"])
            assert_whole(collection, random)  # which loads it again, all rows fresh

    steps.observe(step)
    collection.seal()
    steps.observe(None)
    assert_whole(collection, random)
    collection.upsert(images(random, 50, 55))
    collection.seal()
    assert_whole(collection, random)
    covered = [(part.row.first, part.row.last) for part in collection._arms.segments()]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(covered))
    assert collection.stats.fresh_rows == 0


def test_a_seal_takes_what_a_cancelled_one_left_and_what_came_since(
    directory: DataDirectory, random: np.random.Generator
) -> None:
    collection = directory.create_collection(spec())
    collection.upsert(images(random, 0, 2))

    def check() -> None:
        if collection._arms.is_frozen():
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        collection.seal(check=check)
    collection.upsert(images(random, 2, 4))
    collection.seal()
    assert collection.stats.fresh_rows == 0
    assert_whole(collection, random)


@pytest.mark.parametrize("where", ["mkdir", "sync", "rename"])
def test_a_seal_that_finds_no_room_says_so_and_leaves_no_file(
    directory: DataDirectory, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    collection = directory.create_collection(spec())
    collection.upsert(images(random, 0, 5))

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        if where == "sync":
            patched.setattr(segment_files, "sync", no_room)
        else:
            patched.setattr(Path, where, no_room)
        with pytest.raises(StorageFull, match="No space left"):
            collection.seal()
    assert not list((directory.path / "segments").rglob("*.*"))
    assert_whole(collection, random)
    collection.seal()
    assert collection.stats.fresh_rows == 0
    assert_whole(collection, random)


def test_what_keeps_segments_from_being_built_is_told_until_it_is_over(
    tmp_path: Path, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_SECONDS_AFTER_A_FAILURE", 0.1)
    with DataDirectory(tmp_path / "data", "write", upkeep=SMALL) as directory:
        collection = directory.create_collection(spec())
        collection.load()

        def no_room(path: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr(segment_files, "sync", no_room)
            collection.upsert(images(random, 0, 20))
            until(lambda: bool(collection.stats.warnings))
            assert "No space left" in collection.stats.warnings[0]
            assert_whole(collection, random)
        until(lambda: not collection.stats.warnings)
        until(lambda: collection.stats.fresh_rows == 0)
        assert_whole(collection, random)


def test_a_writer_that_waits_for_room_does_not_hold_up_a_close(
    tmp_path: Path, random: np.random.Generator
) -> None:
    settings = replace(SMALL, fresh_bytes=1, room_seconds=30.0)
    directory = DataDirectory(tmp_path / "data", "write", upkeep=settings)
    collection = directory.create_collection(spec())
    collection.load()
    held = threading.Event()

    def step(name: str) -> None:
        if name == "seal: files written":
            held.wait(20)

    steps.observe(step)
    collection.upsert(images(random, 0, 20))
    outcome: list[object] = []

    def write() -> None:
        try:
            outcome.append(collection.upsert(images(random, 20, 21)))
        except FailedPrecondition as error:
            outcome.append(error)

    writing = threading.Thread(target=write)
    writing.start()
    time.sleep(0.3)
    assert not outcome
    begun = time.monotonic()
    closing = threading.Thread(target=directory.close)
    closing.start()
    writing.join(5)
    assert outcome
    assert time.monotonic() - begun < 5
    held.set()
    closing.join()
    steps.observe(None)


@pytest.mark.parametrize("going", ["a file", "a file after its checksum"])
def test_a_segment_that_is_removed_while_it_is_opened_is_not_called_damaged(
    tmp_path: Path,
    random: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    going: str,
) -> None:
    path = tmp_path / "data"
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory:
        collection = directory.create_collection(spec())
        collection.upsert(images(random, 0, 10))
        collection.seal()
        collection.delete(["3"])
        with DataDirectory(path, "read") as beside:
            reader = beside.collection("photos")
            verify_files, merged = segment.verify_files, []

            def merge_away(folder: Path) -> None:
                if not merged:
                    merged.append(folder)
                    collection.compact()
                    folder.mkdir(exist_ok=True)  # as it is when some of its files are gone

            def before(folder: Path, sums: object) -> None:
                if going == "a file":
                    merge_away(folder)
                verify_files(folder, sums)
                if going != "a file":
                    kept = (folder / "rows").read_bytes()
                    merge_away(folder)
                    if merged == [folder]:
                        (folder / "rows").write_bytes(kept)
                        merged.append(folder)

            monkeypatch.setattr(segment, "verify_files", before)
            found = reader.search_images(unit_vectors(random, 1)[0], 100)
            assert len(merged) >= 1
            assert len(found.numbers) == 9
            assert not caplog.records
            shutil.rmtree(merged[0])


def test_a_file_that_faiss_cannot_read_is_searched_in_its_records(
    tmp_path: Path,
    random: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "data"
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory:
        collection = directory.create_collection(spec())
        collection.upsert(images(random, 0, 10))
        collection.seal()

    def broken(*_: object, **__: object) -> ApproximateIndex:
        raise RuntimeError("could not open")

    with DataDirectory(path, "read") as directory, monkeypatch.context() as patched:
        patched.setattr(ApproximateIndex, "open", broken)
        assert_whole(directory.collection("photos"), random)
    assert "could not open" in caplog.text


def test_a_seal_of_a_collection_that_is_dropped_meanwhile_says_so(
    directory: DataDirectory, random: np.random.Generator
) -> None:
    collection = directory.create_collection(spec())
    collection.upsert(images(random, 0, 5))
    dropping = threading.Thread(target=lambda: directory.drop_collection("photos"))

    def step(name: str) -> None:
        if name == "seal: rows chosen":
            dropping.start()
            until(lambda: "photos" not in directory.collection_names())

    steps.observe(step)
    with pytest.raises(CollectionNotFound, match="was dropped"):
        collection.seal()
    dropping.join()
    assert not list((directory.path / "segments").rglob("*.*"))


def test_a_long_merge_of_one_collection_does_not_keep_another_from_being_sealed(
    tmp_path: Path, random: np.random.Generator
) -> None:
    with DataDirectory(tmp_path / "data", "write", upkeep=replace(SMALL, settle_seconds=1_000)) as directory:
        merged, written = directory.create_collection(spec()), directory.create_collection(spec("other"))
        written.load()
        merged.upsert(images(random, 0, 20))
        merged.seal()
        merged.upsert(images(random, 20, 30))
        merged.seal()
        merged.delete(["3"])
        said: list[str] = []

        def step(name: str) -> None:
            said.append(name)
            if name == "merge: rows chosen":
                written.upsert(images(random, 0, 20))

        steps.observe(step)
        merged.compact()
        steps.observe(None)
        assert (
            said.index("merge: rows chosen") < said.index("seal: published") < said.index("merge: published")
        )
        assert [each.images for each in written.stats.segments] == [20]
        assert_whole(written, random)
        assert_whole(merged, random)


def test_a_collection_that_always_has_something_to_do_leaves_time_for_others(
    tmp_path: Path, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    tended: list[str] = []

    def busy(self: Upkeep, arms: SearchArms, pace: object) -> bool:
        tended.append(arms.rows.name)
        time.sleep(0.06)
        return arms.rows.name == "photos"

    monkeypatch.setattr(Upkeep, "_step", busy)
    with DataDirectory(tmp_path / "data", "write", upkeep=SMALL) as directory:
        directory.create_collection(spec()).upsert(images(random, 0, 1))
        until(lambda: len(tended) > 1)
        directory.create_collection(spec("other")).upsert(images(random, 0, 1))
        until(lambda: "other" in tended, 2.0)
        monkeypatch.setattr(Upkeep, "_step", lambda *_: False)


def test_a_segment_of_an_older_version_is_searched_in_its_records_and_built_again(
    tmp_path: Path, random: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "data"
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory:
        collection = directory.create_collection(spec())
        collection.upsert(images(random, 0, 10))
        collection.seal()
        manifest = Manifest(directory.environment, collection.number)
        with directory.environment.transaction(write=True) as transaction:
            (row,) = manifest.segments(transaction)
            manifest.change(transaction, [replace(row, entity_index={"kind": "flat-sq8"})], [row.number])
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory:
        collection = directory.collection("photos")
        assert_whole(collection, random)
        assert "is of another version" in caplog.text
        caplog.clear()
        collection.seal()
        assert_whole(collection, random)
    with DataDirectory(path, "read") as directory:
        assert_whole(directory.collection("photos"), random)
    assert not caplog.records


def test_no_file_goes_before_the_commit_that_lists_its_segment_no_more(
    directory: DataDirectory, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = directory.create_collection(spec())
    manifest = Manifest(directory.environment, collection.number)
    removed: list[int] = []
    remove = SegmentFiles.remove

    def watched(files: SegmentFiles, numbers: Sequence[int]) -> None:
        with directory.environment.transaction() as transaction:
            listed = {row.number for row in manifest.segments(transaction)}
        assert listed.isdisjoint(numbers)
        removed.extend(numbers)
        remove(files, numbers)

    monkeypatch.setattr(SegmentFiles, "remove", watched)
    for first in (0, 10, 20):
        collection.upsert(images(random, first, first + 10))
        collection.seal()
    collection.delete(["3"])
    collection.compact()
    assert len(removed) > 1
    assert_whole(collection, random)
