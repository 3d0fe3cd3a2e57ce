"""SearchService."""

from __future__ import annotations

import grpc

from regionsearch.errors import InvalidRequest, RegionSearchError
from regionsearch.serving.answer_messages import answer_to_message
from regionsearch.serving.backend import Backend
from regionsearch.serving.batch_search import answer_several
from regionsearch.serving.calls import check_alive
from regionsearch.serving.query_messages import name_field, query_from_message
from regionsearch.serving.required import collection_of
from regionsearch.v1 import search_pb2 as pb
from regionsearch.v1 import search_pb2_grpc


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def Search(self, request: pb.SearchRequest, context: grpc.ServicerContext) -> pb.SearchResponse:  # noqa: N802
        collection = collection_of(self._backend, request.collection)
        limits = self._backend.limits
        query = query_from_message(request, limits)
        check_alive(context)
        try:
            answer = self._backend.engine.search(collection, query)
        except RegionSearchError as error:
            name_field(error, request)
            raise
        check_alive(context)
        return answer_to_message(answer, request, limits.message_bytes)

    def BatchSearch(  # noqa: N802
        self, request: pb.BatchSearchRequest, context: grpc.ServicerContext
    ) -> pb.BatchSearchResponse:
        collection = collection_of(self._backend, request.collection)
        most = self._backend.limits.batch_queries
        if not 1 <= len(request.requests) <= most:
            raise InvalidRequest(
                f"there are {len(request.requests)} requests; there must be between 1 and {most} "
                "(limits.batch_queries)",
                field="requests",
            )
        results = answer_several(
            self._backend, collection, request.collection, request.requests, lambda: check_alive(context)
        )
        return pb.BatchSearchResponse(results=results)
