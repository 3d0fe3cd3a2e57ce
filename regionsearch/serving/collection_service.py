"""CollectionService."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from regionsearch.collection import Collection, CollectionSpec, snapshots
from regionsearch.collection.fields.declared_fields import check_indexed_fields
from regionsearch.collection.page_tokens import last_id_of, page_token
from regionsearch.collection.records import IndexWish
from regionsearch.collection.validation import MAX_ENTITY_LIMIT, check_collection_name, check_index_wish
from regionsearch.contract_names import OperationKind
from regionsearch.errors import CollectionNotFound, InvalidRequest
from regionsearch.ingest import collection_spec
from regionsearch.models.precomputed import fingerprints_of
from regionsearch.models.registry import DEFAULT_EMBEDDER, DEFAULT_SEGMENTER
from regionsearch.models.segmenter import DEFAULT_ENTITY_LIMIT
from regionsearch.serving.backend import Backend
from regionsearch.serving.calls import check_alive
from regionsearch.serving.collection_messages import (
    PIXELS_NAMES,
    collection_to_message,
    fields_from_messages,
    stats_to_message,
    wish_from_message,
    wishes_of,
)
from regionsearch.serving.operation_messages import operation_to_message, snapshot_to_message
from regionsearch.serving.operations import Outcome, Steps
from regionsearch.serving.required import blaming, collection_of, naming, page_size_of, required
from regionsearch.serving.snapshot_shelf import SnapshotShelf, facts_of
from regionsearch.v1 import collections_pb2 as pb
from regionsearch.v1 import collections_pb2_grpc, operations_pb2


class CollectionServicer(collections_pb2_grpc.CollectionServiceServicer):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._shelf = SnapshotShelf(backend.snapshots)

    def CreateCollection(  # noqa: N802
        self, request: pb.CreateCollectionRequest, context: grpc.ServicerContext
    ) -> pb.CreateCollectionResponse:
        name = _new_name(request.name, "name")
        limit = request.entity_limit if request.HasField("entity_limit") else DEFAULT_ENTITY_LIMIT
        if not 1 <= limit <= MAX_ENTITY_LIMIT:
            raise InvalidRequest(
                f"entity_limit is {limit}; it must be between 1 and {MAX_ENTITY_LIMIT}", field="entity_limit"
            )
        if request.space or request.HasField("dimension"):
            spec = _precomputed_spec(request, name, limit)
        else:
            spec = self._embedding_spec(request, name, limit)
        check_alive(context)
        try:
            collection = self._backend.directory.create_collection(wishes_of(spec, request))
        except InvalidRequest as error:
            error.field = (error.field or "").removeprefix("collection.") or None
            raise
        return pb.CreateCollectionResponse(collection=collection_to_message(collection))

    def GetCollection(  # noqa: N802
        self, request: pb.GetCollectionRequest, context: grpc.ServicerContext
    ) -> pb.GetCollectionResponse:
        collection = collection_of(self._backend, request.name, "name")
        return pb.GetCollectionResponse(collection=collection_to_message(collection))

    def ListCollections(  # noqa: N802
        self, request: pb.ListCollectionsRequest, context: grpc.ServicerContext
    ) -> pb.ListCollectionsResponse:
        size = page_size_of(request.page_size if request.HasField("page_size") else None)
        after = last_id_of(request.page_token, "", "") if request.page_token else ""
        names = sorted(name for name in self._backend.directory.collection_names() if name > after)
        response = pb.ListCollectionsResponse()
        for name in names[:size]:
            try:
                collection = self._backend.directory.collection(name)
            except CollectionNotFound:
                continue  # deleted since its name was read
            response.collections.append(collection_to_message(collection))
        if len(names) > size:
            response.next_page_token = page_token("", "", names[size - 1])
        return response

    def DeleteCollection(  # noqa: N802
        self, request: pb.DeleteCollectionRequest, context: grpc.ServicerContext
    ) -> pb.DeleteCollectionResponse:
        name = required(request.name, "name")
        with naming(self._backend, name, "name"):
            self._backend.directory.drop_collection(
                name, aliases="delete" if request.with_aliases else "refuse"
            )
        # What still works on it has nothing to work on.
        self._backend.operations.cancel_all_of(name)
        return pb.DeleteCollectionResponse()

    def UpdateCollection(  # noqa: N802
        self, request: pb.UpdateCollectionRequest, context: grpc.ServicerContext
    ) -> pb.UpdateCollectionResponse:
        collection = collection_of(self._backend, request.name, "name")
        fields = (
            fields_from_messages(request.indexed_fields.fields)
            if request.HasField("indexed_fields")
            else None
        )
        if fields is None and not request.HasField("index"):
            raise InvalidRequest("nothing is to be changed: give indexed_fields or index", field="index")
        # Now, while somebody waits: what cannot be is no operation.
        with blaming("indexed_fields"):
            check_indexed_fields(fields or ())
        check_index_wish(wish_from_message(request.index, IndexWish()))
        name = collection.spec.name

        def work(steps: Steps) -> Outcome:
            collection = collection_of(self._backend, name, "name")
            # What is not said stays as it is when its turn comes: another update may have changed it.
            wish = wish_from_message(request.index, collection.spec.index)
            collection.update(
                indexed_fields=fields,
                index=wish if request.HasField("index") else None,
                progress=steps.progress,
                check=steps.check,
            )
            return Outcome()

        return pb.UpdateCollectionResponse(operation=self._begin("update", name, work))

    def GetCollectionStats(  # noqa: N802
        self, request: pb.GetCollectionStatsRequest, context: grpc.ServicerContext
    ) -> pb.GetCollectionStatsResponse:
        collection = collection_of(self._backend, request.name, "name")
        return pb.GetCollectionStatsResponse(stats=stats_to_message(collection, self._backend.concealed))

    def SealCollection(  # noqa: N802
        self, request: pb.SealCollectionRequest, context: grpc.ServicerContext
    ) -> pb.SealCollectionResponse:
        return pb.SealCollectionResponse(operation=self._begin_upkeep("seal", request.name, Collection.seal))

    def CompactCollection(  # noqa: N802
        self, request: pb.CompactCollectionRequest, context: grpc.ServicerContext
    ) -> pb.CompactCollectionResponse:
        return pb.CompactCollectionResponse(
            operation=self._begin_upkeep("compact", request.name, Collection.compact)
        )

    def SetAlias(  # noqa: N802
        self, request: pb.SetAliasRequest, context: grpc.ServicerContext
    ) -> pb.SetAliasResponse:
        alias = _new_name(request.alias, "alias")
        name = required(request.collection, "collection")
        with naming(self._backend, name, "collection"):
            previous = self._backend.directory.set_alias(alias, name)
        return pb.SetAliasResponse(previous=previous or "")

    def DeleteAlias(  # noqa: N802
        self, request: pb.DeleteAliasRequest, context: grpc.ServicerContext
    ) -> pb.DeleteAliasResponse:
        with blaming("alias"):
            self._backend.directory.delete_alias(required(request.alias, "alias"))
        return pb.DeleteAliasResponse()

    def ListAliases(  # noqa: N802
        self, request: pb.ListAliasesRequest, context: grpc.ServicerContext
    ) -> pb.ListAliasesResponse:
        aliases = sorted(self._backend.directory.aliases().items())
        return pb.ListAliasesResponse(
            aliases=[pb.Alias(alias=alias, collection=name) for alias, name in aliases]
        )

    def CreateSnapshot(  # noqa: N802
        self, request: pb.CreateSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.CreateSnapshotResponse:
        collection = collection_of(self._backend, request.collection)
        name = collection.spec.name
        place = self._shelf.new_place(required(request.snapshot, "snapshot"))

        def work(steps: Steps) -> Outcome:
            with self._shelf.unnamed(), naming(self._backend, name, "collection"):
                info = snapshots.create(
                    self._backend.directory, name, place, progress=steps.progress, check=steps.check
                )
            facts = facts_of(place.name, info)
            return Outcome(facts.images, facts)

        return pb.CreateSnapshotResponse(operation=self._begin("snapshot", name, work))

    def RestoreSnapshot(  # noqa: N802
        self, request: pb.RestoreSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.RestoreSnapshotResponse:
        place = self._shelf.place(required(request.snapshot, "snapshot"))
        if request.collection:
            _new_name(request.collection, "collection")
        with self._shelf.unnamed():
            name = request.collection or snapshots.describe(place).collection
        # Now, while somebody waits. What takes the name before its turn comes is met again then.
        with blaming("collection"):
            snapshots.check_name(self._backend.directory, name, replace=request.replace)

        def work(steps: Steps) -> Outcome:
            with self._shelf.unnamed():
                restored = snapshots.restore(
                    self._backend.directory,
                    place,
                    name=name,
                    replace=request.replace,
                    progress=steps.progress,
                    check=steps.check,
                )
            self._backend.refresh(restored)
            return Outcome(restored.stats.images)

        return pb.RestoreSnapshotResponse(operation=self._begin("restore", name, work))

    def ListSnapshots(  # noqa: N802
        self, request: pb.ListSnapshotsRequest, context: grpc.ServicerContext
    ) -> pb.ListSnapshotsResponse:
        return pb.ListSnapshotsResponse(snapshots=map(snapshot_to_message, self._shelf.listed()))

    def DeleteSnapshot(  # noqa: N802
        self, request: pb.DeleteSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.DeleteSnapshotResponse:
        self._shelf.delete(required(request.snapshot, "snapshot"))
        return pb.DeleteSnapshotResponse()

    def _embedding_spec(
        self, request: pb.CreateCollectionRequest, name: str, entity_limit: int
    ) -> CollectionSpec:
        models = self._backend.models
        embedder, segmenter = request.embedder or DEFAULT_EMBEDDER, request.segmenter or DEFAULT_SEGMENTER
        self._backend.check_allowed("embedder", embedder)
        self._backend.check_allowed("segmenter", segmenter)
        return collection_spec(
            name,
            models.embedder(embedder),
            models.segmenter(segmenter),
            pixels=PIXELS_NAMES[request.pixels],
            entity_limit=entity_limit,
        )

    def _begin_upkeep(
        self, kind: OperationKind, said: str, upkeep: Callable[..., None]
    ) -> operations_pb2.Operation:
        """Raises InvalidRequest if the name is missing, CollectionNotFound if nothing has it."""
        name = collection_of(self._backend, said, "name").spec.name

        def work(steps: Steps) -> Outcome:
            # When its turn comes, the collection may have given way to a snapshot of it.
            collection = collection_of(self._backend, name, "name")
            upkeep(collection, progress=steps.progress, check=steps.check)
            return Outcome()

        return self._begin(kind, name, work)

    def _begin(
        self, kind: OperationKind, collection: str, work: Callable[[Steps], Outcome]
    ) -> operations_pb2.Operation:
        return operation_to_message(self._backend.begin(kind, collection, work))


def _precomputed_spec(request: pb.CreateCollectionRequest, name: str, entity_limit: int) -> CollectionSpec:
    for field, said in (("embedder", request.embedder), ("segmenter", request.segmenter)):
        if said:
            raise InvalidRequest(
                f"the vectors of a space are computed elsewhere: no {field} beside space", field=field
            )
    if not request.HasField("dimension"):
        raise InvalidRequest("a space needs the dimension of its vectors", field="dimension")
    embedder, segmenter = fingerprints_of(required(request.space, "space"), request.dimension)
    return CollectionSpec(
        name, embedder, segmenter, pixels=PIXELS_NAMES[request.pixels], entity_limit=entity_limit
    )


def _new_name(name: str, field: str) -> str:
    with blaming(field):
        check_collection_name(required(name, field))
    return name
