"""A data directory: one LMDB catalog, many collections, one writer."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from regionsearch.collection.catalog import (
    CollectionRows,
    Counters,
    dropped_collections,
    mark_dropped,
    sweep_dropped,
)
from regionsearch.collection.collection import Collection
from regionsearch.collection.directory_layout import open_directory
from regionsearch.collection.environment import DEFAULT_MAP_SIZE
from regionsearch.collection.group_commit import GroupCommit
from regionsearch.collection.records import CollectionSpec
from regionsearch.collection.spec_rows import (
    delete_spec,
    put_spec,
    spec_from_json,
    stored_names,
    stored_spec,
    take_number,
)
from regionsearch.collection.validation import check_spec
from regionsearch.errors import CollectionExists, CollectionNotFound, ReadOnly

_SWEEP_ROWS = 2_000
"""Rows deleted in one transaction while a dropped collection is freed."""


class DataDirectory:
    """Opens `path`. `write` creates it when it is missing or empty, takes the exclusive writer's lock
    and starts the writer thread; `read` opens beside a writer and sees what was committed when each
    call began.

    map_size: bytes of address space for the catalog, which can grow up to it; sparse, 1 TiB by default.

    Raises NotADataDirectory (something else lies there: never start empty over it; or, for `read`,
    nothing does), DataDirectoryInUse (another writer; names pid and host), ReadOnly, UnsupportedFormat,
    StorageFull, DataLoss (a directory of ours whose catalog is missing or damaged).
    Use as a context manager, or call `close`.
    """

    def __init__(
        self, path: Path, mode: Literal["read", "write"], *, map_size: int = DEFAULT_MAP_SIZE
    ) -> None:
        if mode not in ("read", "write"):
            raise ValueError(f"mode is {mode!r}, not 'read' or 'write'")
        self._path = Path(path)
        self._environment, self._lock = open_directory(
            self._path, writable=mode == "write", map_size=map_size
        )
        self._collections: dict[str, Collection] = {}
        self._opening = threading.Lock()
        self._closed = False
        self._writer: GroupCommit | None = None
        if mode == "write":
            self._writer = GroupCommit(self._environment)
            try:
                self._finish_drops()
            except BaseException:
                self.close()
                raise

    @property
    def path(self) -> Path:
        return self._path

    @property
    def commits(self) -> int:
        """LMDB transactions that this open has committed; several writes at once share one."""
        return 0 if self._writer is None else self._writer.commits

    def fill(self) -> float:
        """Share of the map that is in use, 0 to 1: writes end in StorageFull at 1."""
        return self._environment.fill()

    def create_collection(self, spec: CollectionSpec) -> Collection:
        """Raises CollectionExists, InvalidRequest (name or another part), ReadOnly, StorageFull."""
        check_spec(spec)

        def apply(transaction: Any) -> tuple[None, None]:
            if stored_spec(self._environment, transaction, spec.name) is not None:
                raise CollectionExists(f"collection '{spec.name}' exists already")
            number = take_number(self._environment, transaction)
            CollectionRows(self._environment, spec.name, number).put_counters(transaction, Counters())
            put_spec(self._environment, transaction, spec, number)
            return None, None

        self._writing().submit(apply)
        return self.collection(spec.name)

    def collection(self, name: str) -> Collection:
        """The same object each time. Raises CollectionNotFound, naming those that exist."""
        with self._opening:
            with self._environment.transaction() as transaction:
                stored = stored_spec(self._environment, transaction, name)
            if stored is None:
                self._collections.pop(name, None)
                names = ", ".join(f"'{each}'" for each in self.collection_names()) or "none"
                raise CollectionNotFound(f"no collection '{name:.200}' in '{self._path}'; there are: {names}")
            spec, number = spec_from_json(stored)
            known = self._collections.get(name)
            if known is None or known.number != number:  # dropped and made again by another process
                known = Collection(self._environment, number, spec, self._writer)
                self._collections[name] = known
            elif self._writer is None:
                known.take_spec(spec)  # which the writer's process may have changed
            return known

    def collection_names(self) -> list[str]:
        """In alphabetical order."""
        with self._environment.transaction() as transaction:
            return stored_names(self._environment, transaction)

    def drop_collection(self, name: str) -> None:
        """Gone at once for everyone, then freed in bounded transactions; a crash in between is made
        good by the next open for writing. Raises CollectionNotFound, ReadOnly."""
        writer = self._writing()
        number = self.collection(name).number

        def apply(transaction: Any) -> tuple[None, None]:
            stored = stored_spec(self._environment, transaction, name)
            if stored is None or spec_from_json(stored)[1] != number:
                raise CollectionNotFound(f"collection '{name}' was dropped meanwhile")
            delete_spec(self._environment, transaction, name)
            mark_dropped(self._environment, transaction, number)
            return None, None

        writer.submit(apply)
        with self._opening:
            known = self._collections.get(name)
            if known is not None and known.number == number:  # else another was made under the name already
                del self._collections[name]
        self._finish_drops()

    def close(self) -> None:
        """Finishes the writes that were submitted, waits for reads under way, lets go of the lock.

        May be called again; everything else then raises FailedPrecondition.
        """
        with self._opening:
            if self._closed:
                return
            self._closed = True
        if self._writer is not None:
            self._writer.close()
        self._environment.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _writing(self) -> GroupCommit:
        if self._writer is None:
            raise ReadOnly(f"data directory '{self._path}' is open for reading")
        return self._writer

    def _finish_drops(self) -> None:
        writer = self._writing()
        with self._environment.transaction() as transaction:
            numbers = dropped_collections(self._environment, transaction)
        for number in numbers:

            def sweep(transaction: Any, number: int = number) -> tuple[bool, None]:
                return sweep_dropped(self._environment, transaction, number, _SWEEP_ROWS), None

            while not writer.submit(sweep):
                pass  # the next piece, in a transaction of its own
