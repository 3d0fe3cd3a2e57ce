"""Writes at once share commits; what does not fit fails alone, and reads go on."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from stored_images import assert_same_image, record, spec, unit_vectors

from regionsearch.collection import DataDirectory, fill_level
from regionsearch.collection.environment import Environment
from regionsearch.collection.group_commit import GroupCommit
from regionsearch.errors import FailedPrecondition, InvalidRecord, StorageFull

SMALL_MAP = 4 << 20


def test_writes_at_once_share_commits(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    records = [record(random, f"{number}") for number in range(160)]
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec())
        before = directory.commits
        together = threading.Barrier(16)

        def write(number: int) -> None:
            together.wait()
            collection.upsert([records[number]])

        with ThreadPoolExecutor(16) as threads:
            list(threads.map(write, range(160)))
        # Alone each write would need a commit; while one is synced, the other 15 queue up.
        assert directory.commits - before < 80
        assert collection.stats.images == 160


def test_a_refused_request_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec())
        other = directory.create_collection(spec("other"))
        directory.drop_collection("other")
        outcomes: dict[int, str] = {}

        def write(number: int) -> None:
            try:
                if number % 3 == 0:
                    bad = record(random, "bad", entities=1, vectors=2 * unit_vectors(random, 2))
                    collection.upsert([record(random, f"beside-bad-{number}"), bad])
                elif number % 3 == 1:
                    other.upsert([record(random, "nowhere")])
                else:
                    collection.upsert([record(random, f"good-{number}")])
                outcomes[number] = "written"
            except (InvalidRecord, FailedPrecondition) as error:
                outcomes[number] = error.reason
            except Exception as error:
                outcomes[number] = type(error).__name__

        threads = [threading.Thread(target=write, args=(number,)) for number in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = {0: "INVALID_RECORD", 1: "CollectionNotFound", 2: "written"}
        assert outcomes == {number: expected[number % 3] for number in range(30)}
        assert set(collection.image_ids()) == {f"good-{number}" for number in range(2, 30, 3)}


def test_own_writes_are_found_by_the_next_search_of_any_thread(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec())
        collection.load()

        def write_and_search(thread: int) -> None:
            random = np.random.default_rng(thread)
            for _ in range(40):
                mine = record(random, f"{thread}", entities=2)
                (result,) = collection.upsert([mine])
                found = collection.search(mine.vectors[2], 1)
                assert (found.numbers.tolist(), found.ordinals.tolist()) == ([result.number], [1])
                assert collection.search_images(mine.vectors[0], 1).numbers.tolist() == [result.number]
                assert [each.image_id for each in collection.candidates([result.number])] == [f"{thread}"]

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(write_and_search, range(4)))


def test_an_image_that_is_being_replaced_is_never_missing_from_an_answer(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec())
        collection.upsert([record(random, "a", entities=2), record(random, "b", entities=2)])
        collection.load()
        stop = threading.Event()
        missing: list[list[str]] = []

        def search() -> None:
            vector = unit_vectors(np.random.default_rng(1), 1)[0]
            while not stop.is_set():
                numbers = dict.fromkeys(collection.search(vector, 100).numbers.tolist())
                numbers |= dict.fromkeys(collection.search_images(vector, 100).numbers.tolist())
                ids = [each.image_id for each in collection.candidates(list(numbers))]
                if sorted(ids) != ["a", "b"]:
                    missing.append(ids)

        searching = threading.Thread(target=search)
        searching.start()
        for _ in range(150):
            collection.upsert([record(random, "a", entities=2)])
        stop.set()
        searching.join()
        assert missing == []


def test_a_full_map_fails_the_write_alone(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    stored = {}
    with DataDirectory(tmp_path / "data", "write", map_size=SMALL_MAP) as directory:
        collection = directory.create_collection(spec())
        collection.load()

        def fill_up() -> None:
            for number in range(1_000):
                batch = [record(random, f"{number}-{part}", pixels=random.bytes(40_000)) for part in "ab"]
                collection.upsert(batch)
                stored.update({each.image_id: each for each in batch})

        with pytest.raises(StorageFull, match="full"):
            fill_up()
        assert len(stored) > 20
        assert directory.fill() > 0.8
        small = record(random, "small", entities=1)
        doomed = sorted(stored)[: len(stored) // 2]
        with ThreadPoolExecutor(4) as threads:  # a group of one that fits and others that do not

            def attempt(number: int) -> bool:
                if number == 0:
                    collection.delete(doomed)
                    return True
                try:
                    collection.upsert([record(random, "big", pixels=bytes(2 * SMALL_MAP))])
                except StorageFull:
                    return False
                return True

            assert list(threads.map(attempt, range(4))) == [True, False, False, False]
        for image_id in doomed:
            del stored[image_id]
        assert list(collection.image_ids()) == sorted(stored)
        assert len(collection.search(small.vectors[0], 10_000).numbers) == collection.stats.entities
        collection.upsert([small])  # there is room again
        stored["small"] = small
    with DataDirectory(tmp_path / "data", "write", map_size=SMALL_MAP) as directory:
        collection = directory.collection("photos")
        assert list(collection.image_ids()) == sorted(stored)
        for image_id, given in stored.items():
            assert_same_image(collection.get(image_id), given)


FULL_DISK = """
import sys
from pathlib import Path
import numpy as np
from stored_images import record, spec
from regionsearch.collection import DataDirectory
from regionsearch.errors import StorageFull

