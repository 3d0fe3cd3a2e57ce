"""Where a snapshot is written: a folder or a tar, under another name until all of it is on disk."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from regionsearch.collection.on_disk import sync
from regionsearch.collection.snapshots.manifest import MANIFEST, FileEntry, is_ours
from regionsearch.collection.unfinished_snapshots import OLD, PARTIAL
from regionsearch.errors import FailedPrecondition, InvalidRequest, ReadOnly, SnapshotExists, StorageFull

BLOCK_BYTES = 4 << 20
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class SnapshotWriter(Protocol):
    """Takes the files of one snapshot in their order. Nothing lies at its path before `publish`."""

    def add_bytes(self, name: str, content: bytes) -> FileEntry: ...

    def add_file(self, name: str, source: Path, file: BinaryIO, check: Callable[[], None]) -> FileEntry:
        """file: `source`, opened, at its start; `source` may have gone since."""
        ...

    def synchronise(self, manifest: bytes) -> None:
        """Writes the manifest and waits until everything is on disk, still under the other name."""
        ...

    def publish(self, *, replace: bool) -> None:
        """Gives it its name. replace: in one step in the place of the snapshot that has it."""
        ...

    def abandon(self) -> None:
        """Removes what was written."""
        ...


@contextlib.contextmanager
def writing(path: Path, *, replace: bool = False) -> Iterator[SnapshotWriter]:
    """A writer as `writer_for` gives it, which is abandoned when the block raises."""
    writer = writer_for(path, replace=replace)
    try:
        with writing_errors(path):
            yield writer
    except BaseException:
        writer.abandon()
        raise


def writer_for(path: Path, *, replace: bool = False) -> SnapshotWriter:
    """For a tar when the name ends in `.tar`, otherwise for a folder; replace: for what lies there. What an
    earlier writer left of this snapshot when it was killed is removed.

    Raises SnapshotExists (something lies there or in the way, or is being written there now), InvalidRequest
    (compressed), FailedPrecondition, ReadOnly, StorageFull.
    """
    if path.name.lower().endswith(_COMPRESSED):
        raise InvalidRequest(
            f"'{path}': snapshots are folders or plain .tar files; compress one afterwards",
            field="destination",
        )
    if path.name.endswith(PARTIAL) or not path.name:
        raise InvalidRequest(f"'{path}' is no name for a snapshot", field="destination")
    if not replace and os.path.lexists(path):
        raise SnapshotExists(f"'{path}' exists already; nothing there was touched")
    with writing_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        to_tar = path.is_file() if replace else is_tar(path)
        return _TarWriter(path) if to_tar else _FolderWriter(path)


def is_tar(path: Path) -> bool:
    return path.name.endswith(".tar")


@contextlib.contextmanager
def writing_errors(path: Path) -> Iterator[None]:
    """Errors of the system as ours, naming the snapshot."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull(f"no space left for snapshot '{path}'") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ReadOnly(f"snapshot '{path}' cannot be written: {error.strerror}") from error
        raise FailedPrecondition(f"snapshot '{path}' cannot be written: {error}") from error


