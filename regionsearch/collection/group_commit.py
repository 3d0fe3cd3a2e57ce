"""One thread that writes: what waits together is committed together, and each caller hears of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from regionsearch.collection.environment import Environment
from regionsearch.errors import FailedPrecondition, RegionSearchError, StorageFull

GROUP_BYTES = 64 << 20
GROUP_REQUESTS = 1_000

Publish = Callable[[], None]
Apply = Callable[[Any], tuple[Any, Publish | None]]
"""Takes LMDB's write transaction, puts its changes there and returns what the caller gets, and what
makes them searchable once they are on disk (None: nothing). It refuses (RegionSearchError) before its
first change."""


@dataclass(eq=False)
class _Request:
    apply: Apply
    size: int
    future: Future[Any] = field(default_factory=Future)
    publish: Publish | None = None
    result: Any = None


class GroupCommit:
    """A synced commit costs about the same for one request as for a hundred (measured in
    docs/storage.md), so the thread takes everything that queued up while it was busy.

    A request that refuses leaves the others alone. When a group's commit fails (no space), its
    requests are tried again one by one, so that only those that do not fit fail.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._waiting: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._open = True
        self._open_lock = threading.Lock()
        self.commits = 0
        """Committed transactions."""
        self.requests = 0
        """Requests in them."""
        self._thread = threading.Thread(target=self._run, name="regionsearch-writer", daemon=True)
        self._thread.start()

    def submit(self, apply: Apply, size: int = 0) -> Any:
        """Waits until the request's transaction is on disk and published; returns what `apply` gave.

        size: bytes that it writes, roughly; bounds the memory of a group.
        Raises what `apply` refused with, StorageFull, and FailedPrecondition after `close`.
        """
        request = _Request(apply, size)
        with self._open_lock:
            if not self._open:
                raise FailedPrecondition(f"data directory '{self._environment.catalog.parent}' is closed")
            self._waiting.put(request)
        return request.future.result()

    def close(self) -> None:
        """Finishes what was submitted before, then ends the thread."""
        with self._open_lock:
            if self._open:
                self._open = False
                self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            self._commit(group)

    def _next_group(self) -> list[_Request] | None:
        request = self._waiting.get()
        if request is None:
            return None
        group = [request]
        size = request.size
        while size < GROUP_BYTES and len(group) < GROUP_REQUESTS:
            try:
                request = self._waiting.get_nowait()
            except queue.Empty:
                break
            if request is None:
                self._waiting.put(None)  # nothing can be submitted behind it any more
                break
            group.append(request)
            size += request.size
        return group

    def _commit(self, group: list[_Request], *, last_try: bool = False) -> None:
        applied: list[_Request] = []
        refused: list[tuple[_Request, RegionSearchError]] = []
        try:
            with self._environment.transaction(write=True) as transaction:
                for request in group:
                    try:
                        request.result, request.publish = request.apply(transaction)
                        applied.append(request)
                    except RegionSearchError as error:
                        refused.append((request, error))
        except BaseException as error:
            if len(group) > 1:
                for request in group:
                    self._commit([request])
            elif isinstance(error, StorageFull) and not last_try and self._environment.turn_over():
                self._commit(group, last_try=True)
            else:
                group[0].future.set_exception(error)
            return
        self.commits += bool(applied)
        self.requests += len(applied)
        for request, refusal in refused:
            request.future.set_exception(refusal)
        for request in applied:
            _finish(request)


def _finish(request: _Request) -> None:
    try:
        if request.publish is not None:
            request.publish()
    except BaseException as error:
        request.future.set_exception(error)
    else:
        request.future.set_result(request.result)
