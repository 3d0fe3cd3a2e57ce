"""A read transaction that outlives the call that began it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from regionsearch.collection.environment import Environment
from regionsearch.errors import FailedPrecondition

GROWTH_LIMIT = 8 << 30
"""Bytes by which the catalog may grow during one: pages that writes free meanwhile cannot be used again."""


class LongRead:
    """The catalog as it was at one moment, read step by step while writes go on.

    It ends itself, with an error at the next step, when the catalog has grown by `growth_limit` bytes or by
    half of the room that it had, whichever is less. Closing the directory ends it too, instead of waiting.
    """

    def __init__(self, environment: Environment, growth_limit: int = GROWTH_LIMIT) -> None:
        self._environment = environment
        self._lock = threading.Lock()
        self._ended = ""
        self._held = contextlib.ExitStack()
        self._transaction = self._held.enter_context(environment.transaction())
        self._bytes_at_start = environment.used_until()
        self._may_grow = min(growth_limit, environment.room_left() // 2)
        self._unregister = environment.ends_with(self)

    @contextlib.contextmanager
    def step(self) -> Iterator[Any]:
        """The transaction, for one step. Raises FailedPrecondition when it has ended."""
        with self._lock:
            grown = self._environment.used_until() - self._bytes_at_start if not self._ended else 0
            if grown > self._may_grow:
                self._end(
                    f"was ended, for the catalog grew by {grown / 2**20:,.0f} MiB meanwhile, of "
                    f"{self._may_grow / 2**20:,.0f} allowed: pages that writes free are kept while it goes on"
                )
            if self._ended:
                raise FailedPrecondition(f"a long read of '{self._environment.catalog.parent}' {self._ended}")
            yield self._transaction

    def end(self, why: str = "has ended") -> None:
        """Lets go of its moment; waits for a step under way. May be called again."""
        with self._lock:
            self._end(why)

    def _end(self, why: str) -> None:
        if not self._ended:
            self._ended = why
            self._unregister()
            self._held.close()
