"""Has a catalog examined in a child process, and takes a child's death for what it is: damage.

The child is a fresh interpreter, not a fork: forks of a process that uses gRPC or LMDB are not safe. It costs
about 0.2 s, and is needed only after an unclean stop, and for `verify`.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regionsearch.collection.integrity.examine import examine
from regionsearch.collection.integrity.problems import Problem, broken_pages

SECONDS_WITHOUT_A_SIGN = 60.0
"""The child says four times a second how far it is; a disk under load can hold it up for seconds."""
_PROGRAM = "regionsearch.collection.integrity"
_ROOT = Path(__file__).resolve().parents[3]
_start = subprocess.Popen
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Examination:
    """transaction: LMDB's, of the state that was examined. pages: of the file; lost_pages: neither used nor
    free. images: records met. format: what the catalog says."""

    problems: tuple[Problem, ...]
    transaction: int | None = None
    pages: int = 0
    lost_pages: int = 0
    images: int = 0
    format: str = ""


def examine_catalog(
    data: Path,
    *,
    thorough: bool,
    beside_writer: bool = False,
    progress: Callable[[float], None] | None = None,
    check: Callable[[], None] | None = None,
) -> Examination:
    """data: LMDB's file. thorough: every byte of every row; otherwise what an open after a kill needs.
    beside_writer: a process may be writing to it. progress: 0 to 1. check: raises Cancelled.

    A child that is killed by a signal, breaks off or says nothing for a minute is a problem that stops.
    """
    words = [sys.executable, "-m", _PROGRAM, os.fspath(data)]
    words += ["--thorough"] * thorough + ["--beside-writer"] * beside_writer
    paths = [os.fspath(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with tempfile.TemporaryFile() as errors:
        try:
            child = _start(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment
            )
        except OSError as error:
            # No process to be had, or no right to start one. The walk checks every bound itself: what is
            # left to fear here is a disk that cannot be read.
            _log.warning("the catalog is examined in this process, for no other could be started: %s", error)
            return _examination(examine(data, thorough, beside_writer, _progress_only(progress, check)))
        try:
            said = _listen(child, progress, check)
            status = child.wait()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()
        if said is None:
            stuck = f"the examination did not move for {SECONDS_WITHOUT_A_SIGN:.0f} s"
            return Examination((broken_pages(stuck),))
        if status < 0:
            name = signal.Signals(-status).name
            return Examination((broken_pages(f"reading it killed the examining process ({name})"),))
        if status > 0 or "problems" not in said:
            errors.seek(0)
            last = errors.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
            return Examination((broken_pages(f"the examination broke off: {last:.300}"),))
    return _examination(said)


def _examination(said: dict[str, Any]) -> Examination:
    problems = tuple(Problem.from_json(each) for each in said["problems"])
    return Examination(problems, **{name: value for name, value in said.items() if name != "problems"})


def _progress_only(
    progress: Callable[[float], None] | None, check: Callable[[], None] | None
) -> Callable[[dict[str, Any]], None]:
    def say(said: dict[str, Any]) -> None:
        if check is not None:
            check()
        if progress is not None:
            progress(float(said["progress"]))

    return say


def _listen(
    child: subprocess.Popen[bytes],
    progress: Callable[[float], None] | None,
    check: Callable[[], None] | None,
) -> dict[str, Any] | None:
    """The last line that the child says; {} when there is none, None when it is stuck (and killed)."""
    assert child.stdout is not None
    said: dict[str, Any] = {}
    waited = 0.0
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if check is not None:
                check()
            if not selector.select(0.2):
                waited += 0.2
                if waited >= SECONDS_WITHOUT_A_SIGN:
                    child.kill()
                    return None
                continue
            waited = 0.0
            piece = os.read(child.stdout.fileno(), 1 << 16)
            if not piece:
                return said
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                said = json.loads(line)
                if progress is not None and "progress" in said:
                    progress(float(said["progress"]))
