"""Several questions of one call, each answered as if it were alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from regionsearch.collection import Collection
from regionsearch.errors import AnswerTooLarge, InvalidRequest, RegionSearchError
from regionsearch.search.answer import Answer
from regionsearch.search.query import Query
from regionsearch.serving.answer_messages import answer_to_message, too_large
from regionsearch.serving.backend import Backend
from regionsearch.serving.query_messages import name_field, query_from_message
from regionsearch.serving.status import batch_error_of
from regionsearch.serving.strictness import refuse_unknown
from regionsearch.v1 import search_pb2 as pb

QUERIES_AT_ONCE = 8
"""Queries that the engine gets together. Between two such groups the caller is asked whether it has gone, and
only one group's answers lie in memory both as values and as messages."""
ERROR_BYTES = 1_500
"""Room for what is said of one question that is refused; its message is cut to 1,000."""
FRAME_BYTES = 16
"""Tags and lengths around one answer, at most."""


def answer_several(
    backend: Backend,
    collection: Collection,
    requests: Sequence[pb.SearchRequest],
    check_alive: Callable[[], None],
) -> list[pb.BatchSearchResult]:
    """One result for each request, in their order, together within limits.message_bytes.

    Once an answer does not fit beside those before it, what has not been computed yet is not computed: it
    is refused likewise, and has to be asked in another call. Raises what `check_alive` raises.
    """
    most = backend.limits.message_bytes
    room = most - len(requests) * ERROR_BYTES
    full = False
    results = []
    for start in range(0, len(requests), QUERIES_AT_ONCE):
        group = requests[start : start + QUERIES_AT_ONCE]
        if full:
            results += [_refused(_no_room(most)) for _ in group]
            continue
        check_alive()
        for request, found in zip(group, _found(backend, collection, group), strict=True):
            if isinstance(found, RegionSearchError):
                results.append(_refused(found))
                continue
            response = answer_to_message(found, request)
            size = response.ByteSize() + FRAME_BYTES
            if size > most:
                results.append(_refused(too_large(size, most)))
            elif size > room:
                full = True
                results.append(_refused(_no_room(most)))
            else:
                room -= size
                results.append(pb.BatchSearchResult(response=response))
    check_alive()
    return results


def _found(
    backend: Backend, collection: Collection, requests: Sequence[pb.SearchRequest]
) -> list[Answer | RegionSearchError]:
    found: dict[int, Answer | RegionSearchError] = {}
    queries: dict[int, Query] = {}
    for number, request in enumerate(requests):
        try:
            refuse_unknown(request)
            _check_collection(request, collection.spec.name)
            queries[number] = query_from_message(request, backend.limits)
        except InvalidRequest as error:
            found[number] = error
    answered = backend.engine.search_many(collection, list(queries.values()))
    for number, result in zip(queries, answered, strict=True):
        if isinstance(result, RegionSearchError):
            name_field(result, requests[number])
        found[number] = result
    return [found[number] for number in range(len(requests))]


def _check_collection(request: pb.SearchRequest, name: str) -> None:
    if request.collection not in ("", name):
        raise InvalidRequest(
            f"this question names the collection {request.collection!r:.200}, its batch {name!r:.200}",
            field="collection",
        )


def _no_room(most: int) -> AnswerTooLarge:
    return AnswerTooLarge(
        f"the answers before this one fill a message (limits.message_bytes is {most}): ask again in another "
        "call, for fewer hits, or for hits without masks"
    )


def _refused(error: RegionSearchError) -> pb.BatchSearchResult:
    return pb.BatchSearchResult(error=batch_error_of(error))
