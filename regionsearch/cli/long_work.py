"""Work that shows how far it is and that Ctrl-C ends in order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from regionsearch.cli.orderly_stop import OrderlyStop
from regionsearch.cli.share_done import ShareDone
from regionsearch.errors import Cancelled

Progress = Callable[[float], None]
"""Is told the share that is done, 0 to 1."""
Check = Callable[[], None]
"""Called often; raises Cancelled when the work is to end."""


@contextmanager
def long_work(what: str) -> Iterator[tuple[Progress, Check]]:
    """What to hand on to the work, called `what` on stderr. When a signal has ended it the process ends too,
    as if by the signal (128 and its number)."""
    with OrderlyStop() as stop, ShareDone(what) as progress:

        def check() -> None:
            if stop.event.is_set():
                raise Cancelled("stopped")

        try:
            yield progress, check
        except Cancelled:
            if stop.signal_number is None:
                raise
            print(f"regionsearch: {what} was stopped; nothing of it is left half done", file=sys.stderr)
            raise SystemExit(128 + stop.signal_number) from None
