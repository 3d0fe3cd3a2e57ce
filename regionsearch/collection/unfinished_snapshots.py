"""Which snapshots are being written, so that the next open removes what a killed process left of them.

Rows of the sub-database `format`: "partial " and a hash of the path -> the path. A directory that is open for
reading cannot note anything: what is left of its snapshot is removed by the next one to the same path.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from regionsearch.collection.environment import Environment

PARTIAL = ".partial"
OLD = ".old" + PARTIAL
"""Added to a snapshot's name: while it is written; and the one that gives way, where two names cannot be
exchanged in one step."""
_NOTE = b"partial "


@contextlib.contextmanager
def noted(environment: Environment, path: Path) -> Iterator[None]:
    """While a snapshot is written to `path`."""
    if not environment.writable:
        yield
        return
    whole = os.fsencode(path.absolute())
    key = _NOTE + hashlib.sha256(whole).digest()
    formats = environment.database("format")
    with environment.transaction(write=True) as transaction:
        transaction.put(key, whole, db=formats)
    try:
        yield
    finally:
        with environment.transaction(write=True) as transaction:
            transaction.delete(key, db=formats)


def remove_unfinished(environment: Environment) -> None:
    """Called by an open for writing. What another process is writing there now is left to it."""
    formats = environment.database("format")
    with environment.transaction() as transaction, transaction.cursor(db=formats) as cursor:
        found = cursor.set_range(_NOTE)
        notes = [(bytes(key), bytes(value)) for key, value in cursor.iternext()] if found else []
    notes = [(key, value) for key, value in notes if key.startswith(_NOTE)]
    if not notes:
        return
    for key, value in notes:
        if key == _NOTE + hashlib.sha256(value).digest():  # else a damaged path, of who knows what
            _tidy(Path(os.fsdecode(value)))
    with environment.transaction(write=True) as transaction:
        for key, _ in notes:
            transaction.delete(key, db=formats)


def _tidy(path: Path) -> None:
    old, partial = path.with_name(path.name + OLD), path.with_name(path.name + PARTIAL)
    if os.path.lexists(old) and not os.path.lexists(path):
        old.rename(path)
    for left in (partial, old):
        try:
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue  # nothing is there, or nothing of ours
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()
        except BlockingIOError:
            pass  # whoever writes it now has it locked
        finally:
            os.close(descriptor)
