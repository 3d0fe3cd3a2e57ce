"""What a query may not be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from regionsearch.config import Limits
from regionsearch.errors import InvalidRequest
from regionsearch.images import Image
from regionsearch.regions import Box, RegionPrompt
from regionsearch.search.query import Query, QueryRegion, Rerank
from regionsearch.search.query_checks import check_query, check_vector
from regionsearch.search.query_parts import parts_of

IMAGE = Image(np.zeros((4, 4, 3), dtype=np.uint8))
REGION = QueryRegion(RegionPrompt(box=Box(0, 0, 2, 2)))
VECTOR = np.ones(3, dtype=np.float32)

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "query"),
    ({"image": IMAGE, "image_id": "a"}, "image_id"),
    ({"image": IMAGE, "encoded_image": b"x"}, "image"),
    ({"image_id": "a", "vector": VECTOR}, "vector"),
    ({"vector": VECTOR, "text": "dog"}, "vector"),
    ({"text": "dog", "regions": (REGION,)}, "regions"),
    ({"image_id": "a", "regions": (REGION,)}, "regions"),
    ({"text": "dog", "entities": (0,)}, "entity"),
    ({"image_id": "a", "entities": (-1,)}, "entity"),
    ({"text": "dog", "include_self": True}, "include_self"),
    ({"text": " \n"}, "text"),
    ({"text": "a\udcff"}, "text"),
    ({"text": "x" * 2001}, "text"),
    ({"text": "dog", "limit": 0}, "limit"),
    ({"text": "dog", "limit": 1001}, "limit"),
    ({"encoded_image": bytes(33 * 1024 * 1024)}, "image"),
    ({"text": "dog", "weights": {"colour": 1.0}}, "weights[colour]"),
    ({"text": "dog", "weights": {"entity": -1.0}}, "weights[entity]"),
    ({"text": "dog", "weights": {"entity": float("nan")}}, "weights[entity]"),
    ({"text": "dog", "weights": {"text_entity": 0.0, "text_image": 0.0}}, "weights"),
    ({"vector": VECTOR, "rerank": Rerank()}, "rerank"),
    ({"text": "dog", "rerank": Rerank("twice")}, "rerank.method"),
    ({"image": IMAGE, "rerank": Rerank("pairwise_instructed")}, "rerank.method"),
    ({"image_id": "a", "entities": (0,), "rerank": Rerank("pairwise_instructed")}, "rerank.method"),
    ({"text": "dog", "rerank": Rerank("pairwise_instructed")}, "rerank.method"),
    ({"text": "dog", "rerank": Rerank(top_n=0)}, "rerank.top_n"),
    ({"text": "dog", "rerank": Rerank(top_n=257)}, "rerank.top_n"),
    ({"text": "dog", "rerank": Rerank(weight=0.0)}, "rerank.weight"),
    ({"text": "dog", "rerank": Rerank(weight=float("inf"))}, "rerank.weight"),
]


@pytest.mark.parametrize(("parts", "field"), REFUSED)
def test_a_query_that_cannot_be_answered_names_the_field_at_fault(parts: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_query(Query(**parts), Limits())
    assert refused.value.field == field


@pytest.mark.parametrize(
    "parts",
    [
        {"text": "dog"},
        {"image": IMAGE, "regions": (REGION,), "text": "dog"},
        {"image_id": "a", "entities": (3,), "include_self": True},
        {"vector": VECTOR, "limit": 1000},
        {"text": "dog", "weights": {"text_entity": 0.0}},
        {"text": "dog", "limit": 1000, "rerank": Rerank(top_n=256, weight=1000.0)},
        {"image_id": "a", "rerank": Rerank(top_n=1)},
        {"image": IMAGE, "text": "dog", "rerank": Rerank("pairwise_instructed")},
        {"encoded_image": b"x", "text": "dog", "rerank": Rerank("pairwise_instructed")},
        {"image_id": "a", "text": "dog", "rerank": Rerank("pairwise_instructed")},
    ],
)
def test_a_query_that_makes_sense_is_let_through(parts: dict[str, Any]) -> None:
    check_query(Query(**parts), Limits())


def test_pixels_and_words_bring_their_own_signals() -> None:
    assert parts_of(Query(text="dog")) == ("text_entity", "text_image", "objectness")
    assert parts_of(Query(image_id="a")) == ("entity", "global", "objectness")
    assert parts_of(Query(image=IMAGE, text="dog"))[:4] == ("entity", "global", "text_entity", "text_image")


@pytest.mark.parametrize("vector", [np.ones(4), np.zeros(3), np.array([1, np.nan, 0])])
def test_a_vector_of_another_space_or_without_direction_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(InvalidRequest):
        check_vector(vector.astype(np.float32), 3)


def test_a_long_finite_vector_has_a_direction() -> None:
    check_vector(np.full(3, 1e30, dtype=np.float32), 3)
