"""Several questions of one call, each answered as if it were alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from regionsearch.collection import Collection
from regionsearch.errors import AnswerTooLarge, InvalidRequest, RegionSearchError
from regionsearch.search.answer import Answer
from regionsearch.search.query import Query
from regionsearch.serving.answer_messages import answer_to_message
from regionsearch.serving.backend import Backend
from regionsearch.serving.query_messages import name_field, query_from_message
from regionsearch.serving.status import batch_error_of
from regionsearch.serving.strictness import refuse_unknown
from regionsearch.v1 import search_pb2 as pb

QUERIES_AT_ONCE = 8
"""Queries that the engine gets together. Between two such groups the caller is asked whether it has gone, and
only one group's answers lie in memory both as values and as messages."""
FRAME_BYTES = 16
"""Tags and lengths around one answer, at most."""
_LOG = logging.getLogger("regionsearch.serving")


def answer_several(
    backend: Backend,
    collection: Collection,
    named: str,
    requests: Sequence[pb.SearchRequest],
    check_alive: Callable[[], None],
) -> list[pb.BatchSearchResult]:
    """One result for each request, in their order, together within limits.message_bytes. named: as the batch
    calls the collection, perhaps by an alias.

    Once an answer does not fit beside those before it, groups that have not been computed yet are not: each
    is refused likewise, and has to be asked in another call. A fault of ours in one question is the error of
    that question. Raises what `check_alive` raises.
    """
    most = backend.limits.message_bytes
    no_room = _refused(_no_room(most))
    # Whatever comes first, of each question at least this much can be said.
    least = no_room.ByteSize() + FRAME_BYTES
    room = most - len(requests) * least
    answered = full = False
    results: list[pb.BatchSearchResult] = []
    for start in range(0, len(requests), QUERIES_AT_ONCE):
        group = requests[start : start + QUERIES_AT_ONCE]
        if full:
            results += [no_room for _ in group]
            continue
        check_alive()
        for request, found in zip(group, _found(backend, collection, named, group, check_alive), strict=True):
            result = _result(found, request, most)
            more = result.ByteSize() + FRAME_BYTES - least
            if more > room:
                full = answered
                result = no_room
            else:
                room -= max(0, more)
                answered |= result.HasField("response")
            results.append(result)
    check_alive()
    return results


def _result(found: Answer | Exception, request: pb.SearchRequest, most: int) -> pb.BatchSearchResult:
    if isinstance(found, Exception):
        return _refused(found)
    try:
        return pb.BatchSearchResult(response=answer_to_message(found, request, most))
    except Exception as error:
        # Too large, or a fault of ours: either way it is this question's alone.
        return _refused(error)


def _found(
    backend: Backend,
    collection: Collection,
    named: str,
    requests: Sequence[pb.SearchRequest],
    check_alive: Callable[[], None],
) -> list[Answer | Exception]:
    found: dict[int, Answer | Exception] = {}
    queries: dict[int, Query] = {}
    for number, request in enumerate(requests):
        try:
            refuse_unknown(request)
            _check_collection(request, named, collection.spec.name)
            queries[number] = query_from_message(request, backend.limits)
        except Exception as error:
            # Refused, or a fault of ours: either way it is this question's alone.
            found[number] = error
    answered = _answered(backend, collection, list(queries.values()), check_alive)
    for number, result in zip(queries, answered, strict=True):
        if isinstance(result, RegionSearchError):
            name_field(result, requests[number])
        found[number] = result
    return [found[number] for number in range(len(requests))]


def _answered(
    backend: Backend, collection: Collection, queries: Sequence[Query], check_alive: Callable[[], None]
) -> list[Answer | Exception]:
    try:
        return list(backend.engine.search_many(collection, queries))
    except Exception:
        # A fault of ours, and it does not say in which question: asked one by one, only that one meets it.
        _LOG.exception("a fault in one of %d questions of a batch; they are asked one by one", len(queries))
        answers: list[Answer | Exception] = []
        for query in queries:
            check_alive()
            try:
                answers.append(backend.engine.search(collection, query))
            except Exception as error:
                answers.append(error)
        return answers


def _check_collection(request: pb.SearchRequest, named: str, name: str) -> None:
    if request.collection not in ("", named, name):
        raise InvalidRequest(
            f"this question names the collection {request.collection!r:.200}, its batch {named!r:.200}",
            field="collection",
        )


def _no_room(most: int) -> AnswerTooLarge:
    return AnswerTooLarge(
        f"the answer finds no room beside others in one message (limits.message_bytes is {most}): ask again "
        "in another call, by itself if need be, for fewer hits, or for hits without masks"
    )


def _refused(error: Exception) -> pb.BatchSearchResult:
    return pb.BatchSearchResult(error=batch_error_of(error))
