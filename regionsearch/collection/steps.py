"""Names for the moments at which a crash would be most telling.

Whatever changes files and the catalog in several steps says which one it has just done. Nothing listens
in ordinary use; a test that wants to stop or kill the process at one of them does.
"""

from __future__ import annotations

from collections.abc import Callable

STEPS = (
    "seal: rows chosen",
    "seal: files written",
    "seal: files synced",
    "seal: published",
    "merge: rows chosen",
    "merge: files written",
    "merge: files synced",
    "merge: published",
    "merge: old files removed",
    "compact: files written",
    "compact: files synced",
    "compact: published",
    "compact: old files removed",
    "snapshot: rows copied",
    "snapshot: files copied",
    "snapshot: synced",
    "snapshot: renamed",
    "restore: source opened",
    "restore: verified",
    "restore: rows copied",
    "restore: files copied",
    "restore: published",
    "alias: switched",
    "drop: hidden",
    "drop: files removed",
    "drop: rows partly freed",
    "drop: freed",
    "purge: image deleted",
    "purge: snapshots rewritten",
    "purge: scrubbed",
    "migrate: rows rewritten",
    "migrate: marked",
)
"""`<what>: <what was just done>`, in the order in which they come."""

_observer: Callable[[str], None] | None = None


def reached(name: str) -> None:
    """Says that a step is done. Raises ValueError on a name that STEPS does not have."""
    if name not in STEPS:
        raise ValueError(f"no step is called {name!r}")
    if _observer is not None:
        _observer(name)


def observe(observer: Callable[[str], None] | None) -> None:
    """From now on calls `observer` with each step's name, on the thread that did it; None: nobody."""
    global _observer
    _observer = observer
