"""Searches of collections whose rows are sealed, merged and compacted all the time, against a sort."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from segments_oracle import Oracle, segment_files, some_ids, until
from stored_images import DIMENSION, record, spec, unit_vectors

from regionsearch.collection import DataDirectory, steps, view_loading
from regionsearch.collection.segments.upkeep import UpkeepSettings
from regionsearch.errors import Cancelled, ReadOnly

SMALL = UpkeepSettings.small()
BY_HAND = UpkeepSettings.small(background=False)


@pytest.mark.parametrize("seed", [1, 2])
def test_answers_are_those_of_a_sort_whatever_is_sealed_merged_and_compacted(
    tmp_path: Path, seed: int
) -> None:
    print(f"seed {seed}")
    random = np.random.default_rng(seed)
    oracle = Oracle(random)
    path = tmp_path / "data"
    directory = DataDirectory(path, "write", upkeep=SMALL)
    collection = directory.create_collection(spec())
    for _ in range(160):
        action = random.random()
        if action < 0.6:
            oracle.upsert(collection, some_ids(random, int(random.integers(1, 5))))
        elif action < 0.8:
            oracle.delete(collection, some_ids(random, int(random.integers(1, 9))))
        elif action < 0.84:
            collection.seal()
        elif action < 0.87:
            collection.compact()
            assert collection.stats.deleted_rows == 0
        elif action < 0.92:
            directory.close()
            directory = DataDirectory(path, "write", upkeep=SMALL)
            collection = directory.collection("photos")
        oracle.assert_found(collection, int(random.choice([1, 10, 1000])))
        stats = collection.stats
        held = sum(segment.entities + segment.images for segment in stats.segments)
        assert held + stats.fresh_rows - stats.deleted_rows == stats.images + stats.entities
    collection.compact()
    assert len(collection.stats.segments) == 1
    assert collection.stats.fresh_rows == 0
    oracle.assert_found(collection)
    assert len({file.parent for file in segment_files(path)}) == 1
    directory.close()


def test_rows_are_sealed_merged_and_compacted_in_the_background(
    tmp_path: Path, random: np.random.Generator
) -> None:
    oracle = Oracle(random)
    with DataDirectory(tmp_path / "data", "write", upkeep=SMALL) as directory:
        collection = directory.create_collection(spec())
        for number in range(60):
            oracle.upsert(collection, [f"{number * 3 + each}" for each in range(3)])
            oracle.assert_found(collection)
        until(lambda: collection.stats.fresh_rows < 24 + 60)
        until(lambda: 1 <= len(collection.stats.segments) <= 4)
        oracle.delete(collection, [f"{number}" for number in range(0, 180, 2)])
        until(lambda: collection.stats.deleted_rows < 0.4 * collection.stats.entities)
        oracle.assert_found(collection)


def test_what_dies_while_a_segment_is_built_is_dead_in_it(
    directory: DataDirectory, random: np.random.Generator
) -> None:
    oracle = Oracle(random)
    collection = directory.create_collection(spec())
    oracle.upsert(collection, [f"{each}" for each in range(30)])

    def step(name: str) -> None:
        if name in ("seal: files written", "compact: files written", "merge: files synced"):
            some = sorted(oracle.images)[:3]
            oracle.delete(collection, some[:2])
            oracle.upsert(collection, some[2:])
            oracle.assert_found(collection)

    steps.observe(step)
    try:
        collection.seal()
        oracle.assert_found(collection)
        assert collection.stats.deleted_rows > 0
        oracle.upsert(collection, [f"new {each}" for each in range(5)])
        collection.compact()
        oracle.assert_found(collection)
    finally:
        steps.observe(None)
    collection.compact()
    assert collection.stats.deleted_rows == 0
    oracle.assert_found(collection)


def test_searches_and_writes_go_on_beside_the_upkeep(tmp_path: Path, random: np.random.Generator) -> None:
    """One image is replaced all the time; every search finds exactly one version of it, and all k rows."""
    stop = threading.Event()
    wrong: list[str] = []
    with DataDirectory(tmp_path / "data", "write", upkeep=SMALL) as directory:
        collection = directory.create_collection(spec())
        others = [record(random, f"{each}", entities=2) for each in range(100)]
        target = unit_vectors(random, 1)[0]
        vectors = np.concatenate([target[None], target[None], unit_vectors(random, 1)])
        hot = record(random, "hot", entities=2, vectors=vectors)
        collection.upsert([hot])

        def search() -> None:
            while not stop.is_set():
                found = collection.search(target, 3)
                same = np.isclose(found.similarities, 1, atol=1e-5)
                if int(same.sum()) != 1:
                    wrong.append(f"{found.numbers} {found.similarities}")
                    return

        threads = [threading.Thread(target=search) for _ in range(2)]
        for thread in threads:
            thread.start()
        for each in others:
            collection.upsert([each, hot])
        collection.compact()
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(collection.stats.segments) == 1


READER = """
import sys
sys.path.insert(0, sys.argv[2])
import numpy as np
from pathlib import Path
from stored_images import DIMENSION
from regionsearch.collection import DataDirectory
with DataDirectory(Path(sys.argv[1]), "read") as directory:
    collection = directory.collection("photos")
    for line in sys.stdin:
        seed, k = map(int, line.split())
        query = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
        found = collection.search(query, k)
        segments = len(collection.stats.segments)
        print(segments, *(found.numbers * 65536 + found.ordinals).tolist(), flush=True)
