"""Indexing processes never outlive the command that started them."""

from __future__ import annotations

import subprocess
import sys

import pytest

KILLED = """
import os, signal
from indexer.engines import PipelineSettings, Processes, device_processes
from regionsearch.config import Limits

if __name__ == "__main__":
    settings = PipelineSettings("dummy", "dummy", "none", 32, Limits())
    engine = {engine}
    engine.submit([]).result()
    print("computed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("engine", ["Processes(settings, 2)", 'device_processes(settings, ["cpu", "cpu"])'])
def test_workers_end_when_the_command_is_killed(engine: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(engine=engine)], stdout=subprocess.PIPE, text=True
    )
    # The workers hold the other end of the pipe, too: it is read to its end only when all are gone.
    assert process.communicate(timeout=60)[0] == "computed\n"
