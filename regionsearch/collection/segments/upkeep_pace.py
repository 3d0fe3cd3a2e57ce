"""How the building of a segment shares the machine, and how it is followed and stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from regionsearch.collection.search_arms import SearchArms
from regionsearch.errors import Cancelled, CollectionNotFound

if TYPE_CHECKING:
    from regionsearch.collection.segments.upkeep import Upkeep

Progress = Callable[[float], None]
Check = Callable[[], None]
_REST_SECONDS = 0.0005


class UpkeepPace:
    """How a build gives way to searches, and how its caller follows and stops it."""

    def __init__(
        self,
        upkeep: Upkeep,
        arms: SearchArms,
        progress: Progress | None,
        check: Check | None,
        *,
        is_sealing: bool = False,
    ) -> None:
        self._upkeep = upkeep
        self._arms = arms
        self._progress = progress
        self._check = check
        self._is_sealing = is_sealing

    def sealing(self) -> UpkeepPace:
        """For a seal, within which no other begins."""
        return UpkeepPace(self._upkeep, self._arms, None, self._check, is_sealing=True)

    def threads(self) -> int:
        # A build on both cores made a search beside it 17 times slower, one on one thread cost nothing.
        return 1 if self._upkeep.is_searched(self._arms) else os.cpu_count() or 1

    def breathe(self, done: float) -> None:
        self.rest()
        if self._progress is not None:
            self._progress(done)
        if not self._is_sealing:
            self._upkeep.seal_between(self._arms, self)

    def rest(self) -> None:
        if self._upkeep.is_dropped(self._arms):
            raise CollectionNotFound(f"collection '{self._arms.rows.name}' was dropped")
        if self._upkeep.is_stopping(self._arms):
            raise Cancelled(f"the data directory of collection '{self._arms.rows.name}' was closed")
        if self._check is not None:
            self._check()
        if self._upkeep.is_searched(self._arms):
            time.sleep(_REST_SECONDS)