random = np.random.default_rng(0)
written = 0
with DataDirectory(Path(sys.argv[1]), "write") as directory:
    collection = directory.create_collection(spec())
    try:
        while True:
            collection.upsert([record(random, f"{written:05}", pixels=random.bytes(20_000))])
            written += 1
    except StorageFull as error:
        pass
    assert collection.stats.images == written
    assert len(collection.get(f"{written - 1:05}", pixels=True).pixels) == 20_000
print(written)
"""


def test_a_full_disk_fails_the_write_alone(tmp_path: Path) -> None:
    """The disk is as large as the system lets this process's files grow."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))

    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "data")],
        cwd=Path(__file__).parent,
        env={"PYTHONPATH": f"{Path(__file__).parent}", "PATH": ""},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    written = int(ended.stdout)
    assert written > 50
    with DataDirectory(tmp_path / "data", "write") as directory:
        assert list(directory.collection("photos").image_ids()) == [f"{each:05}" for each in range(written)]


def test_close_finishes_what_was_queued_and_then_refuses(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    directory = DataDirectory(tmp_path / "data", "write")
    collection = directory.create_collection(spec())
    written: list[str] = []
    refused: list[str] = []

    def write(thread: int) -> None:
        for number in range(10_000):
            try:
                collection.upsert([record(random, f"{thread}-{number}", entities=1)])
            except FailedPrecondition as error:
                refused.append(error.message)
                return
            written.append(f"{thread}-{number}")

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    while len(written) < 20:
        pass
    directory.close()
    for thread in threads:
        thread.join()
    assert len(refused) == 4
    assert all("is closed" in message for message in refused)
    with pytest.raises(FailedPrecondition, match="is closed"):
        collection.get("0-0")
    with DataDirectory(tmp_path / "data", "read") as reopened:
        assert sorted(reopened.collection("photos").image_ids()) == sorted(written)


def test_a_commit_whose_free_pages_get_no_place_on_the_disk_is_applied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)

    def no_descriptor(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec())
        collection.load()
        monkeypatch.setattr(os, "posix_fallocate", no_descriptor)
        monkeypatch.setattr(Environment, "_expected_bytes", lambda environment: 1 << 30)
        result = collection.upsert([record(random, "a")], if_versions={"a": 0})
        assert (result[0].version, result[0].created) == (1, True)
        assert len(collection.search_images(unit_vectors(random, 1)[0], 10).numbers) == 1


@pytest.mark.parametrize("what", ["fill", "used"])
def test_the_writer_lives_on_when_it_cannot_tell_how_full_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    random = np.random.default_rng(0)

    def broken(environment: Environment) -> float:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fill_level, "_SECONDS_BETWEEN_LOOKS", 0.0)
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec())
        monkeypatch.setattr(Environment, what, broken)
        for number in range(3):
            collection.upsert([record(random, f"{number}")])
        assert list(collection.image_ids()) == ["0", "1", "2"]
    assert "Input/output error" in caplog.text


def test_the_writer_lives_on_after_an_error_that_nobody_foresaw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)

    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec())
        with monkeypatch.context() as patched:
            patched.setattr(GroupCommit, "_done", lambda writer, request: writer.nowhere)
            with pytest.raises(AttributeError):
                collection.upsert([record(random, "a")])
        collection.upsert([record(random, "b")])
        assert collection.contains("b")


def test_writes_in_a_fork_are_refused_and_do_not_hang(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    directory = DataDirectory(tmp_path / "data", "write")
    collection = directory.create_collection(spec())
    image = record(random, "a")
    collection.upsert([image])
    collection.seal()
    child = os.fork()
    if child == 0:
        refused = 0
        for write in (
            lambda: collection.upsert([image]),
            lambda: collection.upsert([image], durability="buffered"),
            lambda: collection.delete(["a"]),
            collection.flush,
            collection.seal,
        ):
            try:
                write()
            except FailedPrecondition:
                refused += 1
        os._exit(refused)
    deadline = time.monotonic() + 20
    status = 0
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.02)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("a write in a fork hangs")
    assert os.waitstatus_to_exitcode(status) == 5
    directory.close()
