"""The network on ONNX Runtime: one picture on all cores, or a picture on each."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.models.compact.network_graph import INPUT, LAST, LEVELS, level_name
from regionsearch.models.compact.onnx_session import open_session

OUTPUTS = [*map(level_name, LEVELS), LAST]


class NetworkSession:
    """Several pictures are shared out, one to a core: the activations of one picture stay in that
    core's cache, which is quicker than a common batch that all cores walk through together
    (docs/compact.md has the figures), and a picture's features do not depend on its company.

    threads: cores used inside one call; None: all. Safe to use from several threads.
    """

    def __init__(self, graph: bytes, threads: int | None) -> None:
        self._threads = threads or os.cpu_count() or 1
        self._graph = graph
        self._on_all_cores = open_session(graph, self._threads)
        self._on_one_core = self._on_all_cores if self._threads == 1 else None
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def run(self, inputs: Sequence[NDArray[np.float32]]) -> list[list[NDArray[np.float32]]]:
        """inputs: (3, h, w) each, of any sizes. Returns for each its maps (c, h, w), as OUTPUTS names
        them."""
        if len(inputs) == 1:
            return [_maps(self._on_all_cores, inputs[0])]
        session, pool = self._shared_out()
        if pool is None:
            return [_maps(session, each) for each in inputs]
        return list(pool.map(lambda each: _maps(session, each), inputs))

    def _shared_out(self) -> tuple[Any, ThreadPoolExecutor | None]:
        with self._lock:
            if self._on_one_core is None:
                self._on_one_core = open_session(self._graph, 1)
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="compact-network")
            return self._on_one_core, self._pool


def _maps(session: Any, values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [maps[0] for maps in session.run(OUTPUTS, {INPUT: values[None]})]
