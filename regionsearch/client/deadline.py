"""Seconds that several calls have together."""

from __future__ import annotations

import time
from typing import Any

from regionsearch.client.plain_values import seconds_of
from regionsearch.errors import DeadlineExceeded

POLL_SECONDS = 1.0
"""Between two questions about something that cannot be watched."""
POLLED_CALL_SECONDS = 60.0
"""For the answer to one."""


class Deadline:
    """seconds: from now on; None: no end. Raises InvalidRequest as `seconds_of` does."""

    def __init__(self, seconds: Any) -> None:
        self._seconds = seconds_of(seconds)
        self._ends = None if self._seconds is None else time.monotonic() + self._seconds

    def left(self, most: float) -> float:
        """Seconds that are left, `most` at most. Raises DeadlineExceeded when there are none."""
        if self._ends is None:
            return most
        left = self._ends - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"there was no end within {self._seconds:g} seconds")
        return min(left, most)
