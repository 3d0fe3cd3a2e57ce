"""SearchService."""

from __future__ import annotations

import grpc

from regionsearch.errors import InvalidImage, InvalidRegion
from regionsearch.serving.backend import Backend
from regionsearch.serving.calls import check_alive
from regionsearch.serving.query_messages import answer_to_message, query_from_message
from regionsearch.serving.required import collection_of, naming_image
from regionsearch.v1 import search_pb2 as pb
from regionsearch.v1 import search_pb2_grpc


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def Search(self, request: pb.SearchRequest, context: grpc.ServicerContext) -> pb.SearchResponse:  # noqa: N802
        collection = collection_of(self._backend, request.collection)
        query = query_from_message(request, self._backend.limits)
        check_alive(context)
        try:
            with naming_image(request.image_id):
                answer = self._backend.engine.search(collection, query)
        except InvalidRegion as error:
            # The engine and its models know one region and one image; here they sit in named fields.
            error.field = "regions[0]"
            raise
        except InvalidImage as error:
            error.field = "image"
            raise
        check_alive(context)
        return answer_to_message(answer, request)
