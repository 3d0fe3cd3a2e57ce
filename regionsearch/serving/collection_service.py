"""CollectionService."""

from __future__ import annotations

import grpc

from regionsearch.collection import Collection
from regionsearch.collection.page_tokens import last_id_of, page_token
from regionsearch.collection.records import PixelsKept
from regionsearch.collection.validation import MAX_ENTITY_LIMIT, check_collection_name
from regionsearch.errors import CollectionNotFound, InvalidRequest
from regionsearch.fingerprint import Fingerprint
from regionsearch.ingest import collection_spec
from regionsearch.models.registry import DEFAULT_EMBEDDER, DEFAULT_SEGMENTER
from regionsearch.models.segmenter import DEFAULT_ENTITY_LIMIT
from regionsearch.serving.backend import Backend
from regionsearch.serving.calls import check_alive
from regionsearch.serving.required import collection_of, naming, page_size_of, required
from regionsearch.v1 import collections_pb2 as pb
from regionsearch.v1 import collections_pb2_grpc, types_pb2

PIXELS_KEPT: dict[int, PixelsKept] = {
    pb.PIXELS_KEPT_UNSPECIFIED: "thumbnail",
    pb.PIXELS_KEPT_NONE: "none",
    pb.PIXELS_KEPT_THUMBNAIL: "thumbnail",
    pb.PIXELS_KEPT_ORIGINAL: "original",
}
PIXELS_VALUES: dict[PixelsKept, pb.PixelsKept] = {
    "none": pb.PIXELS_KEPT_NONE,
    "thumbnail": pb.PIXELS_KEPT_THUMBNAIL,
    "original": pb.PIXELS_KEPT_ORIGINAL,
}


class CollectionServicer(collections_pb2_grpc.CollectionServiceServicer):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def CreateCollection(  # noqa: N802
        self, request: pb.CreateCollectionRequest, context: grpc.ServicerContext
    ) -> pb.CreateCollectionResponse:
        name = required(request.name, "name")
        try:
            check_collection_name(name)
        except InvalidRequest as error:
            error.field = "name"
            raise
        limit = request.entity_limit if request.HasField("entity_limit") else DEFAULT_ENTITY_LIMIT
        if not 1 <= limit <= MAX_ENTITY_LIMIT:
            raise InvalidRequest(
                f"entity_limit is {limit}; it must be between 1 and {MAX_ENTITY_LIMIT}", field="entity_limit"
            )
        models = self._backend.models
        embedder, segmenter = request.embedder or DEFAULT_EMBEDDER, request.segmenter or DEFAULT_SEGMENTER
        self._backend.check_allowed("embedder", embedder)
        self._backend.check_allowed("segmenter", segmenter)
        spec = collection_spec(
            name,
            models.embedder(embedder),
            models.segmenter(segmenter),
            pixels=PIXELS_KEPT[request.pixels],
            entity_limit=limit,
        )
        check_alive(context)
        collection = self._backend.directory.create_collection(spec)
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
        with naming(self._backend, request.name, "name"):
            self._backend.directory.drop_collection(required(request.name, "name"))
        return pb.DeleteCollectionResponse()


def collection_to_message(collection: Collection) -> pb.Collection:
    spec, stats = collection.spec, collection.stats
    return pb.Collection(
        name=spec.name,
        embedder=_fingerprint_to_message(spec.embedder),
        segmenter=_fingerprint_to_message(spec.segmenter),
        pixels=PIXELS_VALUES[spec.pixels],
        entity_limit=spec.entity_limit,
        images=stats.images,
        entities=stats.entities,
        stored_bytes=stats.bytes,
        generation=stats.generation,
    )


def _fingerprint_to_message(fingerprint: Fingerprint) -> types_pb2.Fingerprint:
    return types_pb2.Fingerprint(
        name=fingerprint.name,
        weights=fingerprint.weights,
        dimension=fingerprint.dimension,
        preprocessing=fingerprint.preprocessing,
    )
