"""A data directory: one LMDB catalog, many collections, one writer."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from regionsearch.collection.aliases import (
    aliased,
    aliases_of,
    all_aliases,
    put_alias,
    refuse_taken_name,
    remove_alias,
)
from regionsearch.collection.catalog import (
    CollectionRows,
    Counters,
    dropped_collections,
    mark_dropped,
    sweep_dropped,
)
from regionsearch.collection.collection import Collection
from regionsearch.collection.directory_layout import close_directory, open_directory
from regionsearch.collection.environment import DEFAULT_MAP_SIZE, Environment
from regionsearch.collection.fields.field_rows import FieldRows
from regionsearch.collection.group_commit import GroupCommit
from regionsearch.collection.records import CollectionSpec
from regionsearch.collection.scrubbing import scrub_if_pending
from regionsearch.collection.segment_folders import remove_segment_files
from regionsearch.collection.segments.segment_files import sweep_segment_files
from regionsearch.collection.segments.upkeep import DEFAULT_UPKEEP, Upkeep, UpkeepSettings
from regionsearch.collection.spec_rows import (
    delete_spec,
    put_spec,
    spec_from_json,
    stored_names,
    stored_spec,
    take_number,
)
from regionsearch.collection.steps import reached
from regionsearch.collection.unfinished_snapshots import remove_unfinished
from regionsearch.collection.validation import check_spec
from regionsearch.errors import CollectionNotFound, FailedPrecondition, ReadOnly, RegionSearchError

_SWEEP_ROWS = 2_000
"""Rows deleted in one transaction while a dropped collection is freed."""


class DataDirectory:
    """Opens `path`. `write` creates it when it is missing or empty, takes the exclusive writer's lock
    and starts the writer thread; `read` opens beside a writer and sees what was committed when each
    call began.

    map_size: bytes of address space for the catalog, which can grow up to it; sparse, 1 TiB by default.
    upkeep: when its index segments are sealed, merged and compacted.

    Raises NotADataDirectory (something else lies there: never start empty over it; or, for `read`,
    nothing does), DataDirectoryInUse (another writer; names pid and host), ReadOnly, UnsupportedFormat,
    StorageFull, DataLoss (a directory of ours whose catalog is missing or damaged).
    Use as a context manager, or call `close`.
    """

    def __init__(
        self,
        path: Path,
        mode: Literal["read", "write"],
        *,
        map_size: int = DEFAULT_MAP_SIZE,
        upkeep: UpkeepSettings = DEFAULT_UPKEEP,
    ) -> None:
        if mode not in ("read", "write"):
            raise ValueError(f"mode is {mode!r}, not 'read' or 'write'")
        self._path = Path(path)
        self._environment, self._lock = open_directory(
            self._path, writable=mode == "write", map_size=map_size
        )
        self._collections: dict[str, Collection] = {}
        self.unpublished: set[int] = set()
        """Numbers of collections that are being restored: their rows count as dropped until they have a
        name, so that a crash leaves nothing of them, but are not to be freed meanwhile."""
        self._opening = threading.Lock()
        self._closed = False
        self._writer: GroupCommit | None = None
        self._upkeep: Upkeep | None = None
        if mode == "write":
            self._writer = GroupCommit(self._environment)
            self._upkeep = Upkeep(upkeep)
            try:
                sweep_segment_files(self._environment)
                remove_unfinished(self._environment)
                scrub_if_pending(self._environment)
                self.finish_drops()
            except BaseException:
                self.close()
                raise

    @property
    def path(self) -> Path:
        return self._path

    @property
    def environment(self) -> Environment:
        """For what keeps and moves rows; not for callers."""
        return self._environment

    def writing(self) -> GroupCommit:
        """What commits changes. Raises ReadOnly when the directory is open for reading."""
        if self._writer is None:
            raise ReadOnly(f"data directory '{self._path}' is open for reading")
        return self._writer

    @property
    def commits(self) -> int:
        """LMDB transactions that this open has committed; several writes at once share one."""
        return 0 if self._writer is None else self._writer.commits

    def fill(self) -> float:
        """Share of the map that is in use, 0 to 1: writes end in StorageFull at 1."""
        return self._environment.fill()

    def create_collection(self, spec: CollectionSpec) -> Collection:
        """Raises CollectionExists (also when an alias has the name), InvalidRequest (name or another part),
        ReadOnly, StorageFull."""
        check_spec(spec)

        def apply(transaction: Any) -> tuple[None, None]:
            refuse_taken_name(self._environment, transaction, spec.name)
            number = take_number(self._environment, transaction)
            rows = CollectionRows(self._environment, spec.name, number)
            rows.put_counters(transaction, Counters())
            FieldRows(self._environment, rows).declare(transaction, spec.indexed_fields)
            put_spec(self._environment, transaction, spec, number)
            return None, None

        self.writing().submit(apply)
        return self.collection(spec.name)

    def collection(self, name: str) -> Collection:
        """By its own name or an alias; the same object each time, which stays the collection that it is
        when an alias is switched. Raises CollectionNotFound, naming those that exist."""
        with self._opening:
            with self._environment.transaction() as transaction:
                own = name
                stored = stored_spec(self._environment, transaction, name)
                if stored is None:
                    own = aliased(self._environment, transaction, name) or name
                    stored = stored_spec(self._environment, transaction, own)
            if stored is None:
                self._collections.pop(name, None)
                names = ", ".join(f"'{each}'" for each in self.collection_names()) or "none"
                raise CollectionNotFound(f"no collection '{name:.200}' in '{self._path}'; there are: {names}")
            spec, number = spec_from_json(stored)
            known = self._collections.get(own)
            if known is None or known.number != number:  # dropped and made again by another process
                known = Collection(self._environment, number, spec, self._writer, self._upkeep)
                self._collections[own] = known
            elif self._writer is None:
                known.take_spec(spec)  # which the writer's process may have changed
            return known

    def collection_names(self) -> list[str]:
        """In alphabetical order."""
        with self._environment.transaction() as transaction:
            return stored_names(self._environment, transaction)

    def drop_collection(self, name: str, *, aliases: Literal["refuse", "delete"] = "refuse") -> None:
        """Gone at once for everyone, then freed in bounded transactions; a crash in between is made
        good by the next open for writing.

        name: the collection's own; what an alias leads to is not dropped by the alias.
        aliases: what becomes of a drop when aliases lead to the collection, and of them.
        Raises CollectionNotFound, FailedPrecondition (aliases lead to it, or the name is one), ReadOnly.
        """
        writer = self.writing()
        number = self._own_number(name)

        def apply(transaction: Any) -> tuple[None, None]:
            stored = stored_spec(self._environment, transaction, name)
            if stored is None or spec_from_json(stored)[1] != number:
                raise CollectionNotFound(f"collection '{name}' was dropped meanwhile")
            leading = aliases_of(self._environment, transaction, name)
            if leading and aliases == "refuse":
                named = ", ".join(f"'{alias}'" for alias in leading)
                raise FailedPrecondition(
                    f"collection '{name}' has the alias {named}: switch or delete it first, or say that it "
                    "is to be deleted too (`--aliases` on the command line)"
                )
            for alias in leading:
                remove_alias(self._environment, transaction, alias)
            delete_spec(self._environment, transaction, name)
            mark_dropped(self._environment, transaction, number)
            return None, None

        writer.submit(apply)
        reached("drop: hidden")
        self.forget(name, number)
        self.finish_drops()

    def _own_number(self, name: str) -> int:
        with self._environment.transaction() as transaction:
            stored = stored_spec(self._environment, transaction, name)
            leads_to = aliased(self._environment, transaction, name)
        if stored is not None:
            return spec_from_json(stored)[1]
        if leads_to is not None:
            raise FailedPrecondition(
                f"'{name}' is an alias of collection '{leads_to}': name the collection itself, or delete "
                "the alias"
            )
        return self.collection(name).number  # raises, naming those that exist

    def forget(self, name: str, number: int) -> None:
        """Lets go of the object of a collection that has lost its name."""
        with self._opening:
            known = self._collections.get(name)
            if known is not None and known.number == number:  # else another was made under the name already
                del self._collections[name]
        if self._writer is not None:
            self._writer.failures.forget(name)
        if self._upkeep is not None:
            self._upkeep.forget(number)

    # aliases

    def set_alias(self, alias: str, collection: str) -> str | None:
        """From now on `collection(alias)` is this collection, whose name or another alias is given. Searches
        that have begun end on the collection that they began on.

        Switches atomically when the alias exists; returns the name that it led to before.
        Raises CollectionNotFound, CollectionExists (the alias is a collection's own name), InvalidRequest,
        ReadOnly, StorageFull.
        """

        def apply(transaction: Any) -> tuple[str | None, None]:
            return put_alias(self._environment, transaction, alias, collection), None

        before: str | None = self.writing().submit(apply)
        reached("alias: switched")
        return before

    def delete_alias(self, alias: str) -> str:
        """Returns the name of the collection, which stays. Raises AliasNotFound, ReadOnly."""

        def apply(transaction: Any) -> tuple[str, None]:
            return remove_alias(self._environment, transaction, alias), None

        return str(self.writing().submit(apply))

    def aliases(self) -> dict[str, str]:
        """Alias to the name of its collection, in alphabetical order."""
        with self._environment.transaction() as transaction:
            return all_aliases(self._environment, transaction)

    def close(self) -> None:
        """Finishes the writes that were submitted, waits for reads under way, lets go of the lock.

        May be called again; everything else then raises FailedPrecondition. Raises, at the end, what
        buffered writes failed with since the last `flush` of their collection.
        """
        with self._opening:
            if self._closed:
                return
            self._closed = True
        if self._upkeep is not None:
            self._upkeep.close()
        if self._writer is not None:
            self._writer.close()
        close_directory(self._path, self._environment, self._lock)
        if self._writer is not None:
            self._writer.failures.tell_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except RegionSearchError as failure:
            if error is None:
                raise
            error.add_note(failure.message)  # that error is on its way out already

    def finish_drops(self) -> None:
        """Frees what dropped collections left: their files, then their rows, piece by piece."""
        writer = self.writing()
        with self._environment.transaction() as transaction:
            numbers = dropped_collections(self._environment, transaction)
        for number in numbers:
            if number in self.unpublished:
                continue

            def sweep(transaction: Any, number: int = number) -> tuple[bool, None]:
                return sweep_dropped(self._environment, transaction, number, _SWEEP_ROWS), None

            if self._upkeep is not None:
                self._upkeep.forget(number)
            remove_segment_files(self._path, number)
            reached("drop: files removed")
            while not writer.submit(sweep):
                reached("drop: rows partly freed")  # the next piece comes in a transaction of its own
            reached("drop: freed")
