"""Where a snapshot is read from: a folder or a tar, neither of which is trusted."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from regionsearch.collection.snapshots.destinations import BLOCK_BYTES
from regionsearch.collection.snapshots.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    FileEntry,
    Manifest,
    is_ours,
)
from regionsearch.errors import DataLoss, FailedPrecondition, SnapshotNotFound

MAX_ROW_FILE_BYTES = 1 << 30
"""A file of rows ends with the row that fills 16 MiB; the largest record has a few hundred."""


class SnapshotSource(Protocol):
    """path: of the snapshot. sizes: bytes of each file that lies there, by name, the manifest's too."""

    path: Path
    sizes: dict[str, int]

    def open(self, name: str) -> BinaryIO: ...

    def close(self) -> None: ...


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[SnapshotSource, Manifest]]:
    """The snapshot and its manifest, which names what it should have; what it has is not compared yet.

    Raises SnapshotNotFound, DataLoss (damaged, cut, or with files that no snapshot has), UnsupportedFormat.
    """
    source = _open(path)
    try:
        size = source.sizes.get(MANIFEST)
        if size is None:
            raise DataLoss(f"{named(path)} has no {MANIFEST}: it was cut, or is no snapshot")
        if size > MAX_MANIFEST_BYTES:
            raise DataLoss(
                f"{named(path)}: its manifest has {size} bytes; at most {MAX_MANIFEST_BYTES} can be"
            )
        with reading_errors(path), source.open(MANIFEST) as file:
            manifest = Manifest.from_bytes(file.read(), named(path))
        yield source, manifest
    finally:
        source.close()


def named(path: Path) -> str:
    return f"snapshot '{path}'"


def problems_of_files(source: SnapshotSource, manifest: Manifest) -> list[str]:
    """What there is too much, too little, or of another size."""
    said = {entry.name: entry.size for entry in manifest.files}
    problems = [f"'{name}' is missing" for name in said if name not in source.sizes]
    problems += [
        f"'{name}' is none of its files" for name in source.sizes if name not in said and name != MANIFEST
    ]
    problems += [
        f"'{name}' has {source.sizes[name]} bytes and should have {size}"
        for name, size in said.items()
        if source.sizes.get(name, size) != size
    ]
    return problems


def row_file(source: SnapshotSource, entry: FileEntry) -> bytes:
    """A whole file of rows, its checksum verified. Raises DataLoss."""
    if entry.size > MAX_ROW_FILE_BYTES:
        raise DataLoss(
            f"{named(source.path)}: '{entry.name}' has {entry.size} bytes; no file of rows is so large"
        )
    with reading_errors(source.path), source.open(entry.name) as file:
        content = file.read(entry.size + 1)
    if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise DataLoss(f"{named(source.path)}: '{entry.name}' does not match its checksum")
    return content


def copy_verified(
    source: SnapshotSource, entry: FileEntry, take: Callable[[bytes], object], check: Callable[[], None]
) -> None:
    """Hands on a file block by block. Raises DataLoss at its end when it does not match its checksum."""
    digest = hashlib.sha256()
    for block in _blocks(source, entry):
        check()
        digest.update(block)
        take(block)
    if digest.hexdigest() != entry.sha256:
        raise DataLoss(f"{named(source.path)}: '{entry.name}' does not match its checksum")


def _blocks(source: SnapshotSource, entry: FileEntry) -> Iterator[bytes]:
    with reading_errors(source.path):
        file = source.open(entry.name)
    with file:
        while True:
            with reading_errors(source.path):
                block = file.read(BLOCK_BYTES)
            if not block:
                return
            yield block


@contextlib.contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Around reading alone: what fails elsewhere is no fault of the snapshot. Raises DataLoss,
    FailedPrecondition (it may not be read)."""
    try:
        yield
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise DataLoss(f"{named(path)} cannot be read, it may have been cut: {error}") from error
    except PermissionError as error:
        raise FailedPrecondition(f"{named(path)} may not be read: {error.strerror}") from error
    except OSError as error:
        raise DataLoss(f"{named(path)} cannot be read: {error}") from error


def _open(path: Path) -> SnapshotSource:
    try:
        status = path.stat()
    except OSError as error:
        raise SnapshotNotFound(f"no snapshot '{path}': {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        raise SnapshotNotFound(f"'{path}' is neither a folder nor a file")
    with reading_errors(path):
        return _FolderSource(path) if stat.S_ISDIR(status.st_mode) else _TarSource(path)


class _FolderSource:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[str, int] = {}
        for folder, folders, files in os.walk(path, onerror=_raised):
            for name in (*folders, *files):
                each = Path(folder, name)
                relative = str(each.relative_to(path))
                mode = each.lstat().st_mode
                if stat.S_ISDIR(mode):
                    continue
                if not stat.S_ISREG(mode) or not (relative == MANIFEST or is_ours(relative)):
                    raise DataLoss(f"{named(path)} holds {relative!r:.200}, which no snapshot has")
                self.sizes[relative] = each.stat().st_size

    def open(self, name: str) -> BinaryIO:
        # A link put there since would lead elsewhere.
        return os.fdopen(os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW), "rb")

    def close(self) -> None:
        pass


def _raised(error: OSError) -> None:
    raise error


class _TarSource:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[str, int] = {}
        self._members: dict[str, tarfile.TarInfo] = {}
        try:
            self._tar = tarfile.open(path, "r:", tarinfo=_PlainMember)  # noqa: SIM115
        except _NotPlainError as error:
            raise self._refused(error) from error
        except (tarfile.TarError, EOFError) as error:
            raise DataLoss(f"{named(path)} is no tar: {error}") from error
        try:
            with reading_errors(path):
                for member in self._tar:
                    self._take(member)
        except _NotPlainError as error:
            self._tar.close()
            raise self._refused(error) from error
        except BaseException:
            self._tar.close()
            raise

    def _take(self, member: tarfile.TarInfo) -> None:
        name = member.name
        if not (name == MANIFEST or is_ours(name)):
            raise self._refused(_NotPlainError(name, _kind(member)))
        if name in self.sizes:
            raise DataLoss(f"{named(self.path)} holds '{name}' twice")
        self.sizes[name] = member.size
        self._members[name] = member

    def _refused(self, error: _NotPlainError) -> DataLoss:
        return DataLoss(
            f"{named(self.path)} holds {error.name!r:.200} ({error.kind}), which no snapshot has: "
            "nothing of it was unpacked"
        )

    def open(self, name: str) -> BinaryIO:
        file = self._tar.extractfile(self._members[name])
        assert file is not None  # a regular member
        return file  # type: ignore[return-value]

    def close(self) -> None:
        self._tar.close()


class _NotPlainError(Exception):
    def __init__(self, name: str, kind: str) -> None:
        super().__init__(name, kind)
        self.name = name
        self.kind = kind


class _PlainMember(tarfile.TarInfo):
    """A header, refused before what belongs to it is read: tarfile would take as much into memory as a header
    of a long name says, and goes back in the file by sizes below zero."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or not 0 <= member.size < 1 << 62:
            raise _NotPlainError(member.name, _kind(member))
        return member


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to {member.linkname!r:.100}"
    if member.isdir():
        return "a folder"
    return (
        f"a file of {member.size} bytes"
        if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
        else (f"a member of type {member.type!r}")
    )
