"""A real server in a process of its own, for as long as a `with` block lasts."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from regionsearch.errors import Unavailable

START_SECONDS = 120.0
"""Time for loading the models on a slow machine."""
STOP_SECONDS = 15.0
"""Time for an orderly end, after which the process is killed."""


class ServerProcess:
    """`regionsearch serve` on a free port of this machine; `address` is HOST:PORT.

    Raises Unavailable, with the server's last line, when it ends or does not answer in time.
    """

    def __init__(self, data: Path, *, start_seconds: float = START_SECONDS) -> None:
        self._data = data
        self._start_seconds = start_seconds
        self.address = ""

    def __enter__(self) -> ServerProcess:
        # A file and not a pipe: nobody reads the log while the server runs, and a full pipe would stop it.
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "regionsearch",
                "serve",
                "--data",
                str(self._data),
                "--address",
                "127.0.0.1:0",
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.address = self._first_line()
        except BaseException:
            self._stop()
            raise
        return self

    @property
    def process_id(self) -> int:
        return self._process.pid

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _first_line(self) -> str:
        """The bound address, which the server prints once it answers."""
        assert self._process.stdout is not None
        lines: list[str] = []
        reader = threading.Thread(
            target=lambda stream: lines.append(stream.readline().strip()),
            args=(self._process.stdout,),
            daemon=True,
        )
        reader.start()
        reader.join(self._start_seconds)
        if lines and lines[0]:
            return lines[0]
        if reader.is_alive():
            raise Unavailable(f"the server did not answer within {self._start_seconds:g} s")
        self._process.wait(STOP_SECONDS)
        self._log.seek(0)
        said = self._log.read().strip().splitlines()
        raise Unavailable(f"the server ended at once: {said[-1] if said else 'it said nothing'}")

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._log.close()
