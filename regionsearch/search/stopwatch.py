"""Where the time of one query goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from regionsearch.search.query import STAGES


class Stopwatch:
    """Milliseconds by stage; stages that never ran stay at 0."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.milliseconds[name] += 1000 * (time.perf_counter() - started)
