"""Runs writers and kills them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODULES = ["writer_under_load", "store_checks", "sightings"]
PRELOADED = ["numpy", "faiss", "lmdb", "regionsearch.collection", *MODULES]
PATIENCE_SECONDS = 40.0
_SECONDS_OF_READING_ON = 0.05


def forks() -> Any:
    """Processes begin as forks of one that has imported everything and opened nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def killed_writer(
    context: Any,
    path: Path,
    seed: int,
    outside: Path,
    *,
    after_seconds: float = PATIENCE_SECONDS,
    die_at: str = "",
    nth: int = 1,
    sightings: Path | None = None,
) -> tuple[list[str], bool]:
    """Lets a writer run and kills it so long after it was ready, unless it kills itself before, at the nth
    time of a step. Returns the lines it said, and whether it came to the step.

    sightings: where a reader in another process says what it sees until the writer is dead."""
    fifo = outside / "said"
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo)
    process = context.Process(target=_write, args=(str(fifo), path, seed, outside, die_at, nth))
    process.start()
    lines: list[str] = []
    ready = threading.Event()

    def listen() -> None:
        with fifo.open(encoding="utf-8") as said:
            for line in said:
                if line.endswith("\n"):
                    lines.append(line)
                    if line == "ready\n":
                        ready.set()

    listener = threading.Thread(target=listen)
    listener.start()
    # A writer that dies while it opens what the last one left is ready never, and that is well.
    while not ready.wait(0.02) and process.is_alive():
        pass
    reader = None
    if sightings is not None and ready.is_set():
        reader = context.Process(target=_read, args=(path, sightings))
        reader.start()
    process.join(after_seconds)
    on_its_own = not process.is_alive()
    if not on_its_own:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    listener.join()
    if reader is not None:
        time.sleep(_SECONDS_OF_READING_ON)
        reader.kill()
        reader.join()
    assert process.exitcode == -signal.SIGKILL, f"the writer ended with {process.exitcode}: {lines[-3:]}"
    return [line.rstrip("\n") for line in lines if line != "ready\n"], on_its_own


def _read(path: Path, sightings: Path) -> None:
    from sightings import read_for_ever
    from writer_under_load import image_ids

    read_for_ever(path, image_ids(), sightings)


def in_a_process(context: Any, work: Callable[..., None], *arguments: Any) -> None:
    """What a crash would otherwise take the tests with. Raises AssertionError when it fails."""
    process = context.Process(target=work, args=arguments)
    process.start()
    process.join(PATIENCE_SECONDS)
    if process.is_alive():
        process.kill()
        raise AssertionError(f"{work.__name__} hangs")
    assert process.exitcode == 0, f"{work.__name__} ended with {process.exitcode}"


def _write(fifo: str, path: Path, seed: int, outside: Path, die_at: str, nth: int) -> None:
    from writer_under_load import run

    descriptor = os.open(fifo, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.close(descriptor)
    run(path, seed, outside, die_at, nth)
