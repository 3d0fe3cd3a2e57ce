"""Any number of questions in as few calls as their bytes allow, for both clients."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TypeAlias

from regionsearch.client import search_requests, search_responses
from regionsearch.client.answers import Answer
from regionsearch.client.failures import above_message_limit, error_of_one
from regionsearch.client.plain_values import text_of
from regionsearch.client.query import Query, query_of
from regionsearch.errors import AnswerTooLarge, InvalidRequest, RegionSearchError
from regionsearch.v1 import search_pb2

CALL_QUERIES = 16
"""A call is answered as a whole: with more, the first answer would wait longer for the last, and the timeout
that suits a single question would pass sooner."""
CALL_BYTES = 24 * 1024 * 1024
"""Of the questions in one call, unless a single one is larger."""

_Question: TypeAlias = tuple[int, search_pb2.SearchRequest]
"""Its place among all, and what is sent of it."""


class ManyQueries:
    """Makes the calls' requests one after the other, and takes their answers.

    A question that cannot be sent is answered with its error. One whose answer found no room beside others'
    is asked again by itself. A server may take fewer questions in a call, or smaller calls, than this client
    makes: what it refuses so is asked again in calls of half as many.
    """

    def __init__(self, collection: str, queries: Iterable[Query]) -> None:
        self._collection = text_of(collection, "collection")
        self._queries = enumerate(queries)
        self._most = CALL_QUERIES
        self._waiting: deque[_Question] = deque()
        self._alone: list[_Question] = []
        self._asked: list[_Question] = []
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

    def take_refusal(self, error: RegionSearchError) -> None:
        """Why the request made last was refused as a whole. Raises it, unless smaller calls can help; a
        single question above the limit of messages is answered with it."""
        too_large = above_message_limit(error)
        too_many = isinstance(error, InvalidRequest) and error.field == "requests"
        if too_large and len(self._asked) == 1:
            self._results[self._asked[0][0]] = error
        elif (too_large or too_many) and len(self._asked) > 1:
            self._most = len(self._asked) // 2
            self._waiting.extendleft(reversed(self._asked))
        else:
            raise error

    def results(self) -> list[Answer | RegionSearchError]:
        """In the order of the questions."""
        return [self._results[place] for place in range(len(self._results))]

    def _collected(self) -> list[_Question]:
        collected: list[_Question] = []
        held_bytes = 0
        while len(collected) < self._most:
            entry = self._waiting.popleft() if self._waiting else self._next_message()
            if entry is None:
                break
            size = entry[1].ByteSize()
            if collected and held_bytes + size > CALL_BYTES:
                self._waiting.appendleft(entry)
                break
            collected.append(entry)
            held_bytes += size
        return collected

    def _next_message(self) -> _Question | None:
        for place, query in self._queries:
            try:
                return place, search_requests.search(self._collection, query_of(query))
            except InvalidRequest as error:
                self._results[place] = error
        return None
