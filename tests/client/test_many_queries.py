"""Questions are put into calls, and answers back into their order, whatever a server has room for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.client import Answer, Query
from regionsearch.client.many_queries import CALL_BYTES, CALL_QUERIES, ManyQueries
from regionsearch.errors import AnswerTooLarge, CollectionNotFound, InvalidRequest, RegionSearchError
from regionsearch.v1 import search_pb2 as pb

LARGE = "large"


class Server:
    """Answers each question with its own text as the background; has room for so many answers in a call, and
    never for one to a `large` question. Takes calls of so many questions and bytes at most."""

    def __init__(self, room: int, most: int = CALL_QUERIES, most_bytes: int = 2**32) -> None:
        self.room = room
        self.most = most
        self.most_bytes = most_bytes
        self.calls: list[int] = []

    def answer(self, request: pb.BatchSearchRequest) -> pb.BatchSearchResponse:
        if request.ByteSize() > self.most_bytes:
            raise InvalidRequest("a message is above the limit", metadata={"code": "RESOURCE_EXHAUSTED"})
        if len(request.requests) > self.most:
            raise InvalidRequest("too many", field="requests")
        self.calls.append(len(request.requests))
        response = pb.BatchSearchResponse()
        for number, question in enumerate(request.requests):
            if number >= self.room or question.text == LARGE:
                response.results.add(error={"code": 8, "reason": "ANSWER_TOO_LARGE", "message": "no room"})
            else:
                response.results.add(response={"background": question.text})
        return response


def asked(server: Server, queries: list[Query]) -> list[Answer | RegionSearchError]:
    many = ManyQueries("c", iter(queries))
    while (request := many.next_request()) is not None:
        try:
            response = server.answer(request)
        except InvalidRequest as error:
            many.take_refusal(error)
        else:
            many.take(response)
    return many.results()


@given(
    st.lists(st.sampled_from(["a", "b", "c", LARGE, "unsendable"]), max_size=60),
    st.integers(1, CALL_QUERIES + 1),
    st.integers(1, CALL_QUERIES + 1),
)
def test_every_question_gets_its_own_answer_however_little_room_there_is(
    texts: list[str], room: int, most: int
) -> None:
    queries = [Query(text="\udcff" if text == "unsendable" else f"{text}") for text in texts]
    server = Server(room, most)
    results = asked(server, queries)
    assert len(results) == len(texts)
    for text, found in zip(texts, results, strict=True):
        if text == LARGE:
            assert isinstance(found, AnswerTooLarge)
        elif text == "unsendable":
            assert isinstance(found, InvalidRequest)
        else:
            assert isinstance(found, Answer)
            assert found.background == text
    assert all(0 < size <= CALL_QUERIES for size in server.calls)


def test_calls_are_no_larger_than_their_bytes_allow_unless_one_question_is() -> None:
    third, whole = b"x" * (CALL_BYTES // 3 + 1), b"x" * (CALL_BYTES + 1)
    queries = [Query(image=third)] * 3 + [Query(image=whole)] + [Query(image=third)] * 2
    server = Server(CALL_QUERIES)
    assert len(asked(server, queries)) == 6
    assert server.calls == [2, 1, 1, 2]


def test_a_question_above_the_servers_limit_of_bytes_is_refused_and_the_others_are_not() -> None:
    queries = [Query(image=b"x" * size) for size in (300, 300, 5_000, 300, 300, 300, 5_000)]
    server = Server(CALL_QUERIES, most_bytes=1_000)
    results = asked(server, queries)
    assert [isinstance(found, Answer) for found in results] == [True, True, False, True, True, True, False]
    assert isinstance(results[2], InvalidRequest)


def test_a_refusal_that_smaller_calls_cannot_mend_ends_it() -> None:
    many = ManyQueries("nowhere", [Query(text="a"), Query(text="b")])
    many.next_request()
    with pytest.raises(InvalidRequest, match="no name"):
        many.take_refusal(InvalidRequest("no name", field="collection"))


def test_questions_are_read_as_they_are_asked_not_all_at_once() -> None:
    read = 0

    def questions() -> Iterator[Query]:
        nonlocal read
        while read < 100:
            read += 1
            yield Query(text="a")

    many = ManyQueries("c", questions())
    assert many.next_request() is not None
    assert read == CALL_QUERIES


def test_an_error_comes_back_as_its_class_with_its_field() -> None:
    many = ManyQueries("c", [Query(text="a"), Query(text="b")])
    many.next_request()
    gone = pb.BatchSearchResult(
        error={"code": 5, "reason": "COLLECTION_NOT_FOUND", "message": "gone", "field": "collection"}
    )
    # Of a later server: a reason that this client does not know.
    other = pb.BatchSearchResult(error={"code": 3, "reason": "TOO_RED", "message": "too red"})
    many.take(pb.BatchSearchResponse(results=[gone, other]))
    assert many.next_request() is None
    first, second = many.results()
    assert isinstance(first, CollectionNotFound)
    assert (first.message, first.field) == ("gone", "collection")
    assert isinstance(second, InvalidRequest)
    assert (second.message, second.field) == ("too red", None)
