"""Snapshots that a server keeps: below one folder that its operator named, each known by a name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from regionsearch.collection import snapshots
from regionsearch.collection.unfinished_snapshots import PARTIAL
from regionsearch.errors import (
    FailedPrecondition,
    InvalidRequest,
    RegionSearchError,
    SnapshotExists,
    SnapshotNotFound,
)
from regionsearch.serving.operations import SnapshotFacts

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
_LOG = logging.getLogger("regionsearch.serving")


class SnapshotShelf:
    """folder: where they lie; None when the operator allows none, and every method raises FailedPrecondition.

    A client gives names and never a path: no name has a separator or begins with a dot.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def new_place(self, name: str) -> Path:
        """Where a snapshot of this name is to be written. Raises InvalidRequest."""
        folder = self._allowed()
        if not _is_name(name):
            raise InvalidRequest(
                f"snapshot name {name!r:.200} must have 1 to 128 characters of 'A-Z a-z 0-9 . _ -', "
                "start with a letter or digit and not end in .partial",
                field="snapshot",
            )
        if name.lower().endswith(_COMPRESSED):
            raise InvalidRequest(
                f"snapshot name {name!r}: snapshots are folders, or plain files whose names end in .tar",
                field="snapshot",
            )
        if (folder / name).exists():
            raise SnapshotExists(f"this server keeps a snapshot {name!r} already", field="snapshot")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def place(self, name: str, field: str = "snapshot") -> Path:
        """Where the snapshot of this name lies. Raises SnapshotNotFound."""
        folder = self._allowed()
        if not _is_name(name) or not (folder / name).exists():
            raise SnapshotNotFound(
                f"this server keeps no snapshot {name!r:.200}", field=field, metadata={"snapshot": name}
            )
        return folder / name

    def listed(self) -> list[SnapshotFacts]:
        """In the order of their names. What else lies in the folder, or cannot be read, is left out; the log
        names what should be a snapshot and is not."""
        folder = self._allowed()
        if not folder.is_dir():
            return []
        found = []
        for path in sorted(folder.iterdir()):
            if not _is_name(path.name):
                continue
            try:
                found.append(facts_of(path.name, snapshots.describe(path)))
            except RegionSearchError as error:
                _LOG.warning(
                    "event=no_snapshot name=%s reason=%s message=%r", path.name, error.reason, error.message
                )
        return found

    def delete(self, name: str) -> None:
        """Raises SnapshotNotFound."""
        with self.unnamed():
            snapshots.remove(self.place(name))

    @contextmanager
    def unnamed(self) -> Iterator[None]:
        """Errors raised inside name snapshots without the folder, which is nothing that a remote caller
        should learn."""
        try:
            yield
        except RegionSearchError as error:
            if self._folder is not None:
                error.message = error.message.replace(f"{self._folder}/", "")
            raise

    def _allowed(self) -> Path:
        if self._folder is None:
            raise FailedPrecondition(
                "this server keeps no snapshots: its operator named no folder for them (serve --snapshots)"
            )
        return self._folder


def _is_name(name: str) -> bool:
    """What ends otherwise is being written, or on its way out."""
    return _NAME.fullmatch(name) is not None and not name.endswith(PARTIAL)


def facts_of(name: str, info: snapshots.SnapshotInfo) -> SnapshotFacts:
    return SnapshotFacts(
        name=name,
        collection=info.collection,
        images=info.images,
        entities=info.entities,
        bytes=info.bytes,
        generation=info.generation,
        created=datetime.fromisoformat(info.created),
    )
