"""One thread that writes: what waits together is committed together, and each caller hears of its own."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from regionsearch.collection.buffered_failures import BufferedFailures
from regionsearch.collection.environment import Environment
from regionsearch.collection.fill_level import FillWatch
from regionsearch.errors import (
    CollectionNotFound,
    DataLoss,
    FailedPrecondition,
    RegionSearchError,
    StorageFull,
)

GROUP_BYTES = 64 << 20
GROUP_REQUESTS = 1_000
BUFFERED_BYTES = 64 << 20
"""Buffered writes that may wait for their commit, roughly: as much as one group takes."""
BUFFERED_REQUESTS = GROUP_REQUESTS
LINGER_SECONDS = 0.1
"""How long a buffered write waits for company: half of its 200 ms, for the commit takes time itself."""

_log = logging.getLogger(__name__)

Publish = Callable[[], None]
Apply = Callable[[Any], tuple[Any, Publish | None]]
"""Takes LMDB's write transaction, puts its changes there and returns what the caller gets, and what
makes them searchable once they are on disk (None: nothing). It refuses (RegionSearchError) before its
first change; only DataLoss and StorageFull may come later."""


@dataclass(eq=False)
class _Request:
    """buffered: nobody waits for it; what fails is kept under this name."""

    apply: Apply
    size: int
    buffered: str | None = None
    queued: float = field(default_factory=time.monotonic)
    future: Future[Any] = field(default_factory=Future)
    publish: Publish | None = None
    result: Any = None


class _UnfinishedError(Exception):
    """A request that failed when a part of it may have been put already: its transaction is given up, and the
    group's others begin anew."""

    def __init__(self, request: _Request, error: RegionSearchError) -> None:
        super().__init__(error.message)
        self.request = request
        self.error = error


class GroupCommit:
    """A synced commit costs about the same for one request as for a hundred (measured in
    docs/storage.md), so the thread takes everything that queued up while it was busy.

    A request that refuses leaves the others alone. When a group's commit fails (no space), its
    requests are tried again one by one, so that only those that do not fit fail.

    Buffered requests stand in the same queue, so that everything is applied in the order in which it
    was queued; a group of them alone waits a moment for more.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._waiting: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._open = True
        self._open_lock = threading.Lock()
        self._buffered_bytes = 0
        self._buffered_requests = 0
        self._room = threading.Condition()
        self._fill = FillWatch(environment)
        self.failures = BufferedFailures()
        self.commits = 0
        """Committed transactions."""
        self.requests = 0
        """Requests in them."""
        self._thread = threading.Thread(target=self._run, name="regionsearch-writer", daemon=True)
        self._thread.start()

    def submit(self, apply: Apply, size: int = 0) -> Any:
        """Waits until the request's transaction is on disk and published; returns what `apply` gave.

        size: bytes that it writes, roughly; bounds the memory of a group.
        Raises what `apply` refused with, StorageFull, and FailedPrecondition after `close` and in a fork.
        """
        request = _Request(apply, size)
        self._queue(request)
        return request.future.result()

    def submit_buffered(self, apply: Apply, size: int, owner: str) -> None:
        """Returns when the request is queued, which waits while too much is waiting already.

        What goes wrong later is logged, and kept in `failures` under `owner`.
        Raises FailedPrecondition after `close`, and in a fork.
        """
        self._environment.refuse_fork()
        with self._room:
            self._room.wait_for(lambda: self._takes(size))
            self._buffered_bytes += size
            self._buffered_requests += 1
        request = _Request(apply, size, owner)
        try:
            self._queue(request)
        except BaseException:
            self._left(request)
            raise

    def flush(self) -> None:
        """Waits until everything that was queued before is committed or has failed."""
        self.submit(lambda transaction: (None, None))

    def close(self) -> None:
        """Finishes what was submitted before, then ends the thread."""
        with self._open_lock:
            if self._open:
                self._open = False
                self._waiting.put(None)
        self._thread.join()

    def _queue(self, request: _Request) -> None:
        self._environment.refuse_fork()
        with self._open_lock:
            if not self._open:
                raise FailedPrecondition(f"data directory '{self._environment.catalog.parent}' is closed")
            self._waiting.put(request)

    def _takes(self, size: int) -> bool:
        if self._buffered_requests == 0:
            return True  # one that is larger than the bound passes alone
        return self._buffered_requests < BUFFERED_REQUESTS and self._buffered_bytes + size <= BUFFERED_BYTES

    def _left(self, request: _Request) -> None:
        with self._room:
            self._buffered_bytes -= request.size
            self._buffered_requests -= 1
            self._room.notify_all()

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            # Whatever happens, this thread lives on: everyone who writes after it waits for it.
            try:
                self._commit(group)
            except BaseException as error:
                _log.exception("a group of writes failed in an unforeseen way")
                for request in group:
                    if not request.future.done():
                        self._failed(request, error)
            try:
                self._fill.look()
            except Exception:
                _log.exception("how full '%s' is cannot be told", self._environment.catalog.parent)

    def _next_group(self) -> list[_Request] | None:
        request = self._waiting.get()
        if request is None:
            return None
        group = [request]
        size = request.size
        # Nobody waits for what is buffered; the first request that somebody waits for ends the pause.
        until = request.queued + LINGER_SECONDS
        while size < GROUP_BYTES and len(group) < GROUP_REQUESTS:
            pause = until - time.monotonic() if request.buffered is not None else 0.0
            try:
                following = self._waiting.get(timeout=pause) if pause > 0 else self._waiting.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._waiting.put(None)  # nothing can be submitted behind it any more
                break
            request = following
            group.append(request)
            size += request.size
            if request.buffered is None:
                until = 0.0
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
                    except (DataLoss, StorageFull) as error:
                        raise _UnfinishedError(request, error) from error
                    except RegionSearchError as error:
                        refused.append((request, error))
        except _UnfinishedError as unfinished:
            others = [request for request in group if request is not unfinished.request]
            self._failed(unfinished.request, unfinished.error)
            if others:
                self._commit(others)
            return
        except BaseException as error:
            if len(group) > 1:
                for request in group:
                    self._commit([request])
            elif isinstance(error, StorageFull) and not last_try and self._environment.turn_over():
                self._commit(group, last_try=True)
            else:
                self._failed(group[0], error)
            return
        self.commits += bool(applied)
        self.requests += len(applied)
        for request, refusal in refused:
            self._failed(request, refusal)
        for request in applied:
            try:
                if request.publish is not None:
                    request.publish()
            except BaseException as error:
                self._failed(request, error)
            else:
                self._done(request)

    def _done(self, request: _Request) -> None:
        if request.buffered is not None:
            self._left(request)
        request.future.set_result(request.result)

    def _failed(self, request: _Request, error: BaseException) -> None:
        if request.buffered is not None:
            # Before it leaves: whoever sees that nothing waits any more must find what failed. What was for a
            # collection that has been dropped since would be gone in any case.
            if not isinstance(error, CollectionNotFound):
                self.failures.add(request.buffered, error)
            self._left(request)
        request.future.set_exception(error)
