"""Any number of questions in as few calls as their bytes allow, for both clients."""

from __future__ import annotations

from collections.abc import Iterable

from regionsearch.client import search_requests, search_responses
from regionsearch.client.answers import Answer
from regionsearch.client.failures import error_of_one
from regionsearch.client.plain_values import text_of
from regionsearch.client.query import Query, query_of
from regionsearch.errors import AnswerTooLarge, InvalidRequest, RegionSearchError
from regionsearch.v1 import search_pb2

CALL_QUERIES = 16
"""A call is answered as a whole: with more, the first answer would wait longer for the last, and the timeout
that suits a single question would pass sooner. A server may be told to take fewer, and then refuses."""
CALL_BYTES = 24 * 1024 * 1024
"""Of the questions in one call, unless a single one is larger."""


class ManyQueries:
    """Makes the calls' requests one after the other, and takes their answers.

    A question that cannot be sent is answered with its error. One whose answer found no room beside others'
    is asked again by itself.
    """

    def __init__(self, collection: str, queries: Iterable[Query]) -> None:
        self._collection = text_of(collection, "collection")
        self._queries = enumerate(queries)
        self._held: tuple[int, search_pb2.SearchRequest] | None = None
        self._alone: list[tuple[int, search_pb2.SearchRequest]] = []
        self._asked: list[tuple[int, search_pb2.SearchRequest]] = []
        self._results: dict[int, Answer | RegionSearchError] = {}

    def next_request(self) -> search_pb2.BatchSearchRequest | None:
        """None when all is answered."""
        self._asked = [self._alone.pop()] if self._alone else self._collected()
        if not self._asked:
            return None
        return search_pb2.BatchSearchRequest(
            collection=self._collection, requests=[message for _, message in self._asked]
        )

    def take(self, response: search_pb2.BatchSearchResponse) -> None:
        """The answer to the request made last."""
        for (place, message), result in zip(self._asked, response.results, strict=True):
            if result.HasField("response"):
                self._results[place] = search_responses.answer(result.response)
                continue
            error = error_of_one(result.error)
            if isinstance(error, AnswerTooLarge) and len(self._asked) > 1:
                self._alone.append((place, message))
            else:
                self._results[place] = error

    def results(self) -> list[Answer | RegionSearchError]:
        """In the order of the questions."""
        return [self._results[place] for place in range(len(self._results))]

    def _collected(self) -> list[tuple[int, search_pb2.SearchRequest]]:
        collected: list[tuple[int, search_pb2.SearchRequest]] = []
        held_bytes = 0
        while len(collected) < CALL_QUERIES:
            entry, self._held = self._held or self._next_message(), None
            if entry is None:
                break
            size = entry[1].ByteSize()
            if collected and held_bytes + size > CALL_BYTES:
                self._held = entry
                break
            collected.append(entry)
            held_bytes += size
        return collected

    def _next_message(self) -> tuple[int, search_pb2.SearchRequest] | None:
        for place, query in self._queries:
            try:
                return place, search_requests.search(self._collection, query_of(query))
            except InvalidRequest as error:
                self._results[place] = error
        return None
