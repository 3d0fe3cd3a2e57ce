"""How full the room of a data directory is, and when to say so."""

from __future__ import annotations

import logging
import time

from regionsearch.collection.environment import Environment

WARNING_FILL = 0.8
_QUIET_AGAIN = 0.75
"""Below the warning's level, so that writes and deletions around it do not fill the log."""
_SECONDS_BETWEEN_LOOKS = 1.0
_log = logging.getLogger(__name__)


def fill_warning(environment: Environment, fill: float) -> str:
    """For people; "" below 80%."""
    if fill < WARNING_FILL:
        return ""
    used, room = environment.used() / 2**30, environment.room() / 2**30
    return (
        f"data directory '{environment.catalog.parent}' is {int(100 * fill)}% full: {used:,.2f} GiB in use "
        f"of the {room:,.2f} GiB that its map and its disk allow; writes are refused when nothing is left"
    )


class FillWatch:
    """Warns in the log when the level is crossed upwards, once until it was below 75% again."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._warned = False
        self._next_look = 0.0

    def look(self) -> None:
        """Called after commits; looks once a second."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _SECONDS_BETWEEN_LOOKS
        fill = self._environment.fill()
        if fill >= WARNING_FILL and not self._warned:
            self._warned = True
            _log.warning("%s", fill_warning(self._environment, fill))
        elif fill < _QUIET_AGAIN:
            self._warned = False
