"""Collections, their upkeep, aliases, snapshots and operations, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from regionsearch.client import collection_requests as requests
from regionsearch.client import collection_responses as responses
from regionsearch.client.answers import CollectionInfo
from regionsearch.client.asynchronous_calls import AsyncCalls
from regionsearch.client.deadline import POLL_SECONDS, POLLED_CALL_SECONDS, Deadline
from regionsearch.client.stored_answers import CollectionStats, Operation, Snapshot
from regionsearch.contract_names import Favour, FieldKind, OperationKind, OperationState, PixelsKept
from regionsearch.errors import Overloaded
from regionsearch.v1 import collections_pb2, operations_pb2


class AsyncCollectionCalls(AsyncCalls):
    """The methods of `AsyncClient` for collections and operations."""

    async def create_collection(
        self,
        name: str,
        *,
        embedder: str | None = None,
        segmenter: str | None = None,
        pixels: PixelsKept | None = None,
        entity_limit: int | None = None,
        space: str | None = None,
        dimension: int | None = None,
        indexed_fields: Mapping[str, FieldKind] | None = None,
        recall_target: float | None = None,
        favour: Favour | None = None,
        timeout: float | None = None,
    ) -> CollectionInfo:
        """Creates an empty collection; what is not given is the server's default (`compact` models,
        thumbnails, 32 entities an image).

        space, dimension: of vectors that are computed elsewhere and come with `upsert_records`; no embedder
        beside them. indexed_fields: kinds (`number`, `string`, `boolean`, `timestamp`) by path in the
        payload, `{"camera.maker": "string"}`: what filters read without reading records. recall_target: of
        the true ten nearest rows the share that a search should find, 0.5 to 0.999 (default 0.95). favour:
        `memory` or `speed` (default). Raises CollectionExists, ModelNotFound, ModelUnavailable.
        """
        request = requests.create_collection(
            name,
            embedder,
            segmenter,
            pixels,
            entity_limit,
            space,
            dimension,
            indexed_fields,
            recall_target,
            favour,
        )
        response = await self._call(self._stubs.collections.CreateCollection, request, timeout)
        return responses.collection_info(response.collection)

    async def get_collection(self, name: str, *, timeout: float | None = None) -> CollectionInfo:
        """By its name or an alias. Raises CollectionNotFound."""
        request = requests.get_collection(name)
        response = await self._call(self._stubs.collections.GetCollection, request, timeout)
        return responses.collection_info(response.collection)

    async def list_collections(
        self, *, page_size: int = 100, timeout: float | None = None
    ) -> AsyncIterator[CollectionInfo]:
        """All collections in the order of their names, fetched page by page as they are asked for."""
        request = requests.list_collections(page_size)
        async for page in self._pages(self._stubs.collections.ListCollections, request, timeout):
            for collection in page.collections:
                yield responses.collection_info(collection)

    async def delete_collection(
        self, name: str, *, aliases: bool = False, timeout: float | None = None
    ) -> None:
        """Deletes it with all its images, by its own name. aliases: delete these too.

        Raises CollectionNotFound; FailedPrecondition when it has aliases, or the name is one.
        """
        request = requests.delete_collection(name, aliases)
        await self._call(self._stubs.collections.DeleteCollection, request, timeout)

    async def update_collection(
        self,
        name: str,
        *,
        indexed_fields: Mapping[str, FieldKind] | None = None,
        recall_target: float | None = None,
        favour: Favour | None = None,
        timeout: float | None = None,
    ) -> Operation:
        """Begins to change what is given and leaves the rest; see `create_collection`.

        indexed_fields: all of them from then on. New ones are read from every stored payload.
        Raises CollectionNotFound, InvalidRequest.
        """
        request = requests.update_collection(name, indexed_fields, recall_target, favour)
        response = await self._call(self._stubs.collections.UpdateCollection, request, timeout)
        return responses.operation(response.operation)

    async def collection_stats(self, name: str, *, timeout: float | None = None) -> CollectionStats:
        """Counts, bytes, index segments, fill level and warnings. Raises CollectionNotFound."""
        request = requests.collection_stats(name)
        response = await self._call(self._stubs.collections.GetCollectionStats, request, timeout)
        return responses.collection_stats(response.stats)

    async def seal_collection(self, name: str, *, timeout: float | None = None) -> Operation:
        """Begins to put the rows that are searched exactly into an index segment. Raises
        CollectionNotFound."""
        request = requests.seal_collection(name)
        response = await self._call(self._stubs.collections.SealCollection, request, timeout)
        return responses.operation(response.operation)

    async def compact_collection(self, name: str, *, timeout: float | None = None) -> Operation:
        """Begins to build index segments anew without deleted rows. Raises CollectionNotFound."""
        request = requests.compact_collection(name)
        response = await self._call(self._stubs.collections.CompactCollection, request, timeout)
        return responses.operation(response.operation)

    # aliases

    async def set_alias(self, alias: str, collection: str, *, timeout: float | None = None) -> str | None:
        """Makes the alias mean the collection at once, for every request that begins later.

        Returns what it meant before. Raises CollectionNotFound; CollectionExists when a collection has the
        alias's name.
        """
        request = requests.set_alias(alias, collection)
        response = await self._call(self._stubs.collections.SetAlias, request, timeout)
        return response.previous or None

    async def delete_alias(self, alias: str, *, timeout: float | None = None) -> None:
        """The collection stays. Raises AliasNotFound."""
        request = requests.delete_alias(alias)
        await self._call(self._stubs.collections.DeleteAlias, request, timeout)

    async def list_aliases(self, *, timeout: float | None = None) -> dict[str, str]:
        """The collections' names by alias, in the order of aliases."""
        request = collections_pb2.ListAliasesRequest()
        response = await self._call(self._stubs.collections.ListAliases, request, timeout)
        return {alias.alias: alias.collection for alias in response.aliases}

    # snapshots, which the server keeps where its operator said (`serve --snapshots`)

    async def create_snapshot(
        self, collection: str, snapshot: str, *, timeout: float | None = None
    ) -> Operation:
        """Begins a consistent copy of the collection. snapshot: its name; one that ends in `.tar` becomes a
        single file. Raises CollectionNotFound; FailedPrecondition where the server keeps no snapshots."""
        request = requests.create_snapshot(collection, snapshot)
        response = await self._call(self._stubs.collections.CreateSnapshot, request, timeout)
        return responses.operation(response.operation)

    async def restore_snapshot(
        self, snapshot: str, collection: str = "", *, replace: bool = False, timeout: float | None = None
    ) -> Operation:
        """Begins to make a new collection of a snapshot. collection: its name; "": that of the one which the
        snapshot was taken of. replace: one of this name gives way to it; otherwise CollectionExists.
        Raises SnapshotNotFound; FailedPrecondition as `create_snapshot`."""
        request = requests.restore_snapshot(snapshot, collection, replace)
        response = await self._call(self._stubs.collections.RestoreSnapshot, request, timeout)
        return responses.operation(response.operation)

    async def list_snapshots(self, *, timeout: float | None = None) -> list[Snapshot]:
        """In the order of their names. Raises FailedPrecondition as `create_snapshot`."""
        request = collections_pb2.ListSnapshotsRequest()
        response = await self._call(self._stubs.collections.ListSnapshots, request, timeout)
        return [responses.snapshot(snapshot) for snapshot in response.snapshots]

    async def delete_snapshot(self, snapshot: str, *, timeout: float | None = None) -> None:
        """Raises SnapshotNotFound; FailedPrecondition as `create_snapshot`."""
        request = requests.delete_snapshot(snapshot)
        await self._call(self._stubs.collections.DeleteSnapshot, request, timeout)

    # operations

    async def get_operation(self, operation: Operation | str, *, timeout: float | None = None) -> Operation:
        """The operation, given by itself or its id, as it is now. Raises OperationNotFound."""
        request = operations_pb2.GetOperationRequest(id=requests.operation_id(operation))
        response = await self._call(self._stubs.operations.GetOperation, request, timeout)
        return responses.operation(response.operation)

    async def list_operations(
        self,
        *,
        collection: str = "",
        kind: OperationKind | None = None,
        state: OperationState | None = None,
        page_size: int = 100,
        timeout: float | None = None,
    ) -> AsyncIterator[Operation]:
        """The newest first, those that have ended too: of one collection, kind or state, or of all."""
        request = requests.list_operations(collection, kind, state, page_size)
        async for page in self._pages(self._stubs.operations.ListOperations, request, timeout):
            for operation in page.operations:
                yield responses.operation(operation)

    async def watch_operation(
        self, operation: Operation | str, *, timeout: float | None = None
    ) -> AsyncIterator[Operation]:
        """The operation now, whenever it has changed, and when it has ended. timeout: seconds, of all of it;
        None: none. Where too many watch already, it is asked about every second or so instead.
        Raises OperationNotFound, DeadlineExceeded."""
        request = operations_pb2.WatchOperationRequest(id=requests.operation_id(operation))
        deadline = Deadline(timeout)
        last: Operation | None = None
        try:
            async for message in self._receive(self._stubs.operations.WatchOperation, request, timeout):
                last = responses.operation(message.operation)
                yield last
        except Overloaded:
            while last is None or not last.ended:
                try:
                    seen = await self.get_operation(operation, timeout=deadline.left(POLLED_CALL_SECONDS))
                except Overloaded:
                    seen = None
                if seen is not None and seen != last:
                    last = seen
                    yield seen
                    continue
                await asyncio.sleep(deadline.left(POLL_SECONDS))

    async def wait_operation(self, operation: Operation | str, *, timeout: float | None = None) -> Operation:
        """The operation when it has succeeded. timeout: seconds; None waits for ever.

        Raises the error that it failed with, Cancelled, OperationNotFound, DeadlineExceeded (it goes on).
        """
        last = None
        async for seen in self.watch_operation(operation, timeout=timeout):
            last = seen
        return responses.succeeded(last)

    async def cancel_operation(
        self, operation: Operation | str, *, timeout: float | None = None
    ) -> Operation:
        """Asks it to end soon, with nothing half done; often it is still running in the answer.
        Raises OperationNotFound."""
        request = operations_pb2.CancelOperationRequest(id=requests.operation_id(operation))
        response = await self._call(self._stubs.operations.CancelOperation, request, timeout)
        return responses.operation(response.operation)
