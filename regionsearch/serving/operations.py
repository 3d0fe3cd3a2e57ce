"""Work that takes longer than a call: begun by one, asked about and cancelled by others.

An operation outlives the client that began it, but not the server: what it does is made of steps that each
leave a sound state, so that one that was cut off can be begun again.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from regionsearch.contract_names import OperationKind, OperationState
from regionsearch.errors import Cancelled, OperationNotFound, Overloaded, RegionSearchError, Unavailable
from regionsearch.serving.status import told

AT_ONCE = 2
"""Operations that run at the same time, of different collections: each may keep a core busy."""
MOST_WAITING = 1_000
ENDED_KEPT = 1_000
"""Operations that have ended and are still told of; the oldest are forgotten first."""
TOLD_PROGRESS = 0.01
"""Progress that is worth telling those who watch."""
_LOG = logging.getLogger("regionsearch.serving")


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """A snapshot: bytes of its files, the generation of which it is, and when it was taken (UTC)."""

    name: str
    collection: str
    images: int
    entities: int
    bytes: int
    generation: int
    created: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation came to. images: deleted, copied or brought back. complete: of a purge, whether the
    files hold nothing of the images any more. notes: for people."""

    images: int = 0
    snapshot: SnapshotFacts | None = None
    complete: bool | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """How an operation goes, at one moment. number: counts operations, from 1. progress: 0 to 1.
    created, started, finished: UTC; the latter two None before they are."""

    id: str
    number: int
    kind: OperationKind
    collection: str
    state: OperationState
    created: datetime
    progress: float = 0.0
    started: datetime | None = None
    finished: datetime | None = None
    outcome: Outcome | None = None
    error: RegionSearchError | None = None

    @property
    def ended(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")


class Steps:
    """What the work is handed: it says how far it is, and asks whether it should end."""

    def __init__(self, report: Callable[[float], None], cancelled: threading.Event) -> None:
        self._report = report
        self._cancelled = cancelled

    def progress(self, done: float) -> None:
        """done: share of the whole work, 0 to 1."""
        self._report(done)

    def check(self) -> None:
        """Raises Cancelled once somebody wants the operation to end."""
        if self._cancelled.is_set():
            raise Cancelled("the operation was cancelled")


Work = Callable[[Steps], Outcome]


@dataclass(eq=False)
class _Entry:
    operation: Operation
    work: Work
    cancelled: threading.Event


class Operations:
    """All operations of one server. Thread-safe.

    Of one collection one runs at a time, the others wait for it in their order; of all collections AT_ONCE.
    """

    def __init__(self, at_once: int = AT_ONCE, ended_kept: int = ENDED_KEPT) -> None:
        self._at_once = at_once
        self._ended_kept = ended_kept
        self._changed = threading.Condition()
        self._entries: dict[str, _Entry] = {}
        self._waiting: deque[_Entry] = deque()
        self._running: dict[str, threading.Thread] = {}
        self._ended: deque[str] = deque()
        self._count = 0
        self._stopping = False

    def begin(self, kind: OperationKind, collection: str, work: Work) -> Operation:
        """Runs the work on a thread of its own as soon as its turn comes.

        Raises Overloaded when too many wait, Unavailable when the server is stopping.
        """
        with self._changed:
            if self._stopping:
                raise Unavailable("the server is stopping and begins no operation")
            if len(self._waiting) >= MOST_WAITING:
                raise Overloaded(f"{MOST_WAITING} operations are waiting and no more fit")
            self._count += 1
            operation = Operation(
                secrets.token_hex(8), self._count, kind, collection, "waiting", datetime.now(UTC)
            )
            entry = _Entry(operation, work, threading.Event())
            self._entries[operation.id] = entry
            self._waiting.append(entry)
            self._run_next()
            return entry.operation

    def get(self, operation_id: str) -> Operation:
        """Raises OperationNotFound."""
        with self._changed:
            return self._entry(operation_id).operation

    def listed(self) -> list[Operation]:
        """The newest first."""
        with self._changed:
            return [entry.operation for entry in reversed(self._entries.values())]

    def wait_for_change(self, seen: Operation, seconds: float) -> Operation:
        """The operation as soon as it differs from what was seen, or as it is after so long.
        Raises OperationNotFound when it is forgotten meanwhile."""
        with self._changed:
            entry = self._entry(seen.id)
            self._changed.wait_for(lambda: entry.operation != seen, seconds)
            return entry.operation

    def cancel(self, operation_id: str) -> Operation:
        """Asks it to end soon; one that waits ends at once. Raises OperationNotFound."""
        with self._changed:
            entry = self._entry(operation_id)
            self._cancel(entry)
            return entry.operation

    def cancel_all_of(self, collection: str) -> None:
        """Asks all operations of a collection to end soon."""
        with self._changed:
            for entry in list(self._entries.values()):
                if entry.operation.collection == collection:
                    self._cancel(entry)

    def stop(self, seconds: float) -> bool:
        """Begins none any more, asks all to end, and waits for that, at most so long.

        Returns whether all have ended; the log names one that has not.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            self._stopping = True
            for entry in list(self._entries.values()):
                self._cancel(entry)
            threads = dict(self._running)
        for thread in threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            for collection in self._running:
                _LOG.error("event=operation_not_ended collection=%s seconds=%g", collection, seconds)
            return not self._running

    def _entry(self, operation_id: str) -> _Entry:
        entry = self._entries.get(operation_id)
        if entry is None:
            raise OperationNotFound(
                f"there is no operation {operation_id!r:.100}: it never was, it has been forgotten, or the "
                "server was started since",
                field="id",
                metadata={"operation": operation_id},
            )
        return entry

    def _cancel(self, entry: _Entry) -> None:
        entry.cancelled.set()
        if entry in self._waiting:
            self._waiting.remove(entry)
            self._end(entry, "cancelled")

    def _run_next(self) -> None:
        for entry in list(self._waiting):
            if len(self._running) >= self._at_once:
                return
            collection = entry.operation.collection
            if collection in self._running:
                continue
            self._waiting.remove(entry)
            self._change(entry, replace(entry.operation, state="running", started=datetime.now(UTC)))
            thread = threading.Thread(
                target=self._run, args=(entry,), name=f"operation-{entry.operation.kind}", daemon=True
            )
            self._running[collection] = thread
            try:
                thread.start()
            except RuntimeError as error:
                # The system gives no more threads. Whoever waits behind it must not wait for ever.
                del self._running[collection]
                refusal = Overloaded(f"no thread could be started for the operation: {error}")
                self._end(entry, "failed", error=refusal)

    def _run(self, entry: _Entry) -> None:
        outcome: Outcome | None = None
        error: RegionSearchError | None = None
        state: OperationState = "succeeded"
        try:
            outcome = entry.work(Steps(lambda done: self._progressed(entry, done), entry.cancelled))
        except Cancelled as caught:
            state, error = ("cancelled", None) if entry.cancelled.is_set() else ("failed", caught)
        except Exception as caught:
            # Whatever went wrong becomes what the operation tells, and never a lost thread.
            state, error = "failed", told(caught)
        if error is not None:
            # What it was raised in holds on to collections and arrays for as long as the error is told of.
            error.__traceback__ = error.__cause__ = error.__context__ = None
        with self._changed:
            del self._running[entry.operation.collection]
            self._end(entry, state, outcome, error)
            self._run_next()

    def _end(
        self,
        entry: _Entry,
        state: OperationState,
        outcome: Outcome | None = None,
        error: RegionSearchError | None = None,
    ) -> None:
        operation = entry.operation
        progress = 1.0 if state == "succeeded" else operation.progress
        ended = replace(
            operation,
            state=state,
            progress=progress,
            finished=datetime.now(UTC),
            outcome=outcome,
            error=error,
        )
        # The work may hold a collection and much else.
        entry.work = _nothing_left
        self._change(entry, ended)
        self._ended.append(operation.id)
        while len(self._ended) > self._ended_kept:
            del self._entries[self._ended.popleft()]
        _LOG.info(
            "event=operation_ended id=%s kind=%s collection=%s state=%s reason=%s",
            ended.id,
            ended.kind,
            ended.collection,
            state,
            "" if error is None else error.reason,
        )

    def _progressed(self, entry: _Entry, done: float) -> None:
        with self._changed:
            so_far = entry.operation.progress
            done = min(max(done, so_far), 1.0)
            if done - so_far >= TOLD_PROGRESS and not entry.operation.ended:
                self._change(entry, replace(entry.operation, progress=done))

    def _change(self, entry: _Entry, operation: Operation) -> None:
        entry.operation = operation
        self._changed.notify_all()


def _nothing_left(steps: Steps) -> Outcome:
    raise AssertionError("the operation has ended")
