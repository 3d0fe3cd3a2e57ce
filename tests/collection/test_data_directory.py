"""Whose directory it is, who may write to it, and what readers beside the writer see."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from other_processes import filled, hear, other_process
from stored_images import record, spec

from regionsearch.collection import DataDirectory
from regionsearch.errors import (
    DataDirectoryInUse,
    DataLoss,
    FailedPrecondition,
    NotADataDirectory,
    ReadOnly,
    RegionSearchError,
    UnsupportedFormat,
)


def contents(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() if file.is_file() else b"" for file in path.rglob("*")
    }


# whose directory it is


@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_directory_of_someone_else_is_refused_and_left_alone(tmp_path: Path, mode: str) -> None:
    for name, make in {
        "holiday": lambda path: (path / "beach.jpg").write_bytes(b"jpeg"),
        "catalog-of-their-own": lambda path: (path / "catalog").mkdir(),
        "another-marker": lambda path: (path / "regionsearch.json").write_text('{"kind": "settings"}'),
        "more-than-ours": lambda path: [(path / each).touch() for each in ("regionsearch.lock", "notes.txt")],
    }.items():
        path = tmp_path / name
        path.mkdir()
        make(path)
        before = contents(path)
        with pytest.raises(NotADataDirectory, match=name):
            DataDirectory(path, mode)  # type: ignore[arg-type]
        assert {**contents(path), "regionsearch.lock": b""} == {**before, "regionsearch.lock": b""}


@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_file_is_refused(tmp_path: Path, mode: str) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(NotADataDirectory, match="not a directory"):
        DataDirectory(tmp_path / "file", mode)  # type: ignore[arg-type]
    with pytest.raises(RegionSearchError, match="file"):
        DataDirectory(tmp_path / "file" / "below", mode)  # type: ignore[arg-type]
    assert (tmp_path / "file").read_text() == "text"


def test_reading_needs_a_directory_that_exists(tmp_path: Path) -> None:
    with pytest.raises(NotADataDirectory, match="does not exist"):
        DataDirectory(tmp_path / "none", "read")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotADataDirectory, match="open it for writing to create one"):
        DataDirectory(tmp_path / "empty", "read")
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("mode", ["read", "write"])
@pytest.mark.parametrize(
    "damage", ["no catalog", "no data", "empty data", "cut data", "garbage", "no format"]
)
def test_a_directory_with_a_damaged_catalog_is_refused_and_not_started_empty(
    tmp_path: Path, mode: str, damage: str
) -> None:
    filled(tmp_path / "data", count=50)
    data = tmp_path / "data" / "catalog" / "data.mdb"
    if damage == "no catalog":
        shutil.rmtree(data.parent)
    elif damage == "no data":
        data.unlink()
    elif damage == "empty data":
        os.truncate(data, 0)
    elif damage == "cut data":
        os.truncate(data, 3 * 4096)
    elif damage == "garbage":
        data.write_bytes(b"\x5a" * data.stat().st_size)
    else:
        shutil.rmtree(data.parent)
        data.parent.mkdir()
        import lmdb

        lmdb.open(str(data.parent)).close()
    before = {name: value for name, value in contents(tmp_path / "data").items() if name.endswith("data.mdb")}
    with pytest.raises(DataLoss, match=r"data\.mdb|damaged|lacks"):
        DataDirectory(tmp_path / "data", mode)  # type: ignore[arg-type]
    after = contents(tmp_path / "data")
    assert {name: after[name][: len(value)] for name, value in before.items()} == before


def test_another_format_is_refused_in_both_places(tmp_path: Path) -> None:
    filled(tmp_path / "data")
    marker = tmp_path / "data" / "regionsearch.json"
    good = marker.read_text()
    marker.write_text(json.dumps(json.loads(good) | {"format": 99}))
    with pytest.raises(UnsupportedFormat, match="format 99; this version reads format"):
        DataDirectory(tmp_path / "data", "write")
    marker.write_text(good)
    with DataDirectory(tmp_path / "data", "write") as directory:
        environment = directory._environment
        with environment.transaction(write=True) as transaction:
            transaction.put(b"format", b"99", db=environment.database("format"))
    for mode in ("read", "write"):
        with pytest.raises(UnsupportedFormat, match="format 99; this version reads format"):
            DataDirectory(tmp_path / "data", mode)  # type: ignore[arg-type]


@pytest.mark.parametrize("left", ["lock", "folder", "empty file", "blank file", "no marker", "half a marker"])
def test_what_a_crash_left_of_a_creation_is_completed(tmp_path: Path, left: str) -> None:
    path = tmp_path / "data"
    path.mkdir()
    (path / "regionsearch.lock").touch()
    if left != "lock":
        (path / "catalog").mkdir()
    if left == "empty file":
        (path / "catalog" / "data.mdb").touch()
    elif left == "blank file":
        (path / "catalog" / "data.mdb").write_bytes(bytes(8192))
    elif left in ("no marker", "half a marker"):
        filled(tmp_path / "whole", count=0)
        shutil.rmtree(path / "catalog")
        shutil.copytree(tmp_path / "whole" / "catalog", path / "catalog")
        if left == "half a marker":
            (path / "regionsearch.json.new").write_text('{"kind"')
    with pytest.raises(NotADataDirectory):
        DataDirectory(path, "read")
    filled_names = ["photos"] if "marker" in left else []
    with DataDirectory(path, "write") as directory:
        assert directory.collection_names() == filled_names
    with DataDirectory(path, "read") as directory:
        assert directory.collection_names() == filled_names


def test_a_creation_that_is_killed_at_any_moment_is_completed(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from regionsearch.collection import DataDirectory; "
    script += "print(flush=True); DataDirectory(Path(sys.argv[1]), 'write')"
    chance = random.Random(3)
    for attempt in range(5):
        path = tmp_path / str(attempt)
        maker = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
        assert maker.stdout is not None
        with maker.stdout:
            maker.stdout.readline()
            time.sleep(chance.uniform(0, 0.01))
            maker.kill()
            maker.wait()
        with DataDirectory(path, "write") as directory:
            assert directory.collection_names() == []


# who may write


def test_a_second_writer_is_refused_and_told_which_process_is_the_first(tmp_path: Path) -> None:
    script = "with DataDirectory(path, 'write') as directory:\n    say('open')\n    ask()\n"
    with other_process(script, tmp_path / "data") as first:
        assert hear(first) == "open"
        with pytest.raises(DataDirectoryInUse, match=rf"pid {first.pid} on {socket.gethostname()}"):
            DataDirectory(tmp_path / "data", "write")
        first.send_signal(signal.SIGKILL)
        first.wait()
        DataDirectory(tmp_path / "data", "write").close()  # the lock went with its process


def test_a_second_writer_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data", "write") as directory:
        with pytest.raises(DataDirectoryInUse, match=rf"pid {os.getpid()} "):
            DataDirectory(tmp_path / "data", "write")
        directory.create_collection(spec())
    with DataDirectory(tmp_path / "data", "read") as reader:
        with pytest.raises(DataDirectoryInUse, match="open for reading in this process"):
            DataDirectory(tmp_path / "data", "write")
        assert reader.collection_names() == ["photos"]
    DataDirectory(tmp_path / "data", "write").close()


def test_a_fork_can_use_neither_the_directory_nor_its_lock(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "data", "write")
    collection = directory.create_collection(spec())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            collection.get("any")
        except FailedPrecondition as error:
            os.write(writing, error.message.encode())
        directory.close()
        signal.pause()
    try:
        said = os.read(reading, 1000).decode()
        assert f"opened by process {os.getpid()} and cannot be used in its fork {child}" in said
        directory.close()
        DataDirectory(tmp_path / "data", "write").close()  # while the fork lives on
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_a_reader_can_write_nothing(tmp_path: Path) -> None:
    filled(tmp_path / "data")
    random = np.random.default_rng(0)
    with DataDirectory(tmp_path / "data", "read") as directory:
        collection = directory.collection("photos")
        for write in (
            lambda: collection.upsert([record(random, "new")]),
            lambda: collection.delete(["0"]),
            lambda: collection.set_background({}),
            lambda: directory.create_collection(spec("more")),
            lambda: directory.drop_collection("photos"),
        ):
            with pytest.raises(ReadOnly, match="open for reading"):
                write()
        assert collection.stats.images == 5


@contextlib.contextmanager
def without_the_right_to_write(path: Path) -> Iterator[None]:
    """Root may write anywhere, so it becomes nobody meanwhile; others take the right from themselves."""
    for each in (path, *path.rglob("*")):
        each.chmod(0o555 if each.is_dir() else 0o444)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)
        for each in (path, *path.rglob("*")):
            each.chmod(0o755 if each.is_dir() else 0o644)


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that other users can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_directory_that_cannot_be_written_can_be_read(open_to_all: Path) -> None:
    path = open_to_all / "data"
    filled(path)
    before = contents(path)
    with without_the_right_to_write(path):
        with pytest.raises(OSError, match="denied"):
            (path / "probe").touch()
        with pytest.raises(ReadOnly, match="data"):
            DataDirectory(path, "write")
        with DataDirectory(path, "read") as directory:
            collection = directory.collection("photos")
            assert list(collection.image_ids()) == ["0", "1", "2", "3", "4"]
            assert len(collection.search(collection.get("2").vectors[0], 3).numbers) == 3
    assert contents(path) == before


def test_a_reader_that_cannot_register_keeps_writers_out(open_to_all: Path) -> None:
    path = open_to_all / "data"
    filled(path)
    script = "with DataDirectory(path, 'write') as directory:\n    say('open')\n    ask()\n"
    with other_process(script, path) as writer:
        assert hear(writer) == "open"
        with without_the_right_to_write(path), pytest.raises(DataDirectoryInUse, match=f"pid {writer.pid} "):
            DataDirectory(path, "read")
    with without_the_right_to_write(path):
        reader = DataDirectory(path, "read")
    with pytest.raises(DataDirectoryInUse):
        DataDirectory(path, "write")
    reader.close()
    DataDirectory(path, "write").close()


def test_a_place_where_nothing_can_be_made_is_named(open_to_all: Path) -> None:
    (open_to_all / "parent").mkdir()
    with without_the_right_to_write(open_to_all / "parent"), pytest.raises(ReadOnly, match="parent/data"):
        DataDirectory(open_to_all / "parent" / "data", "write")


def test_close_waits_for_reads_under_way(tmp_path: Path) -> None:
    filled(tmp_path / "data", count=200)
    directory = DataDirectory(tmp_path / "data", "read")
    collection = directory.collection("photos")
    outcomes: list[str] = []

    def read() -> None:
        try:
            while True:
                collection.candidates(list(range(1, 201)))
        except FailedPrecondition as error:
            outcomes.append(error.message)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    directory.close()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    assert all("is closed" in outcome for outcome in outcomes)
