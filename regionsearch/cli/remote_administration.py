"""Looks after the collections of a server."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from regionsearch.cli.long_work import Check, Progress
from regionsearch.client import Client
from regionsearch.client.stored_answers import Operation, Snapshot
from regionsearch.errors import Cancelled

_SECONDS_BETWEEN_LOOKS = 0.2


@contextmanager
def connected(address: str, timeout: float) -> Iterator[RemoteAdministration]:
    with Client(address, timeout=timeout) as client:
        yield RemoteAdministration(client)


class RemoteAdministration:
    """See `Administration`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def collections(self) -> list[dict[str, Any]]:
        aliases = self._client.list_aliases()
        return [
            {
                "name": info.name,
                "images": info.images,
                "entities": info.entities,
                "aliases": [alias for alias, leads_to in aliases.items() if leads_to == info.name],
            }
            for info in self._client.list_collections()
        ]

    def stats(self, name: str) -> dict[str, Any]:
        info = self._client.get_collection(name)
        stats = dataclasses.asdict(self._client.collection_stats(name))
        return {
            **stats,
            "dimension": info.embedder.dimension,
            "pixels": info.pixels,
            "entity_limit": info.entity_limit,
            "indexed_fields": dict(info.indexed_fields),
            "recall_target": info.recall_target,
            "favour": info.favour,
        }

    def count(self, name: str, where: str) -> dict[str, Any]:
        found = self._client.count_images(name, where)
        return {"images": found.images, "entities": found.entities, "notes": list(found.notes)}

    def create(self, arguments: argparse.Namespace) -> dict[str, Any]:
        info = self._client.create_collection(
            arguments.name,
            embedder=arguments.embedder,
            segmenter=arguments.segmenter,
            pixels=arguments.pixels,
            entity_limit=arguments.entity_limit,
            space=arguments.space,
            dimension=arguments.dimension,
            indexed_fields=dict(arguments.field),
            recall_target=arguments.recall_target,
            favour=arguments.favour,
        )
        return self.stats(info.name)

    def update(
        self, name: str, changes: Mapping[str, Any], progress: Progress, check: Check
    ) -> dict[str, Any]:
        fields = changes["fields"]
        operation = self._client.update_collection(
            name,
            indexed_fields=None if fields is None else dict(fields),
            recall_target=changes["recall_target"],
            favour=changes["favour"],
        )
        self._finished(operation, progress, check)
        return self.stats(name)

    def drop(self, name: str, *, aliases: bool) -> dict[str, Any]:
        self._client.delete_collection(name, aliases=aliases)
        return {"name": name}

    def seal(self, name: str, progress: Progress, check: Check) -> dict[str, Any]:
        self._finished(self._client.seal_collection(name), progress, check)
        return self.stats(name)

    def compact(self, name: str, progress: Progress, check: Check) -> dict[str, Any]:
        self._finished(self._client.compact_collection(name), progress, check)
        return self.stats(name)

    def delete(self, name: str, image_ids: Sequence[str]) -> dict[str, Any]:
        return {"deleted": self._client.delete_images(name, image_ids).deleted}

    def delete_matching(self, name: str, where: str, progress: Progress, check: Check) -> dict[str, Any]:
        operation = self._client.delete_matching(name, where)
        return {"deleted": self._finished(operation, progress, check).images}

    def purge(
        self,
        name: str,
        image_ids: Sequence[str],
        snapshots: Sequence[str],
        progress: Progress,
        check: Check,
    ) -> dict[str, Any]:
        operation = self._client.purge_images(name, image_ids, snapshots=snapshots)
        ended = self._finished(operation, progress, check)
        return {"deleted": ended.images, "complete": bool(ended.complete), "notes": list(ended.notes)}

    def aliases(self) -> dict[str, str]:
        return self._client.list_aliases()

    def set_alias(self, alias: str, collection: str) -> dict[str, Any]:
        before = self._client.set_alias(alias, collection)
        return {"alias": alias, "collection": self._client.get_collection(alias).name, "previous": before}

    def delete_alias(self, alias: str) -> dict[str, Any]:
        leads_to = self._client.list_aliases().get(alias)
        self._client.delete_alias(alias)
        return {"alias": alias, "collection": leads_to}

    def create_snapshot(self, name: str, snapshot: str, progress: Progress, check: Check) -> dict[str, Any]:
        ended = self._finished(self._client.create_snapshot(name, snapshot), progress, check)
        return {"snapshot": snapshot} if ended.snapshot is None else _snapshot(ended.snapshot)

    def restore_snapshot(
        self, snapshot: str, name: str, *, replace: bool, progress: Progress, check: Check
    ) -> dict[str, Any]:
        operation = self._client.restore_snapshot(snapshot, name, replace=replace)
        ended = self._finished(operation, progress, check)
        info = self._client.get_collection(ended.collection)
        return {"collection": info.name, "images": info.images, "entities": info.entities}

    def snapshots(self) -> list[dict[str, Any]]:
        """Those that the server keeps."""
        return [_snapshot(snapshot) for snapshot in self._client.list_snapshots()]

    def delete_snapshot(self, snapshot: str) -> None:
        self._client.delete_snapshot(snapshot)

    def _finished(self, operation: Operation, progress: Progress, check: Check) -> Operation:
        """The operation when it has succeeded; it is asked to end when `check` says so. Raises its error."""
        stopped: Cancelled | None = None
        while not operation.ended:
            progress(operation.progress)
            try:
                check()
            except Cancelled as error:
                if stopped is None:
                    self._client.cancel_operation(operation)
                stopped = error
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            operation = self._client.get_operation(operation)
        return self._client.wait_operation(operation)


def _snapshot(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "snapshot": snapshot.name,
        "collection": snapshot.collection,
        "images": snapshot.images,
        "entities": snapshot.entities,
        "bytes": snapshot.bytes,
        "generation": snapshot.generation,
        "created": snapshot.created.isoformat().replace("+00:00", "Z"),
    }
