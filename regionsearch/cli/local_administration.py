"""Looks after the collections of a data directory in this process."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regionsearch.cli.long_work import Check, Progress
from regionsearch.cli.new_collection import embedding_spec, precomputed_spec
from regionsearch.collection import Collection, DataDirectory, snapshots
from regionsearch.collection.purging import purge
from regionsearch.collection.records import CollectionSpec, IndexedField, IndexWish
from regionsearch.errors import DataDirectoryInUse


@contextmanager
def opened(path: Path, *, writes: bool, makes: bool) -> Iterator[LocalAdministration]:
    if writes and not makes and not (path / "regionsearch.json").exists():
        # Opening it for writing would make one where a name was mistyped.
        DataDirectory(path, "read").close()
    try:
        directory = DataDirectory(path, "write" if writes else "read")
    except DataDirectoryInUse as error:
        error.message += "; if that is a server, it takes this command with --address instead of --data"
        raise
    with directory:
        yield LocalAdministration(directory)


class LocalAdministration:
    """See `Administration`."""

    def __init__(self, directory: DataDirectory) -> None:
        self._directory = directory

    def collections(self) -> list[dict[str, Any]]:
        aliases = self._directory.aliases()
        found = []
        for name in self._directory.collection_names():
            stats = self._directory.collection(name).stats
            leading = [alias for alias, leads_to in aliases.items() if leads_to == name]
            found.append(
                {"name": name, "images": stats.images, "entities": stats.entities, "aliases": leading}
            )
        return found

    def stats(self, name: str) -> dict[str, Any]:
        return _stats(self._directory.collection(name))

    def count(self, name: str, where: str) -> dict[str, Any]:
        found = self._directory.collection(name).count(where)
        return {"images": found.images, "entities": found.entities, "notes": list(found.notes)}

    def create(self, arguments: argparse.Namespace) -> dict[str, Any]:
        index = _changed(IndexWish(), arguments.recall_target, arguments.favour)
        spec = dataclasses.replace(_spec(arguments), indexed_fields=_fields(arguments.field), index=index)
        return _stats(self._directory.create_collection(spec))

    def update(
        self, name: str, changes: Mapping[str, Any], progress: Progress, check: Check
    ) -> dict[str, Any]:
        collection = self._directory.collection(name)
        index = _changed(collection.spec.index, changes["recall_target"], changes["favour"])
        fields = changes["fields"]
        collection.update(
            indexed_fields=None if fields is None else _fields(fields),
            index=None if index == collection.spec.index else index,
            progress=progress,
            check=check,
        )
        return _stats(collection)

    def drop(self, name: str, *, aliases: bool) -> dict[str, Any]:
        self._directory.drop_collection(name, aliases="delete" if aliases else "refuse")
        return {"name": name}

    def seal(self, name: str, progress: Progress, check: Check) -> dict[str, Any]:
        collection = self._directory.collection(name)
        collection.seal(progress=progress, check=check)
        return _stats(collection)

    def compact(self, name: str, progress: Progress, check: Check) -> dict[str, Any]:
        collection = self._directory.collection(name)
        collection.compact(progress=progress, check=check)
        return _stats(collection)

    def delete(self, name: str, image_ids: Sequence[str]) -> dict[str, Any]:
        return {"deleted": self._directory.collection(name).delete(image_ids)}

    def delete_matching(self, name: str, where: str, progress: Progress, check: Check) -> dict[str, Any]:
        collection = self._directory.collection(name)
        return {"deleted": collection.delete_matching(where, progress=progress, check=check)}

    def purge(
        self,
        name: str,
        image_ids: Sequence[str],
        snapshots: Sequence[str],
        progress: Progress,
        check: Check,
    ) -> dict[str, Any]:
        report = purge(
            self._directory,
            name,
            image_ids,
            snapshots=[Path(snapshot) for snapshot in snapshots],
            progress=progress,
            check=check,
        )
        return {
            "deleted": report.deleted,
            "missing": list(report.missing),
            "rewritten": [str(path) for path in report.rewritten],
            "scrubbed_bytes": report.scrubbed_bytes,
            "complete": report.complete,
            "notes": list(report.notes),
        }

    def aliases(self) -> dict[str, str]:
        return self._directory.aliases()

    def set_alias(self, alias: str, collection: str) -> dict[str, Any]:
        before = self._directory.set_alias(alias, collection)
        return {"alias": alias, "collection": self._directory.aliases()[alias], "previous": before}

    def delete_alias(self, alias: str) -> dict[str, Any]:
        return {"alias": alias, "collection": self._directory.delete_alias(alias)}

    def create_snapshot(self, name: str, snapshot: str, progress: Progress, check: Check) -> dict[str, Any]:
        info = snapshots.create(self._directory, name, Path(snapshot), progress=progress, check=check)
        return snapshot_json(info)

    def restore_snapshot(
        self, snapshot: str, name: str, *, replace: bool, progress: Progress, check: Check
    ) -> dict[str, Any]:
        collection = snapshots.restore(
            self._directory, Path(snapshot), name=name, replace=replace, progress=progress, check=check
        )
        stats = collection.stats
        return {"collection": stats.name, "images": stats.images, "entities": stats.entities}


def snapshot_json(info: snapshots.SnapshotInfo) -> dict[str, Any]:
    return {
        "snapshot": str(info.path),
        "collection": info.collection,
        "images": info.images,
        "entities": info.entities,
        "bytes": info.bytes,
        "generation": info.generation,
        "created": info.created,
    }


def _stats(collection: Collection) -> dict[str, Any]:
    spec, stats = collection.spec, collection.stats
    return {
        "name": spec.name,
        "images": stats.images,
        "entities": stats.entities,
        "dimension": stats.dimension,
        "bytes": {"records": stats.bytes, "segments": sum(each.bytes for each in stats.segments)},
        "fresh_rows": stats.fresh_rows,
        "deleted_rows": stats.deleted_rows,
        "segments": [dataclasses.asdict(segment) for segment in stats.segments],
        "fill": stats.fill,
        "generation": stats.generation,
        "embedder": dataclasses.asdict(spec.embedder),
        "segmenter": dataclasses.asdict(spec.segmenter),
        "pixels": spec.pixels,
        "entity_limit": spec.entity_limit,
        "indexed_fields": {field.path: field.kind for field in spec.indexed_fields},
        "recall_target": spec.index.recall_target,
        "favour": spec.index.favour,
        "warnings": list(stats.warnings),
    }


def _spec(arguments: argparse.Namespace) -> CollectionSpec:
    if arguments.space is not None:
        return precomputed_spec(arguments.name, arguments)
    from regionsearch.models.registry import ModelRegistry

    return embedding_spec(arguments.name, arguments, ModelRegistry())


def _changed(index: IndexWish, recall_target: float | None, favour: Any) -> IndexWish:
    """With what was said."""
    return IndexWish(
        index.recall_target if recall_target is None else recall_target,
        index.favour if favour is None else favour,
    )


def _fields(said: Sequence[tuple[str, str]]) -> tuple[IndexedField, ...]:
    return tuple(IndexedField(path, kind) for path, kind in said)  # type: ignore[arg-type]
