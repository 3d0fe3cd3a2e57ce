"""Hits page by page, over the wire."""

from __future__ import annotations

from typing import Any

import pytest
from served import Service, png

from regionsearch.client import Query
from regionsearch.errors import FailedPrecondition, InvalidRequest

QUERIES: dict[str, dict[str, Any]] = {
    "words": {"text": "red"},
    "a region with words": {"image": png(4), "box": (5, 8, 20, 32), "text": "green"},
    "an indexed image": {"image_id": "p04", "entity": 1},
    "entities": {"text": "red", "group_by": "entity"},
    "good ones": {"text": "red", "min_score": 0.3},
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize("limit", [1, 5])
def test_pages_one_after_the_other_are_the_whole_answer(
    service: Service, filled: str, query: dict[str, Any], limit: int
) -> None:
    whole = service.client.search(filled, **query, limit=50)
    assert whole.next_page_token == ""
    pages = list(service.client.search_pages(filled, **query, limit=limit))
    assert [hit.image_id for page in pages for hit in page.hits] == [hit.image_id for hit in whole.hits]
    assert [len(page.hits) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    assert list(service.client.search_all(filled, Query(**query), limit=limit)) == [
        hit for page in pages for hit in page.hits
    ]


def test_a_token_asks_for_what_follows_and_no_page_is_fetched_before_its_time(
    service: Service, filled: str
) -> None:
    first = service.client.search(filled, text="red", limit=5)
    second = service.client.search(filled, text="red", limit=5, page_token=first.next_page_token)
    from_the_second = service.client.search_pages(
        filled, text="red", limit=5, page_token=first.next_page_token
    )
    assert next(from_the_second).hits == second.hits
    assert len(next(from_the_second).hits) == 2
    with pytest.raises(StopIteration):
        next(from_the_second)


def test_a_token_is_good_for_its_own_question_alone(service: Service, filled: str) -> None:
    token = service.client.search(filled, text="red", limit=5).next_page_token
    for other in ({"text": "blue", "limit": 5}, {"text": "red", "limit": 4}):
        with pytest.raises(InvalidRequest) as caught:
            service.client.search(filled, **other, page_token=token)  # type: ignore[arg-type]
        assert caught.value.field == "page_token"


def test_pages_of_what_has_changed_are_refused(service: Service, collection: str) -> None:
    service.client.upsert(collection, [png(seed) for seed in range(4)])
    pages = service.client.search_pages(collection, text="red", limit=2)
    assert len(next(pages).hits) == 2
    service.client.upsert(collection, [png(9)])
    with pytest.raises(FailedPrecondition) as caught:
        next(pages)
    assert caught.value.field == "page_token"
