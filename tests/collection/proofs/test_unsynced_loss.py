"""A disk that loses everything that was not synced, at any moment, loses no acknowledged write."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from crash_runs import forks, in_a_process
from ledger import Ledger
from store_checks import check_after_crash
from synced_disk import Event, SyncedDisk, read_events

HERE = Path(__file__).parent
RUN_SECONDS = 6.0


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: the recorder of writes and syncs cannot be built")
    library = tmp_path_factory.mktemp("recorder") / "synced_writes.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "synced_writes.c")]
    subprocess.run([*command, "-ldl", "-lpthread"], check=True)
    return library


@pytest.fixture
def losses(request: pytest.FixtureRequest) -> int:
    """--losses N; otherwise 10, and 60 with --slow."""
    given: int | None = request.config.getoption("--losses")
    return given or (60 if request.config.getoption("--slow") else 10)


def test_what_was_acknowledged_was_synced(tmp_path: Path, recorder: Path, losses: int) -> None:
    seed = 7_301
    print(f"seed {seed}")
    random = np.random.default_rng(seed)
    events, root = recorded_run(tmp_path, recorder, seed)
    # Before the data directory's own name is on disk there is nothing to open.
    first = next(place for place, event in enumerate(events) if event.kind == "L" and event.inode == root)
    acknowledged = [place for place, event in enumerate(events) if event.kind == "A"]
    assert len(acknowledged) > 100
    context = forks()
    cuts = np.sort(random.integers(first + 1, len(events), losses))
    disk, at = SyncedDisk(), 0
    for number, cut in enumerate(cuts.tolist()):
        for event in events[at:cut]:
            disk.apply(event)
        at = cut
        after = tmp_path / f"after-{number}"
        disk.write_out(root, after)
        in_a_process(context, _check, after / "data", list(disk.said))
        shutil.rmtree(after)
    print(f"{losses} losses, {len(events)} writes and syncs, {len(acknowledged)} lines said")


def recorded_run(tmp_path: Path, recorder: Path, seed: int) -> tuple[list[Event], int]:
    """A writer under load that is killed in the end: all that it wrote, and the inode of the folder around
    its data directory."""
    watched, outside, log = tmp_path / "watched", tmp_path / "outside", tmp_path / "log"
    watched.mkdir()
    outside.mkdir()
    environment = {
        **os.environ,
        "LD_PRELOAD": str(recorder),
        "WATCHED": str(watched.resolve()),
        "WRITE_LOG": str(log),
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
    }
    command = [
        sys.executable,
        str(HERE / "writer_under_load.py"),
        str(watched / "data"),
        str(seed),
        str(outside),
    ]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = iter(process.stdout)
        assert next(said) == "ready\n"
        end = time.monotonic() + RUN_SECONDS
        for _ in said:
            if time.monotonic() > end:
                break
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return list(read_events(log)), watched.stat().st_ino


def _check(path: Path, said: list[str]) -> None:
    ledger = Ledger()
    ledger.read(line for line in said if line != "ready")
    check_after_crash(path, ledger)