"""


def test_a_reader_in_another_process_follows_the_segments(
    tmp_path: Path, random: np.random.Generator
) -> None:
    path = tmp_path / "data"
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory:
        collection = directory.create_collection(spec())
        oracle = Oracle(random)
        oracle.upsert(collection, [f"{each}" for each in range(20)])
        with subprocess.Popen(
            [sys.executable, "-c", READER, str(path), str(Path(__file__).parent.parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        ) as reader:
            assert reader.stdin is not None
            assert reader.stdout is not None

            def assert_same(seed: int) -> None:
                assert reader.stdin is not None
                assert reader.stdout is not None
                query = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
                mine = collection.search(query, 15)
                reader.stdin.write(f"{seed} 15\n")
                reader.stdin.flush()
                segments, *rows = map(int, reader.stdout.readline().split())
                assert rows == (mine.numbers * 65536 + mine.ordinals).tolist()
                assert segments == len(collection.stats.segments)

            assert_same(1)
            for round_ in range(4):
                collection.seal()
                assert_same(10 * round_ + 2)
                oracle.upsert(collection, some_ids(random, 12, 40))
                oracle.delete(collection, some_ids(random, 4, 40))
                assert_same(10 * round_ + 3)
                collection.compact()
                assert_same(10 * round_ + 4)
            reader.stdin.close()
            assert reader.wait(20) == 0


def test_a_stopped_compaction_leaves_everything_as_it_was(
    directory: DataDirectory, random: np.random.Generator
) -> None:
    collection = directory.create_collection(spec())
    oracle = Oracle(random)
    oracle.upsert(collection, [f"{each}" for each in range(30)])
    collection.seal()
    before = collection.stats.segments
    oracle.delete(collection, ["1", "2"])
    calls = iter(range(1000))

    def check() -> None:
        if next(calls) == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        collection.compact(check=check)
    assert [each.number for each in collection.stats.segments] == [each.number for each in before]
    assert {file.parent.name for file in segment_files(directory.path)} == {str(before[0].number)}
    oracle.assert_found(collection)
    progress: list[float] = []
    collection.compact(progress=progress.append)
    assert (progress[0], progress[-1]) == (0.0, 1.0)
    assert collection.stats.deleted_rows == 0
    oracle.assert_found(collection)


def test_a_filter_finds_every_allowed_row_and_no_other(
    directory: DataDirectory, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few rows are read from their records, many are searched under a bitmap: the same answers."""
    collection = directory.create_collection(spec())
    oracle = Oracle(random)
    for part in range(3):
        oracle.upsert(collection, [f"{part}/{each}" for each in range(40)])
        if part < 2:
            collection.seal()
    oracle.delete(collection, [f"{part}/{each}" for part in range(3) for each in range(0, 40, 7)])
    view = collection._arms.current()
    query = unit_vectors(random, 1)[0]
    by_number = dict(oracle.images.values())
    for share in (0.0, 0.03, 0.5, 1.0):
        rows = tuple(part.live_rows & (random.random(len(part.entities)) < share) for part in view.parts)
        images = tuple(np.zeros(len(part.live), bool) for part in view.parts)
        allowed = _Allowed(view, rows, images)
        ids = np.concatenate(
            [part.ids("entities", np.flatnonzero(mask)) for part, mask in zip(view.parts, rows, strict=True)]
        )
        scored = sorted(
            (-float(by_number[each >> 16].vectors[1 + (each & 65535)].astype(np.float64) @ query), each)
            for each in ids.tolist()
        )
        for few in (0, 1_000):
            monkeypatch.setattr("regionsearch.collection.segments.view.FEW_ALLOWED", few)
            for k in (5, 1000):
                found, _ = view.search("entities", query, k, allowed)
                assert found.tolist() == [each for _, each in scored[:k]]


class _Allowed:
    def __init__(self, view: object, rows: tuple[NDArray[np.bool_], ...], images: object) -> None:
        self.view, self.rows, self.images = view, rows, images


def test_rows_too_many_for_memory_are_searched_in_their_records_until_they_are_sealed(
    tmp_path: Path, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = Oracle(random)
    with DataDirectory(tmp_path / "data", "write", upkeep=BY_HAND) as directory:
        collection = directory.create_collection(spec())
        oracle.upsert(collection, [f"a {each}" for each in range(10)])
        collection.seal()
        oracle.upsert(collection, [f"b {each}" for each in range(40)])
    monkeypatch.setattr(view_loading, "UNSEALED_BYTES", 1_000)
    monkeypatch.setattr(view_loading, "UNSEALED_ROWS_A_SEGMENT", 50)
    with DataDirectory(tmp_path / "data", "write", upkeep=BY_HAND) as directory:
        collection = directory.collection("photos")
        oracle.assert_found(collection)
        assert not len(collection._arms.current().parts[-1].live)
        assert collection.stats.fresh_rows == 40 + sum(
            len(each.entities) for image_id, (_, each) in oracle.images.items() if image_id[0] == "b"
        )
        oracle.upsert(collection, ["b 3", "c"])
        oracle.delete(collection, ["b 5"])
        oracle.assert_found(collection, 1000)
        collection.seal()
        oracle.assert_found(collection, 1000)
        assert collection.stats.fresh_rows == 0
    with DataDirectory(tmp_path / "data", "read") as directory:
        oracle.assert_found(directory.collection("photos"), 1000)
        assert directory.collection("photos").stats.fresh_rows == 0


def test_only_the_writer_seals(tmp_path: Path, random: np.random.Generator) -> None:
    with DataDirectory(tmp_path / "data", "write", upkeep=BY_HAND) as directory:
        directory.create_collection(spec()).upsert([record(random, "a")])
    with DataDirectory(tmp_path / "data", "read") as directory:
        with pytest.raises(ReadOnly):
            directory.collection("photos").seal()
        with pytest.raises(ReadOnly):
            directory.collection("photos").compact()
