"""A process that is killed at a step of a snapshot, restore, switch, drop or purge leaves one of two
states, and nothing else after the next open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from other_processes import other_process, tell
from stored_images import record, spec

from regionsearch.collection import DataDirectory, snapshots
from regionsearch.collection.integrity import verify
from regionsearch.collection.purging import purge
from regionsearch.collection.segments.upkeep import UpkeepSettings
from regionsearch.errors import CollectionNotFound

QUIET = UpkeepSettings(background=False)
IMAGES = 40
KILLED_AT = {
    "snapshot": ["rows copied", "files copied", "synced", "renamed"],
    "restore": ["source opened", "verified", "rows copied", "files copied", "published"],
    "replace": ["rows copied", "published", "drop: files removed", "drop: rows partly freed", "drop: freed"],
    "alias": ["switched"],
    "drop": ["hidden", "files removed", "rows partly freed", "freed"],
    "purge": ["image deleted", "snapshots rewritten", "scrubbed"],
}
KILLER = """
import os, shutil, signal
from regionsearch.collection import data_directory, snapshots, steps
from regionsearch.collection.purging import purge
from regionsearch.collection.segments.upkeep import UpkeepSettings
data_directory._SWEEP_ROWS = 30

def killed_at(step, folder):
    steps.observe(lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == step else None)
    with DataDirectory(folder / 'data', 'write', upkeep=UpkeepSettings(background=False)) as directory:
        work = folder.name.split('-')[0]
        if work == 'snapshot':
            snapshots.create(directory, 'photos', folder / 'new.tar')
        elif work == 'restore':
            snapshots.restore(directory, folder / 'old', name='copy')
        elif work == 'replace':
            snapshots.restore(directory, folder / 'old', replace=True)
        elif work == 'alias':
            directory.set_alias('newest', 'photos')
        elif work == 'drop':
            directory.drop_collection('photos', aliases='delete')
        else:
            purge(directory, 'photos', ['7'], snapshots=[folder / 'old'])

while line := ask():
    name, step = line.split('|')
    folder = path.parent / name
    shutil.copytree(path, folder)
    child = os.fork()
    if child == 0:
        killed_at(step, folder)
        os._exit(3)
    _, status = os.waitpid(child, 0)
    say(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 'ended')
"""


QUICK = {"synced", "files copied", "published", "switched", "rows partly freed", "image deleted"}


def cases() -> list[Any]:
    """(what is done, the step); one step of each by default, all with `--slow`."""
    found = []
    for work, names in KILLED_AT.items():
        quick = next(name for name in names if name in QUICK and (work != "snapshot" or name == "synced"))
        for name in names:
            step = name if ": " in name else f"{'restore' if work == 'replace' else work}: {name}"
            marks = () if name == quick else pytest.mark.slow
            found.append(pytest.param(work, step, marks=marks, id=f"{work}-{step}"))
    return found


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], Path]]:
    """Gives a folder with a data directory whose writer was killed at a step."""
    base = tmp_path_factory.mktemp("killed") / "base"
    random = np.random.default_rng(1)
    with DataDirectory(base / "data", "write", upkeep=QUIET) as directory:
        photos = directory.create_collection(spec())
        photos.upsert([record(random, f"{number}", pixels=b"x") for number in range(IMAGES)])
        photos.seal()
        directory.create_collection(spec("other")).upsert([record(random, "kept")])
        directory.set_alias("newest", "other")
        directory.set_alias("pictures", "photos")
        snapshots.create(directory, "photos", base / "old")
        photos.delete(["0"])
    with other_process(KILLER, base) as process:

        def kill(work: str, step: str) -> Path:
            name = f"{work}-{step.replace(': ', '-').replace(' ', '-')}"
            assert tell(process, f"{name}|{step}") == "9"
            return base.parent / name

        yield kill


def numbers_in_use(directory: DataDirectory) -> set[str]:
    return {str(directory.collection(name).number) for name in directory.collection_names()}


@pytest.mark.parametrize(("work", "step"), cases())
def test_a_kill_leaves_the_old_state_or_the_new_one_and_no_leftovers(
    killed: Callable[[str, str], Path], work: str, step: str
) -> None:
    folder = killed(work, step)
    done = step.endswith(("published", "renamed", "switched")) or step.startswith("drop: ")
    with DataDirectory(folder / "data", "write", upkeep=QUIET) as directory:
        names = directory.collection_names()
        expected = {"other", "photos"} | ({"copy"} if work == "restore" and done else set())
        if work == "drop":
            expected -= {"photos"}
        assert set(names) == expected
        assert list(directory.collection("other").image_ids()) == ["kept"]
        assert directory.collection("newest").spec.name == ("photos" if work == "alias" else "other")
        images = IMAGES - 1
        if (work == "replace" and done) or (work == "restore" and done):
            restored = directory.collection("copy" if work == "restore" else "photos")
            assert restored.stats.images == IMAGES
            assert restored.contains("0")
        if work == "replace" and done:
            images = IMAGES
        if work == "purge":
            images -= 1
            assert not directory.collection("photos").contains("7")
            again = purge(directory, "photos", ["7"], snapshots=[folder / "old"])
            assert again.complete
            assert snapshots.verify(folder / "old").ok
            assert snapshots.describe(folder / "old").images == IMAGES - 1
        if work == "drop":
            with pytest.raises(CollectionNotFound):
                directory.collection("pictures")
        else:
            photos = directory.collection("pictures")
            assert photos.stats.images == images
            assert len(photos.search(photos.get("3").vectors[1], 5).numbers) == 5
        environment = directory.environment
        with environment.transaction() as transaction:
            assert transaction.stat(environment.database("dropped"))["entries"] == 0
            stored = transaction.stat(environment.database("records"))["entries"]
        assert stored == sum(directory.collection(name).stats.images for name in names)
        folders = {path.name for path in (folder / "data" / "segments").glob("*")}
        assert folders <= numbers_in_use(directory)
        assert list(folder.glob("*.partial")) == []
        if work == "snapshot":
            assert (folder / "new.tar").exists() == done
            if done:
                assert snapshots.verify(folder / "new.tar").ok
            else:
                snapshots.create(directory, "photos", folder / "new.tar")
    assert verify(folder / "data").problems == ()
