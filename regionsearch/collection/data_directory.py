"""A data directory: one LMDB catalog, many collections, one writer.

INTERFACE SKETCH: the owner of this module completes it; names and signatures below stay.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from regionsearch.collection.collection import Collection
from regionsearch.collection.records import CollectionSpec


class DataDirectory:
    """Opens `path`. `write` creates it when it is missing or empty, takes the exclusive writer's lock
    and starts the writer thread; `read` opens beside a writer and sees what was committed when each
    call began.

    Raises NotADataDirectory (something else lies there: never start empty over it; or, for `read`,
    nothing does), DataDirectoryInUse (another writer; names pid and host), ReadOnly, UnsupportedFormat,
    StorageFull. Use as a context manager, or call `close`.
    """

    def __init__(self, path: Path, mode: Literal["read", "write"]) -> None: raise NotImplementedError
    def create_collection(self, spec: CollectionSpec) -> Collection:
        """Raises CollectionExists, InvalidRequest (name)."""
        raise NotImplementedError
    def collection(self, name: str) -> Collection:
        """The same object each time. Raises CollectionNotFound, naming those that exist."""
        raise NotImplementedError
    def collection_names(self) -> list[str]: raise NotImplementedError
    def drop_collection(self, name: str) -> None: raise NotImplementedError
    def close(self) -> None: raise NotImplementedError
    def __enter__(self) -> Self: return self
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: self.close()
