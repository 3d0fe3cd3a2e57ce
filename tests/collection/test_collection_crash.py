"""A writer that is killed loses nothing that it acknowledged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from stored_images import unit_vectors

from regionsearch.collection import DataDirectory
from regionsearch.errors import CollectionNotFound

WRITER = Path(__file__).with_name("writer_to_kill.py")
DELETED = -1


def run_and_kill(path: Path, seed: int, seconds: float) -> list[str]:
    """What a writer said before it was killed, `seconds` after its first word."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    writer = subprocess.Popen(
        [sys.executable, str(WRITER), str(path), str(seed)], stdout=subprocess.PIPE, env=environment
    )
    assert writer.stdout is not None
    with writer.stdout:
        first = writer.stdout.readline()
        killer_at = time.monotonic() + seconds
        os.set_blocking(writer.stdout.fileno(), False)
        said = first
        while time.monotonic() < killer_at:
            said += writer.stdout.read() or b""
            time.sleep(0.001)
        assert writer.poll() is None, "the writer ended by itself"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        os.set_blocking(writer.stdout.fileno(), True)
        said += writer.stdout.read()
    return said.decode().splitlines()


def may_be_stored(lines: list[str], before: dict[str, int]) -> dict[str, set[int]]:
    """For each image the marks that may be there: the last acknowledged, or one begun after it.

    Each image belongs to one thread of the writer, whose writes follow one another.
    """
    possible: dict[str, set[int]] = defaultdict(lambda: {DELETED})
    possible.update({image_id: {mark} for image_id, mark in before.items()})
    for line in lines:
        event, image_id, mark = line.split()
        if event == "done":
            possible[image_id] = {int(mark)}
        else:
            possible[image_id] = possible[image_id] | {int(mark)}
    return possible


def cut_calls(lines: list[str]) -> dict[int, set[str]]:
    """Upserts that began and were not acknowledged, mark to images."""
    begun: dict[int, set[str]] = defaultdict(set)
    for event, image_id, mark in (line.split() for line in lines):
        if event == "begin" and int(mark) != DELETED:
            begun[int(mark)].add(image_id)
        else:
            begun.pop(int(mark), None)
    return begun


def stored_marks(path: Path) -> dict[str, int]:
    """Opens the directory for writing, checks that every image is whole, returns its mark."""
    marks = {}
    with DataDirectory(path, "write") as directory:
        try:
            collection = directory.collection("photos")
        except CollectionNotFound:
            return {}
        entities = 0
        for image_id in collection.image_ids():
            record = collection.get(image_id, pixels=True)  # verifies checksums
            mark = record.payload["mark"]
            assert record.content_hash == f"{mark:064x}"
            assert record.pixels == b"%d" % mark
            found = collection.find_content(record.content_hash)
            assert found is not None
            assert found.payload["mark"] == mark
            best = collection.search(record.vectors[1], 1)
            assert best.numbers.tolist() == [record.number]
            marks[image_id] = mark
            entities += len(record.entities)
        stats = collection.stats
        assert (stats.images, stats.entities) == (len(marks), entities)
        everything = collection.search(unit_vectors(np.random.default_rng(0), 1)[0], 10**6)
        assert len(everything.numbers) == entities
    return marks


def kill_often(path: Path, kills: int, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    marks: dict[str, int] = {}
    acknowledged = 0
    for round_number in range(1, kills + 1):
        lines = run_and_kill(path, round_number, chance.uniform(0, 0.25))
        acknowledged += sum(line.startswith("done") for line in lines)
        possible = may_be_stored(lines, marks)
        marks = stored_marks(path)
        for image_id, may_be in possible.items():
            assert marks.get(image_id, DELETED) in may_be, f"round {round_number}, image {image_id}"
        for mark, images in cut_calls(lines).items():
            landed = {image_id for image_id in images if marks.get(image_id) == mark}
            assert landed in (set(), images), f"round {round_number}: half of a call landed"
        assert set(marks) <= set(possible)
    assert acknowledged > kills, "the writer was killed before it did anything"


def test_a_killed_writer_loses_no_acknowledged_write_and_leaves_no_half_image(tmp_path: Path) -> None:
    kill_often(tmp_path / "data", kills=10, seed=7)


@pytest.mark.slow
def test_a_hundred_kills_lose_no_acknowledged_write(tmp_path: Path) -> None:
    kill_often(tmp_path / "data", kills=100, seed=time.time_ns() % 10**9)


def test_a_creation_that_was_cut_short_is_completed(tmp_path: Path) -> None:
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
