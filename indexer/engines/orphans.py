"""Processes that end when the one that started them does."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """To be called in a process that was started by `multiprocessing`.

    A pool's process waits for work on a pipe that it and its siblings hold open themselves: if the parent
    is killed it would wait for ever, and keep its models in the memory of a GPU.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("this process was not started by multiprocessing")

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()
