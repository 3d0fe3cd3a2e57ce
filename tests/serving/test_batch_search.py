"""Several questions in one call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
from served import LIMITS, Service, png, refusal_of

from regionsearch.client import Answer, Query, Region
from regionsearch.errors import (
    AnswerTooLarge,
    Cancelled,
    DeadlineExceeded,
    ImageNotFound,
    InvalidImage,
    InvalidRegion,
    InvalidRequest,
    Overloaded,
    RegionSearchError,
)
from regionsearch.search.engine import SearchEngine
from regionsearch.serving import batch_search
from regionsearch.serving.batch_search import QUERIES_AT_ONCE, answer_several
from regionsearch.v1 import search_pb2 as pb
from regionsearch.v1 import types_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT
GOOD = [
    Query(text="red"),
    Query(image=png(4), box=(5, 8, 20, 32), limit=3),
    Query(image_id="p05", entity=1, text="green", all_entities=4),
    Query(image=png(2), regions=[Region(box=(5, 8, 20, 32)), Region(points=[(45, 20)])], masks=False),
    Query(liked=["p03"], group_by="entity"),
    Query(text="blue", rerank="pairwise", rerank_top=5),
]


def same(one: Answer | RegionSearchError, other: Answer | RegionSearchError) -> bool:
    if isinstance(one, Answer) and isinstance(other, Answer):
        return (one.hits, one.regions, one.next_page_token) == (
            other.hits,
            other.regions,
            other.next_page_token,
        )
    return (type(one), str(one), getattr(one, "field", "")) == (
        type(other),
        str(other),
        getattr(other, "field", ""),
    )


def asked_alone(service: Service, collection: str, query: Query) -> Answer | RegionSearchError:
    try:
        return service.client.search(collection, query)
    except RegionSearchError as error:
        return error


BAD = [
    (Query(), InvalidRequest, "query"),
    (Query(image_id="nobody"), ImageNotFound, "image_id"),
    (Query(image=b"junk"), InvalidImage, "image"),
    (
        Query(image=png(4), regions=[Region(box=(0, 0, 9, 9)), Region(points=[(1, 1)])]),
        InvalidRegion,
        "regions[1]",
    ),
    (Query(text="a", min_score=7), InvalidRequest, "min_score"),
    (Query(text="a", weights={"colour": 1}), InvalidRequest, "weights[colour]"),
    (Query(text="a\udcff"), InvalidRequest, "text"),
    (Query(image="no/such/file.jpg"), InvalidImage, "image"),
]


def test_each_question_is_answered_as_if_it_were_alone(service: Service, filled: str) -> None:
    questions = [query for pair in zip(GOOD, [bad for bad, _, _ in BAD], strict=False) for query in pair] + [
        bad for bad, _, _ in BAD[len(GOOD) :]
    ]
    together = service.client.search_many(filled, questions)
    assert len(together) == len(questions)
    for query, found in zip(questions, together, strict=True):
        assert same(found, asked_alone(service, filled, query))
    assert [isinstance(found, Answer) for found in together[: 2 * len(GOOD)]] == [True, False] * len(GOOD)


@pytest.mark.parametrize(("query", "kind", "field"), BAD)
def test_what_is_wrong_with_one_question_is_told_as_search_would(
    service: Service, filled: str, query: Query, kind: type[RegionSearchError], field: str
) -> None:
    fine, error = service.client.search_many(filled, [GOOD[0], query])
    assert isinstance(fine, Answer)
    assert (type(error), getattr(error, "field", None)) == (kind, field)


def test_code_and_reason_of_a_refused_question_are_those_of_its_status(service: Service, filled: str) -> None:
    question = pb.SearchRequest(image_id="nobody")
    asked = pb.BatchSearchRequest(collection=filled, requests=[question, pb.SearchRequest(text="a")])
    refused, answered = service.stubs.search.BatchSearch(asked).results
    question.collection = filled
    alone = refusal_of(lambda: service.stubs.search.Search(question))
    assert (refused.error.code, refused.error.reason) == (alone.code.value[0], alone.reason)
    assert (refused.error.field, refused.error.message) == (alone.field, alone.message)
    assert answered.HasField("response")


def test_a_question_with_what_is_unknown_is_refused_and_the_others_are_not(
    service: Service, filled: str
) -> None:
    unknown = pb.SearchRequest(text="a", regions=[types_pb2.Region()])
    unknown.regions[0].MergeFromString(b"\xaa\x3e\x01?")
    asked = pb.BatchSearchRequest(
        collection=filled,
        requests=[
            unknown,
            pb.SearchRequest(text="a", preset=9),  # type: ignore[arg-type]
            pb.SearchRequest(text="a", collection="elsewhere"),
            pb.SearchRequest(text="a", collection=filled),
        ],
    )
    results = service.stubs.search.BatchSearch(asked).results
    assert [result.error.field for result in results] == ["regions[0].997", "preset", "collection", ""]
    assert {result.error.reason for result in results[:3]} == {"INVALID_REQUEST"}
    assert results[3].HasField("response")


@pytest.mark.parametrize(
    ("request_", "code", "reason", "field"),
    [
        (pb.BatchSearchRequest(requests=[{"text": "a"}]), INVALID, "INVALID_REQUEST", "collection"),
        (pb.BatchSearchRequest(collection="filled"), INVALID, "INVALID_REQUEST", "requests"),
        (
            pb.BatchSearchRequest(collection="filled", requests=[{"text": "a"}] * (LIMITS.batch_queries + 1)),
            INVALID,
            "INVALID_REQUEST",
            "requests",
        ),
        (
            pb.BatchSearchRequest(collection="nowhere", requests=[{"text": "a"}]),
            grpc.StatusCode.NOT_FOUND,
            "COLLECTION_NOT_FOUND",
            "collection",
        ),
    ],
    ids=["no collection", "no questions", "too many", "unknown collection"],
)
def test_what_is_wrong_with_the_whole_ends_the_call(
    service: Service,
    filled: str,
    request_: pb.BatchSearchRequest,
    code: grpc.StatusCode,
    reason: str,
    field: str,
) -> None:
    refused = refusal_of(lambda: service.stubs.search.BatchSearch(request_))
    assert (refused.code, refused.reason, refused.field) == (code, reason, field)


def test_more_questions_than_one_call_takes_are_asked_in_several(service: Service, filled: str) -> None:
    words = ["red", "green", "blue", "a thing"]
    questions = [Query(text=words[number % 4], limit=1 + number % 7) for number in range(75)]
    answers = service.client.search_many(filled, iter(questions))
    alone = {
        (word, limit): service.client.search(filled, text=word, limit=limit)
        for word in words
        for limit in range(1, 8)
    }
    for query, found in zip(questions, answers, strict=True):
        assert query.text is not None
        assert same(found, alone[query.text, query.limit])
    assert service.client.search_many(filled, []) == []


def speckled(colour: tuple[int, int, int]) -> np.ndarray:
    """(500, 500, 3) uint8: one thing to the dummy models, whose mask takes about 50 kB."""
    noise = np.random.default_rng(5).random((500, 500)) < 0.62
    noise[0], noise[-1], noise[:, 0], noise[:, -1] = False, False, False, False
    pixels = np.full((500, 500, 3), 255, np.uint8)
    pixels[noise] = colour
    return pixels


def speckled_collection(service: Service, name: str, images: int) -> str:
    service.client.create_collection(name, embedder="dummy", segmenter="dummy", entity_limit=1, pixels="none")
    pictures = [speckled((220, 20, 20) if number % 2 else (20, 40, 220)) for number in range(images)]
    service.client.upsert(name, pictures, ids=[f"s{number:02}" for number in range(images)])
    return name


def test_answers_that_do_not_fit_together_are_asked_for_again(service: Service) -> None:
    collection = speckled_collection(service, "speckled", 2)
    questions = [pb.SearchRequest(text=word) for word in ("red", "blue", "a thing") * 8]
    one = service.stubs.search.Search(pb.SearchRequest(collection=collection, text="red"))
    fitting = LIMITS.message_bytes // one.ByteSize()
    assert QUERIES_AT_ONCE < fitting < 2 * QUERIES_AT_ONCE < len(questions)
    asked = pb.BatchSearchRequest(collection=collection, requests=questions)
    results = service.stubs.search.BatchSearch(asked).results
    there = [result.HasField("response") for result in results]
    assert sum(there) in (fitting, fitting - 1)
    assert there == sorted(there, reverse=True)
    for result in results:
        if not result.HasField("response"):
            assert (result.error.code, result.error.reason) == (8, "ANSWER_TOO_LARGE")
    words = [Query(text=question.text) for question in questions]
    for found, query in zip(service.client.search_many(collection, words), words, strict=True):
        assert same(found, service.client.search(collection, query))


def test_an_answer_above_the_limit_says_what_to_leave_out(service: Service) -> None:
    collection = speckled_collection(service, "crowded", 30)
    large, lean = Query(text="red", limit=30), Query(text="red", limit=30, masks=False)
    with pytest.raises(AnswerTooLarge, match=r"limits\.message_bytes.*masks"):
        service.client.search(collection, large)
    found = service.client.search_many(collection, [large, lean, large])
    assert [type(each) for each in found] == [AnswerTooLarge, Answer, AnswerTooLarge]
    assert same(found[1], service.client.search(collection, lean))


def test_an_answer_that_search_would_send_is_sent_in_a_batch_of_its_own(service: Service) -> None:
    """Whatever is reserved for other questions."""
    collection = speckled_collection(service, "brimful", 2)
    question = pb.SearchRequest(text="red", collection=collection)
    size = service.stubs.search.Search(question).ByteSize()
    backend = replace(service.backend, limits=replace(LIMITS, message_bytes=size + 400))
    stored = service.backend.directory.collection(collection)
    [alone] = answer_several(backend, stored, stored.spec.name, [question], lambda: None)
    assert alone.HasField("response")
    # Beside others it has no room; smaller ones have.
    small = pb.SearchRequest(text="red", without_masks=True)
    results = answer_several(backend, stored, stored.spec.name, [question, *[small] * 12], lambda: None)
    assert [result.HasField("response") for result in results] == [False] + [True] * 12
    assert sum(result.ByteSize() for result in results) < size + 400


def test_a_fault_of_ours_in_one_question_is_that_questions_error(
    service: Service, filled: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = SearchEngine._search

    def broken(self: SearchEngine, collection: Any, query: Any, texts: Any) -> Any:
        if query.text == "green":
            raise ZeroDivisionError("a fault of ours")
        return found(self, collection, query, texts)

    monkeypatch.setattr(SearchEngine, "_search", broken)
    red, green, nobody, blue = service.client.search_many(
        filled, [Query(text="red"), Query(text="green"), Query(image_id="nobody"), Query(text="blue")]
    )
    assert isinstance(red, Answer)
    assert isinstance(blue, Answer)
    assert isinstance(nobody, ImageNotFound)
    assert (type(green), getattr(green, "reason", None)) == (RegionSearchError, "INTERNAL")
    assert "ZeroDivisionError" not in str(green)
    incident = str(green).split()[-1]
    assert any(incident in record.getMessage() for record in caplog.records)


def test_a_fault_of_ours_in_one_message_is_that_questions_error(
    service: Service, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, written = batch_search.query_from_message, batch_search.answer_to_message

    def broken_reading(request: pb.SearchRequest, limits: Any) -> Any:
        if request.text == "green":
            raise KeyError("a fault of ours")
        return read(request, limits)

    def broken_writing(answer: Any, request: pb.SearchRequest, most: int) -> Any:
        if request.text == "blue":
            raise KeyError("a fault of ours")
        return written(answer, request, most)

    monkeypatch.setattr(batch_search, "query_from_message", broken_reading)
    monkeypatch.setattr(batch_search, "answer_to_message", broken_writing)
    results = service.client.search_many(filled, [Query(text=word) for word in ("red", "green", "blue")])
    assert [getattr(result, "reason", "OK") for result in results] == ["OK", "INTERNAL", "INTERNAL"]


@contextmanager
def held_batches(service: Service, count: int) -> Iterator[list[Any]]:
    """So many batches, inside the engine until the block ends."""
    engine = service.backend.engine
    release, entered = threading.Event(), threading.Semaphore(0)
    answer = engine.search_many

    def wait(*arguments: Any) -> Any:
        entered.release()
        release.wait(30)
        return answer(*arguments)

    engine.search_many = wait  # type: ignore[method-assign]
    try:
        with ThreadPoolExecutor(count) as pool:
            calls = [
                pool.submit(service.client.search_many, "filled", [Query(text="red")]) for _ in range(count)
            ]
            for _ in calls:
                assert entered.acquire(timeout=20)
            try:
                yield calls
            finally:
                release.set()
    finally:
        del engine.search_many


def test_batches_leave_three_quarters_of_the_places_to_single_searches(service: Service, filled: str) -> None:
    with held_batches(service, LIMITS.concurrent_calls // 4) as calls:
        with pytest.raises(Overloaded, match=r"4 batches .*limits\.concurrent_calls") as caught:
            service.client.search_many(filled, [Query(text="red")])
        assert caught.value.retry_after_seconds > 0
        assert len(service.client.search(filled, text="red", limit=3).hits) == 3
    assert all(isinstance(call.result()[0], Answer) for call in calls)


def test_nothing_more_is_computed_for_a_caller_that_has_gone(service: Service, filled: str) -> None:
    collection = service.backend.directory.collection(filled)
    questions = [pb.SearchRequest(text="red")] * (3 * QUERIES_AT_ONCE)
    for gone in (Cancelled("gone"), DeadlineExceeded("too late")):
        looks = 0

        def look(error: RegionSearchError = gone) -> None:
            nonlocal looks
            looks += 1
            if looks == 2:
                raise error

        with pytest.raises(type(gone)):
            answer_several(service.backend, collection, collection.spec.name, questions, look)
        assert looks == 2
    with pytest.raises(DeadlineExceeded):
        service.client.search_many(filled, [Query(text="red")] * 16, timeout=1e-6)
