"""Keeps numpy's matrix products on the calling thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_inside = 0
_limit: Any = None
_controller: ThreadpoolController | None = None


@contextmanager
def single_threaded_products() -> Iterator[None]:
    """Within it, BLAS uses one thread in the whole process; may be entered by several threads at once.

    Merging superpixels is hundreds of tiny products: handing each to a second core makes them several
    times slower as soon as anything else wants that core (figures in docs/compact-segmenter.md). The
    setting is the process's, hence the count: the last one to leave restores it.
    """
    global _inside, _limit, _controller
    with _lock:
        if _inside == 0:
            if _controller is None:
                _controller = ThreadpoolController()
            _limit = _controller.limit(limits=1, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.restore_original_limits()
