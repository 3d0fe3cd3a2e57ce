"""An end to streams that bring nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, Queue

from regionsearch.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class _End:
    """The stream is over: in order, or with an error."""

    error: Exception | None


@contextmanager
def unless_idle(messages: Iterator[bytes], seconds: float) -> Iterator[Iterator[bytes]]:
    """The same messages, for as long as none takes more than `seconds` to arrive; then DeadlineExceeded.

    gRPC's iterator waits without end, so that a thread of its own has to wait on it: at most one
    message ahead of whoever reads here. It ends with the stream, which ends with the call. Time that
    the reader spends between messages does not count.
    """
    arrived: Queue[bytes | _End] = Queue(1)
    unread = threading.Event()

    def receive() -> None:
        try:
            for message in messages:
                arrived.put(message)
                if unread.is_set():
                    return
        except Exception as error:
            # Raised again where the messages are read.
            arrived.put(_End(error))
        else:
            arrived.put(_End(None))

    def received() -> Iterator[bytes]:
        while True:
            try:
                message = arrived.get(timeout=seconds)
            except Empty:
                raise DeadlineExceeded(f"the stream brought no message for {seconds:g} s") from None
            if not isinstance(message, _End):
                yield message
            elif message.error is None:
                return
            else:
                raise message.error

    threading.Thread(target=receive, name="stream", daemon=True).start()
    try:
        yield received()
    finally:
        unread.set()
        # Makes room for the message that the thread may be about to hand over.
        with suppress(Empty):
            arrived.get_nowait()
