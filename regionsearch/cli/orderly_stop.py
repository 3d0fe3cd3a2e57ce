"""Ctrl-C and SIGTERM as a wish to stop, for commands that finish what they have begun."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_STOPPING_NOTE = b"\nstopping after what is being computed; once more to leave at once\n"


class OrderlyStop:
    """While entered, the first SIGINT or SIGTERM sets `event` and says so on stderr.

    A KeyboardInterrupt can come between any two steps of Python, for example after a batch was stored
    and before it was counted; an event is looked at where the work can be left. The second signal acts
    as it would without this. To be entered in the main thread.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal_number: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _STOPPING:
            self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        self._give_back()
        self.event.set()
        # Not print: the signal may have come in the middle of a write to the same buffered stream.
        os.write(2, _STOPPING_NOTE)

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
