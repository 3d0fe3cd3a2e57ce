"""Another process beside the test's, and whole collections to compare with."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from stored_images import record, spec, unit_vectors

from regionsearch.collection import Collection, DataDirectory

HERE = Path(__file__).parent


@contextlib.contextmanager
def other_process(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Runs a script that has `ask()`, which waits for a line, and killed at the end."""
    prologue = (
        "import sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from stored_images import record, spec, unit_vectors\n"
        "from regionsearch.collection import DataDirectory\n"
        "path = Path(sys.argv[1])\nrandom = np.random.default_rng(5)\n"
        "def say(what): print(what, flush=True)\ndef ask(): return sys.stdin.readline().strip()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", prologue + script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(HERE)},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return hear(process)


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def filled(path: Path, count: int = 5) -> None:
    random = np.random.default_rng(1)
    with DataDirectory(path, "write") as directory:
        collection = directory.create_collection(spec())
        collection.upsert([record(random, f"{number}") for number in range(count)])


def assert_whole(collection: Collection, ids: list[str]) -> None:
    """Searches, listings and records agree on these images, and on nothing else."""
    assert list(collection.image_ids()) == ids
    vector = unit_vectors(np.random.default_rng(0), 1)[0]
    entities = collection.search(vector, 10_000)
    assert len(entities.numbers) == 3 * len(ids) == collection.stats.entities
    images = collection.search_images(vector, 10_000)
    assert sorted(each.image_id for each in collection.candidates(images.numbers.tolist())) == ids
    for image_id in ids:
        stored = collection.get(image_id)
        assert collection.search(stored.vectors[2], 1).numbers.tolist() == [stored.number]
