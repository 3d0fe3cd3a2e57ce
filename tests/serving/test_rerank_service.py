"""Reading the best again, asked of a real server."""

from __future__ import annotations

from typing import Any

import pytest
from served import Service, png, refusal_of

from regionsearch.errors import FailedPrecondition, InvalidRequest
from regionsearch.v1 import search_pb2 as pb


def test_images_read_again_come_with_what_was_found_and_lead(service: Service, filled: str) -> None:
    query: dict[str, Any] = {"image": png(4), "box": (30, 0, 60, 40), "text": "green", "limit": 9}
    plain = service.client.search(filled, **query)
    again = service.client.search(filled, **query, rerank="pairwise", rerank_top=6)
    assert all(hit.rerank is None for hit in plain.hits)
    assert [hit.rerank is not None for hit in again.hits] == [True] * 6 + [False] * 3
    assert [hit.image_id for hit in again.hits[6:]] == [hit.image_id for hit in plain.hits[6:]]
    before = {hit.image_id: (rank, hit.score) for rank, hit in enumerate(plain.hits, start=1)}
    for hit in again.hits[:6]:
        assert hit.rerank is not None
        assert (hit.rerank.joint_rank, hit.rerank.joint_score) == before[hit.image_id]
        assert hit.rerank.weight == 0.5
        assert set(hit.parts) == set(plain.hits[0].parts)
    assert again.timing_ms["rerank"] > 0
    assert plain.timing_ms["rerank"] == 0


def test_a_rerank_that_says_nothing_is_pairwise_with_the_defaults(service: Service, filled: str) -> None:
    bare = pb.SearchRequest(collection=filled, text="red", limit=12, rerank=pb.Rerank())
    full = pb.Rerank(method=pb.RERANK_METHOD_PAIRWISE, top_n=32, weight=0.5)
    said = pb.SearchRequest(collection=filled, text="red", limit=12, rerank=full)
    one, two = service.stubs.search.Search(bare), service.stubs.search.Search(said)
    assert list(one.hits) == list(two.hits)
    assert all(hit.HasField("rerank") for hit in one.hits)


def test_images_are_read_with_the_words_when_that_is_asked_for(service: Service, filled: str) -> None:
    query: dict[str, Any] = {"image": png(4), "box": (30, 0, 60, 40), "text": "green", "limit": 6}
    plain = service.client.search(filled, **query, rerank="pairwise", rerank_top=12)
    told = service.client.search(filled, **query, rerank="pairwise_instructed", rerank_top=12)
    # The dummy adds words to pixels: what both sides were told makes them more alike.
    least = [min(hit.rerank.raw for hit in answer.hits if hit.rerank) for answer in (plain, told)]
    assert least[1] > least[0] + 0.1


@pytest.mark.parametrize(
    ("query", "missing"),
    [({"text": "green"}, "picture"), ({"image": png(4)}, "text"), ({"image_id": "p01"}, "text")],
)
def test_words_for_the_candidates_need_a_text_and_a_picture(
    service: Service, filled: str, query: dict[str, Any], missing: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"pairwise_instructed.*{missing}") as caught:
        service.client.search(filled, **query, rerank="pairwise_instructed")
    assert caught.value.field == "rerank.method"


def test_what_was_found_is_left_out_with_the_parts(service: Service, filled: str) -> None:
    full = service.client.search(filled, text="red", rerank="pairwise")
    lean = service.client.search(filled, text="red", rerank="pairwise", parts=False)
    assert [(hit.image_id, hit.score) for hit in lean.hits] == [
        (hit.image_id, hit.score) for hit in full.hits
    ]
    assert all(hit.rerank is None and hit.parts == {} for hit in lean.hits)


@pytest.mark.parametrize(
    ("rerank", "field"),
    [
        (pb.Rerank(top_n=0), "rerank.top_n"),
        (pb.Rerank(top_n=257), "rerank.top_n"),
        (pb.Rerank(weight=0), "rerank.weight"),
        (pb.Rerank(weight=-1), "rerank.weight"),
        (pb.Rerank(weight=float("nan")), "rerank.weight"),
        (pb.Rerank(weight=1001), "rerank.weight"),
        (pb.Rerank(method=7), "rerank.method"),  # type: ignore[arg-type]
    ],
)
def test_settings_out_of_range_are_refused_by_field(
    service: Service, filled: str, rerank: pb.Rerank, field: str
) -> None:
    request = pb.SearchRequest(collection=filled, text="red", rerank=rerank)
    refusal = refusal_of(lambda: service.stubs.search.Search(request))
    assert (refusal.reason, refusal.field) == ("INVALID_REQUEST", field)


def test_a_vector_cannot_be_read_again(service: Service, filled: str) -> None:
    vector = service.client.get_image(filled, "p01", vectors=True).vectors
    assert vector is not None
    with pytest.raises(InvalidRequest, match="vector") as caught:
        service.client.search(filled, vector=vector[0], rerank="pairwise")
    assert caught.value.field == "rerank"


def test_a_collection_without_pixels_refuses_by_its_state(service: Service) -> None:
    service.client.create_collection("bare", embedder="dummy", segmenter="dummy", pixels="none")
    service.client.upsert("bare", [png(1)], ids=["p"])
    with pytest.raises(FailedPrecondition, match="original") as caught:
        service.client.search("bare", text="red", rerank="pairwise")
    assert caught.value.field == "rerank"
    assert len(service.client.search("bare", text="red").hits) == 1
