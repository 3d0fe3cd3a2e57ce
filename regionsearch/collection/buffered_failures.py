"""What became of writes that were acknowledged before their commit, and whose commit then failed."""

from __future__ import annotations

import logging
import threading

from regionsearch.errors import RegionSearchError

_log = logging.getLogger(__name__)


class BufferedFailures:
    """Of each owner (a collection's name): how many failed in all, and the first that nobody heard of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._untold: dict[str, tuple[int, BaseException]] = {}

    def add(self, owner: str, error: BaseException) -> None:
        _log.error("collection '%s': a buffered write failed after it was acknowledged: %s", owner, error)
        with self._lock:
            self._counts[owner] = self._counts.get(owner, 0) + 1
            count, first = self._untold.get(owner, (0, error))
            self._untold[owner] = (count + 1, first)

    def forget(self, owner: str) -> None:
        """It is dropped: another of its name begins without its failures."""
        with self._lock:
            self._counts.pop(owner, None)
            self._untold.pop(owner, None)

    def count(self, owner: str) -> int:
        """Buffered writes of this owner that failed since the directory was opened."""
        with self._lock:
            return self._counts.get(owner, 0)

    def tell(self, owner: str) -> None:
        """Raises the first that failed since the last call, in its own kind, with how many there were."""
        with self._lock:
            untold = self._untold.pop(owner, None)
        if untold is not None:
            raise _failure(owner, *untold)

    def tell_all(self) -> None:
        """As `tell`, for every owner at once; of several owners' failures one is raised, all are named."""
        with self._lock:
            untold, self._untold = self._untold, {}
        failures = [_failure(owner, count, first) for owner, (count, first) in untold.items()]
        if failures:
            for other in failures[1:]:
                failures[0].add_note(other.message)
            raise failures[0]


def _failure(owner: str, count: int, first: BaseException) -> RegionSearchError:
    text = first.message if isinstance(first, RegionSearchError) else repr(first)
    many = "1 buffered write" if count == 1 else f"{count:,} buffered writes"
    kind = type(first) if isinstance(first, RegionSearchError) else RegionSearchError
    failure = kind(f"collection '{owner}': {many} failed after being acknowledged; the first: {text}")
    failure.__cause__ = first
    return failure
