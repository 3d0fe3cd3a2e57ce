"""The exclusive lock of a data directory's one writer."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import Literal

from regionsearch.errors import DataDirectoryInUse, ReadOnly, StorageFull

_held: set[int] = set()
"""Descriptors of the locks that this process holds."""


def _close_in_fork() -> None:
    # A fork would carry the locks on after this process has ended. Closing is not unlocking.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_fork)


class WriterLock:
    """`flock` on a file that names its holder. The kernel lets go of it when the process ends, however
    it ends; the file stays, since removing it would let two writers lock two files of one name.

    `exclusive` is the writer's. `shared` is for a reader that cannot register with LMDB because it
    may write nothing: no writer may reuse pages under it.
    Raises DataDirectoryInUse, naming process and host; ReadOnly when the file cannot be written.
    """

    def __init__(self, path: Path, kind: Literal["exclusive", "shared"]) -> None:
        self._descriptor = -1
        self._path = path
        self._kind = kind
        exclusive = kind == "exclusive"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT if exclusive else os.O_RDONLY, 0o644)
        except OSError as error:
            raise _cannot_lock(error, path) from error
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            if exclusive:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 400, 0).decode("utf-8", "replace").strip()
            os.close(descriptor)
            raise DataDirectoryInUse(
                f"data directory '{path.parent}' is in use by {holder or 'another process'}"
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise _cannot_lock(error, path) from error
        self._descriptor = descriptor
        _held.add(descriptor)

    @property
    def excludes_others(self) -> bool:
        """Whether this process holds it as the writer; not in a fork, and not once it is released."""
        return self._kind == "exclusive" and self._descriptor in _held

    def release(self) -> None:
        """May be called again. In a fork it does nothing: the lock is the parent's."""
        if self._descriptor in _held:
            if self._kind == "exclusive":
                os.ftruncate(self._descriptor, 0)
            _held.discard(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def _cannot_lock(error: OSError, path: Path) -> ReadOnly | StorageFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no space left for data directory '{path.parent}'")
    return ReadOnly(f"data directory '{path.parent}' cannot be written: {error.strerror}")