class _FolderWriter:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + PARTIAL)
        if self._partial.is_dir():
            # Whoever was killed has let go of its lock; whoever still writes has not.
            with _locked(self._partial, path):
                for folder, _, files in os.walk(self._partial):
                    for name in files:
                        _refuse_strange(self._partial, str(Path(folder, name).relative_to(self._partial)))
                shutil.rmtree(self._partial)
        self._partial.mkdir()
        self._lock = _lock(self._partial, path)

    def add_bytes(self, name: str, content: bytes) -> FileEntry:
        with self._new_file(name) as file:
            file.write(content)
            _to_disk(file)
        return FileEntry(name, len(content), hashlib.sha256(content).hexdigest())

    def add_file(self, name: str, source: Path, file: BinaryIO, check: Callable[[], None]) -> FileEntry:
        digest = hashlib.sha256()
        size = 0
        linked = self._link(name, source, file)
        with contextlib.nullcontext() if linked else self._new_file(name) as copy:
            while block := file.read(BLOCK_BYTES):
                check()
                digest.update(block)
                size += len(block)
                if copy is not None:
                    copy.write(block)
            if copy is not None:
                _to_disk(copy)
        return FileEntry(name, size, digest.hexdigest())

    def synchronise(self, manifest: bytes) -> None:
        self.add_bytes(MANIFEST, manifest)
        for folder in (*(each for each in self._partial.rglob("*") if each.is_dir()), self._partial):
            sync(folder)

    def publish(self, *, replace: bool) -> None:
        if not replace:
            if os.path.lexists(self._path):
                raise SnapshotExists(f"'{self._path}' was made meanwhile; it was not touched")
            self._partial.rename(self._path)
        else:
            _exchange(self._partial, self._path)
        sync(self._path.parent)
        if replace:
            shutil.rmtree(self._partial)
            sync(self._path.parent)
        os.close(self._lock)

    def abandon(self) -> None:
        if self._partial.exists():
            shutil.rmtree(self._partial)
        os.close(self._lock)

    def _new_file(self, name: str) -> BinaryIO:
        path = self._partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")

    def _link(self, name: str, source: Path, file: BinaryIO) -> bool:
        """Another name for the same immutable file, where the file system can and it still has its name."""
        path = self._partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, path)
        except OSError:
            return False  # another file system, or one without links: it is copied
        if os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return True
        path.unlink()
        return False


class _TarWriter:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + PARTIAL)
        if self._partial.exists():
            with _locked(self._partial, path):
                with self._partial.open("rb") as left:
                    first = left.read(tarfile.LENGTH_NAME).partition(b"\0")[0]
                if first:
                    _refuse_strange(self._partial, os.fsdecode(first))
                self._partial.unlink()
        self._file = self._partial.open("xb")
        self._lock = _lock(self._partial, path)
        self._tar = tarfile.TarFile(
            fileobj=self._file, mode="w", format=tarfile.GNU_FORMAT, copybufsize=BLOCK_BYTES
        )

    def add_bytes(self, name: str, content: bytes) -> FileEntry:
        self._tar.addfile(_member(name, len(content)), io.BytesIO(content))
        return FileEntry(name, len(content), hashlib.sha256(content).hexdigest())

    def add_file(self, name: str, source: Path, file: BinaryIO, check: Callable[[], None]) -> FileEntry:
        reading = _Digested(file, check)
        size = os.fstat(file.fileno()).st_size
        self._tar.addfile(_member(name, size), reading)  # type: ignore[arg-type]
        return FileEntry(name, size, reading.digest.hexdigest())

    def synchronise(self, manifest: bytes) -> None:
        self.add_bytes(MANIFEST, manifest)
        self._tar.close()
        _to_disk(self._file)

    def publish(self, *, replace: bool) -> None:
        if not replace and os.path.lexists(self._path):
            raise SnapshotExists(f"'{self._path}' was made meanwhile; it was not touched")
        self._partial.rename(self._path)
        sync(self._path.parent)
        self._close()

    def abandon(self) -> None:
        self._partial.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        self._file.close()
        os.close(self._lock)


class _Digested:
    """A file that is hashed while it is read."""

    def __init__(self, file: BinaryIO, check: Callable[[], None]) -> None:
        self._file = file
        self._check = check
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        self._check()
        block = self._file.read(size)
        self.digest.update(block)
        return block


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    return member


def _refuse_strange(partial: Path, name: str) -> None:
    """What is removed is what a snapshot that was not finished can hold, and no folder of somebody else's."""
    if name != MANIFEST and not is_ours(name):
        raise SnapshotExists(
            f"'{partial}' is in the way and holds {name!r:.200}, which no snapshot has; nothing was touched"
        )


def _lock(partial: Path, path: Path) -> int:
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise SnapshotExists(f"'{path}' is being written by another process") from error
    return descriptor


@contextlib.contextmanager
def _locked(partial: Path, path: Path) -> Iterator[None]:
    descriptor = _lock(partial, path)
    try:
        yield
    finally:
        os.close(descriptor)


def _exchange(new: Path, old: Path) -> None:
    """Each gets the other's name in one step, where the system can; otherwise in two, between which there is
    none of the name."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None and (
        renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE) == 0
    ):
        return
    aside = old.with_name(old.name + OLD)
    old.rename(aside)
    new.rename(old)
    aside.rename(new)
