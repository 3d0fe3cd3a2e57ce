"""The client for ordinary code: each method waits for its answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Unpack

from regionsearch.client import responses, search_requests, search_responses
from regionsearch.client.answers import Answer, Hit, ServerInfo
from regionsearch.client.blocking_collections import CollectionCalls
from regionsearch.client.blocking_images import ImageCalls
from regionsearch.client.many_queries import ManyQueries
from regionsearch.client.query import Query, QueryFields, query_of
from regionsearch.errors import DeadlineExceeded, InvalidRequest, RegionSearchError, Unavailable
from regionsearch.v1 import operations_pb2


class Client(CollectionCalls, ImageCalls):
    """A connection to a RegionSearch server at `HOST:PORT`. Thread-safe; close it, or use `with`.

    timeout: seconds that each call may take; methods take another one. None waits for ever.
    max_message_bytes: of one message, either way; more than the server's own limit is of no use.

    Every method raises the errors of `regionsearch.errors` as the server raised them, Unavailable when
    it cannot be reached and DeadlineExceeded after the timeout. Reads are tried up to four times when
    the server is unavailable, writes once.
    """

    # search

    def search(
        self,
        collection: str,
        query: Query | None = None,
        *,
        timeout: float | None = None,
        **said: Unpack[QueryFields],
    ) -> Answer:
        """The best hits of a collection, and the entity that matched in each: `query`, or its fields by name;
        named ones beside a query take the place of its own. Query says what each field means.

        timeout: seconds. Raises InvalidRequest, InvalidRegion, InvalidImage, NotAccepted, CollectionNotFound,
        ImageNotFound, AnswerTooLarge; FailedPrecondition for a page of what has changed since, or with
        rerank where pixels are missing.
        """
        request = search_requests.search(collection, query_of(query, **said))
        return search_responses.answer(self._call(self._stubs.search.Search, request, timeout))

    def search_pages(
        self,
        collection: str,
        query: Query | None = None,
        *,
        timeout: float | None = None,
        **said: Unpack[QueryFields],
    ) -> Iterator[Answer]:
        """The answers with the first, the next and further hits, `limit` at a time, asked for as they are
        needed, until there are no more. timeout: seconds, of each page.

        Raises what `search` raises; FailedPrecondition when the collection changes meanwhile.
        """
        request = search_requests.search(collection, query_of(query, **said))
        for page in self._pages(self._stubs.search.Search, request, timeout):
            yield search_responses.answer(page)

    def search_all(
        self,
        collection: str,
        query: Query | None = None,
        *,
        timeout: float | None = None,
        **said: Unpack[QueryFields],
    ) -> Iterator[Hit]:
        """The hits of `search_pages`, one by one."""
        for page in self.search_pages(collection, query, timeout=timeout, **said):
            yield from page.hits

    def search_many(
        self, collection: str, queries: Iterable[Query], *, timeout: float | None = None
    ) -> list[Answer | RegionSearchError]:
        """One answer, or one error, for each query, in their order: a query that is refused does not disturb
        the others. Asked in calls of at most 16, or as many as the server takes. timeout: seconds, of each
        call.

        Raises what concerns a call as a whole: CollectionNotFound, Overloaded, DeadlineExceeded, Unavailable.
        """
        many = ManyQueries(collection, queries)
        while (request := many.next_request()) is not None:
            try:
                response = self._call(self._stubs.search.BatchSearch, request, timeout)
            except InvalidRequest as error:
                many.take_refusal(error)
            else:
                many.take(response)
        return many.results()

    # the server

    def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """Version, models and limits of the server."""
        request = operations_pb2.GetServerInfoRequest()
        return responses.server_info(self._call(self._stubs.server.GetServerInfo, request, timeout))

    def wait_until_ready(self, timeout: float = 30.0) -> ServerInfo:
        """Waits until the server answers, at most `timeout` seconds. Raises Unavailable after that."""
        request = operations_pb2.GetServerInfoRequest()
        try:
            response = self._call(self._stubs.server.GetServerInfo, request, timeout, wait_for_ready=True)
        except DeadlineExceeded as error:
            raise Unavailable(f"no server answered at {self.address} within {timeout:g} s") from error
        return responses.server_info(response)
