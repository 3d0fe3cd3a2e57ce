"""How much of a long piece of work is done, on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_CHANGES = 0.2


class ShareDone:
    """Shows a share, 0 to 1, of what is going on: in place on a terminal, elsewhere a line now and then.

    Nothing is shown of what is over within the first moments. A context manager: it ends its line.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._in_place = sys.stderr.isatty()
        self._interval = _SECONDS_BETWEEN_CHANGES if self._in_place else _SECONDS_BETWEEN_LINES
        self._last = time.monotonic()
        self._open = False

    def __call__(self, share: float) -> None:
        now = time.monotonic()
        if now - self._last < self._interval:
            return
        self._last = now
        line = f"{self._what}: {100 * share:.0f}%"
        print(f"\r{line}" if self._in_place else line, end="" if self._in_place else "\n", file=sys.stderr)
        sys.stderr.flush()
        self._open = self._in_place

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            print(file=sys.stderr)
