"""A full map and a full disk: writes are refused, reads go on, and room makes writing work again."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from full_disk import files_end_at
from stored_images import record, spec

from regionsearch.collection import Collection, DataDirectory
from regionsearch.collection.records import IndexedField, IndexWish
from regionsearch.collection.segments.upkeep_settings import UpkeepSettings
from regionsearch.errors import StorageFull

MAP = 6 << 20


def filled(directory: DataDirectory) -> tuple[Collection, int]:
    """A collection to which nothing of 20 kB can be added any more, and how many images it has."""
    random = np.random.default_rng(0)
    collection = directory.create_collection(spec())
    written = 0
    size = 200_000
    while size > 20_000:
        try:
            collection.upsert(
                [record(random, f"{written:05}", pixels=random.bytes(size), payload={"n": written})]
            )
            written += 1
        except StorageFull:
            size //= 2
    return collection, written


def adding_writes(directory: DataDirectory, collection: Collection) -> dict[str, Callable[[], object]]:
    """Each adds some hundred kB, in its own way."""
    random = np.random.default_rng(1)
    long = {"text": "x" * 60_000}
    many = [record(random, f"many {number}", payload=long) for number in range(40)]
    return {
        "upsert": lambda: collection.upsert(many),
        "upsert under a key": lambda: collection.upsert(many, idempotency_key="k"),
        "conditional upsert": lambda: collection.upsert(many, if_versions={"many 0": 0}),
        "buffered upsert": lambda: (collection.upsert(many, durability="buffered"), collection.flush()),
        "payloads": lambda: [collection.update_payload(f"{n:05}", long, merge=True) for n in range(40)],
        "background": lambda: collection.set_background({"x": "y" * 3_000_000}),
    }


@contextmanager
def small_map(path: Path) -> Iterator[DataDirectory]:
    with DataDirectory(path, "write", map_size=MAP) as directory:
        yield directory


@contextmanager
def small_disk(path: Path) -> Iterator[DataDirectory]:
    with files_end_at(MAP), DataDirectory(path, "write") as directory:
        yield directory


@pytest.mark.parametrize("small", [small_map, small_disk])
def test_every_kind_of_write_is_refused_and_deletes_make_room(
    tmp_path: Path, small: Callable[[Path], contextmanager[DataDirectory]]
) -> None:
    random = np.random.default_rng(2)
    with small(tmp_path / "data") as directory:
        collection, written = filled(directory)
        first = collection.get("00000").vectors[0]
        for name, write in adding_writes(directory, collection).items():
            with pytest.raises(StorageFull) as refused:
                write()
            assert refused.value.grpc_status == "RESOURCE_EXHAUSTED", name
            # Reads of every kind go on, and nothing of what was refused is there.
            assert collection.stats.images == written, name
            assert collection.search(first, 5).similarities[0] > 0, name
            assert collection.count("payload.n >= 0").images == written, name
        assert sum(1 for _ in collection.export()) == written
        assert collection.list(10, where="payload.n = 3")[0][0].image_id == "00003"
        # Deleting works in each of its ways, and then writing does.
        assert collection.delete(["00000", "00001"], idempotency_key="room") == 2
        assert collection.delete_matching("payload.n < 12") == 10
        collection.upsert([record(random, "new", pixels=random.bytes(50_000))], if_versions={"new": 0})
        collection.update_payload("new", {"works": True})
        kept = list(collection.image_ids())
        assert kept == [f"{number:05}" for number in range(12, written)] + ["new"]
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.collection("photos")
        assert list(collection.image_ids()) == kept
        assert collection.get("new", pixels=True).payload == {"works": True}


def test_a_disk_that_filled_up_takes_writes_again_after_deletions(tmp_path: Path) -> None:
    """A file system of its own, as an ordinary user may make one where that is allowed, which another program
    fills to its last byte: pages of the catalog that have no place there cannot be written any more."""
    story = Path(__file__).with_name("story_on_a_full_disk.py")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = 'mount -t tmpfs -o size=10m none "$0" || exit 77; exec "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mounted, disk, sys.executable, story, disk, "6000"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip(f"no file system of its own can be made here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    came = json.loads(done.stdout)
    assert "no space left" in came["said"]
    assert "Input/output error" not in came["said"]
    assert came["fill"] > 0.9
    assert "full" in came["warnings"][0]
    assert came["deleted"] == came["count"] // 2 > 100
    assert came["fill after"] < 0.7
    assert came["wrote again"]
    assert came["wrote after opening again"]
    assert came["images"] == came["count"] - came["deleted"] + 10


@pytest.mark.parametrize("small", [small_map, small_disk])
def test_declaring_a_field_and_wishing_without_room_leave_all_as_it_was(
    tmp_path: Path, small: Callable[[Path], contextmanager[DataDirectory]]
) -> None:
    """They may still fit, as small as they are; refused, they leave nothing behind."""
    with small(tmp_path / "data") as directory:
        collection, written = filled(directory)
        for change in (
            lambda: collection.update(indexed_fields=(IndexedField("n", "number"),)),
            lambda: collection.update(index=IndexWish(0.9)),
            lambda: directory.create_collection(spec("other")),
        ):
            with contextlib.suppress(StorageFull):
                change()
        assert collection.count("payload.n < 5").images == 5
        collection.delete([f"{number:05}" for number in range(written // 2)])
        collection.update(indexed_fields=(IndexedField("n", "number"),))
        assert not collection.matching("payload.n < 5").notes


def test_a_seal_that_has_no_room_fails_alone(tmp_path: Path) -> None:
    """The files of index segments need room too; rows that cannot be sealed stay searchable in memory."""
    random = np.random.default_rng(0)
    given = [record(random, f"{number:04}", entities=5, dimension=64) for number in range(400)]
    path = tmp_path / "data"
    with DataDirectory(path, "write", upkeep=UpkeepSettings.small(background=False)) as directory:
        collection = directory.create_collection(spec(dimension=64))
        collection.upsert(given)
        collection.load()
        query = given[7].vectors[2]
        before = collection.search(query, 20)
        with files_end_at(1_000), pytest.raises(StorageFull):
            collection.seal()
        after = collection.search(query, 20)
        np.testing.assert_array_equal(after.numbers, before.numbers)
        np.testing.assert_array_equal(after.similarities, before.similarities)
        collection.seal()  # there is room again
        assert collection.stats.segments
        sealed = collection.search(query, 20)
        np.testing.assert_array_equal(sealed.numbers, before.numbers)
        assert not list(path.rglob("*.partial"))


def test_a_level_of_80_percent_is_said_once_and_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regionsearch.collection import fill_level

    monkeypatch.setattr(fill_level, "_SECONDS_BETWEEN_LOOKS", 0.0)
    caplog.set_level(logging.WARNING)
    random = np.random.default_rng(0)

    def warned() -> int:
        return sum("% full" in message for message in caplog.messages)

    with small_map(tmp_path / "data") as directory:
        collection = directory.create_collection(spec())
        levels = [collection.stats.fill]
        assert collection.stats.warnings == ()
        number = 0
        while collection.stats.fill < 0.82:
            collection.upsert([record(random, f"{number:03}", pixels=random.bytes(100_000))])
            levels.append(collection.stats.fill)
            number += 1
        assert levels == sorted(levels)
        (warning,) = collection.stats.warnings
        assert "full" in warning
        assert "map" in warning
        collection.update_payload("000", {"x": 1})
        collection.flush()
        assert warned() == 1
        collection.delete([f"{each:03}" for each in range(number // 3)])
        assert collection.stats.fill < 0.7
        assert collection.stats.warnings == ()
        collection.upsert(
            [record(random, f"again {each}", pixels=random.bytes(100_000)) for each in range(number // 3)]
        )
        collection.flush()
        assert warned() == 2
