"""How far a long piece of work has come, and whether it may go on."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float], None]
"""Called with the share that is done, 0 to 1."""
Check = Callable[[], None]
"""Called often; raises Cancelled when the work is to stop."""


class Going:
    """Counts bytes of work that is done out of all; asks whether to go on at every count.

    total: of the whole work, an estimate. The share never passes 1 and says 1 at `done` alone.
    """

    def __init__(self, total: int, progress: Progress | None, check: Check | None) -> None:
        self._total = max(total, 1)
        self._progress = progress
        self._check = check
        self._so_far = 0
        self._told = -1.0

    def on(self, more: int = 0) -> None:
        """Raises Cancelled."""
        if self._check is not None:
            self._check()
        self._so_far += more
        share = min(self._so_far / self._total, 0.999)
        # A thousand calls are enough for any bar.
        if self._progress is not None and share - self._told >= 0.001:
            self._told = share
            self._progress(share)

    def done(self) -> None:
        if self._progress is not None:
            self._progress(1.0)
