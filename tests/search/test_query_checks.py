"""What a query may not be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from regionsearch.config import Limits
from regionsearch.errors import InvalidRequest
from regionsearch.images import Image
from regionsearch.regions import Box, Mask, Point, RegionPrompt
from regionsearch.search.placement import Placement
from regionsearch.search.query import Example, Query, QueryRegion, Rerank
from regionsearch.search.query_checks import check_query, check_vector
from regionsearch.search.query_parts import parts_of

IMAGE = Image(np.zeros((4, 4, 3), dtype=np.uint8))
REGION = QueryRegion(RegionPrompt(box=Box(0, 0, 2, 2)))
POINT = RegionPrompt(box=Box(0, 0, 2, 2), points=(Point(1, 1),))
MASKED = RegionPrompt(mask=Mask.full(4, 4))
UNIT = Box(0, 0, 1, 1)
VECTOR = np.ones(3, dtype=np.float32)
NAN = float("nan")

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
    ({"image": IMAGE, "regions": (REGION,) * 17}, "regions"),
    ({"image": IMAGE, "regions": (REGION, QueryRegion(POINT, refine=True))}, "regions[1].refine"),
    ({"image": IMAGE, "regions": (QueryRegion(MASKED, refine=True),)}, "regions[0].refine"),
    ({"image_id": "a", "entities": (0, -1)}, "entities[1]"),
    ({"image_id": "a", "entities": (0,) * 17}, "entities"),
    ({"text": "dog", "entities": (0, 1)}, "entities[0]"),
    ({"disliked": (Example("a"),)}, "disliked"),
    ({"liked": (Example("a"),) * 65}, "liked"),
    ({"liked": (Example("a"),), "disliked": (Example("b"),) * 65}, "disliked"),
    ({"liked": (Example("a"), Example(""))}, "liked[1].image_id"),
    ({"text": "dog", "disliked": (Example("a", -1),)}, "disliked[0].entity"),
    ({"liked": (Example("a", 1),), "disliked": (Example("b"), Example("a", 1))}, "disliked[1]"),
    ({"liked": (Example("a"),), "rerank": Rerank()}, "rerank"),
    ({"text": "dog", "placements": (Placement(),) * 2}, "placements[1]"),
    ({"image": IMAGE, "regions": (REGION,) * 3, "placements": (Placement(),)}, "placements[1]"),
    ({"text": "dog", "placements": (Placement(part="middle"),)}, "placements[0].part"),
    ({"text": "dog", "placements": (Placement(part="left", box=UNIT),)}, "placements[0].box"),
    ({"text": "dog", "placements": (Placement(box=Box(0, 0, 50, 50)),)}, "placements[0].box"),
    ({"text": "dog", "placements": (Placement(box=Box(-0.1, 0, 0.5, 1)),)}, "placements[0].box"),
    ({"text": "dog", "placements": (Placement(tolerance=0.2),)}, "placements[0].tolerance"),
    ({"text": "dog", "placements": (Placement(part="left", tolerance=0.0),)}, "placements[0].tolerance"),
    ({"text": "dog", "placements": (Placement(box=UNIT, tolerance=1.5),)}, "placements[0].tolerance"),
    ({"text": "dog", "placements": (Placement(part="left", tolerance=NAN),)}, "placements[0].tolerance"),
    ({"text": "dog", "placements": (Placement(min_area=-0.1),)}, "placements[0].min_area"),
    ({"text": "dog", "placements": (Placement(max_area=NAN),)}, "placements[0].max_area"),
    ({"text": "dog", "placements": (Placement(min_area=0.5, max_area=0.4),)}, "placements[0].max_area"),
    ({"text": "dog", "placements": (Placement(label=""),)}, "placements[0].label"),
    ({"text": "dog", "placements": (Placement(label="x" * 1001),)}, "placements[0].label"),
    ({"text": "dog", "placements": (Placement(min_count=0),)}, "placements[0].min_count"),
    ({"text": "dog", "placements": (Placement(max_count=0),)}, "placements[0].max_count"),
    ({"text": "dog", "placements": (Placement(min_count=3, max_count=2),)}, "placements[0].max_count"),
    ({"text": "dog", "placements": (Placement(strict=True),)}, "placements[0].strict"),
    ({"text": "dog", "placements": (Placement(label="dog", strict=True),)}, "placements[0].strict"),
    (
        {"text": "dog", "placements": (Placement(label="dog", min_count=2, strict=True),)},
        "placements[0].strict",
    ),
    (
        {"image_id": "a", "entities": (0, 1), "placements": (Placement(), Placement(min_area=2.0))},
        "placements[1].min_area",
    ),
    ({"text": "dog", "page_token": "next"}, "page_token"),
    ({"text": "dog", "group_by": "label"}, "group_by"),
    ({"image_id": "a", "entities": (0, 1), "group_by": "entity"}, "group_by"),
    ({"text": "dog", "min_score": -0.1}, "min_score"),
    ({"text": "dog", "min_score": NAN}, "min_score"),
    ({"text": "dog", "min_score": 1.1}, "min_score"),
    ({"text": "dog", "candidates": 0}, "candidates"),
    ({"text": "dog", "candidates": 5001}, "candidates"),
    ({"text": "dog", "preset": "quick"}, "preset"),
    ({"text": "dog", "all_entities": -1}, "all_entities"),
    ({"text": "dog", "all_entities": 1025}, "all_entities"),
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
        {"image": IMAGE, "regions": (REGION,) * 16, "placements": (Placement(part="left"),) * 16},
        {"image": IMAGE, "regions": (QueryRegion(RegionPrompt(box=Box(0, 0, 2, 2)), refine=True),)},
        {"image_id": "a", "entities": (1, 1), "placements": (Placement(), Placement(label="dog"))},
        {"liked": (Example("a"), Example("a", 1)), "include_self": True, "group_by": "entity"},
        {"text": "dog", "disliked": (Example("a"),), "include_self": True},
        {"vector": VECTOR, "liked": (Example("a"),), "placements": (Placement(box=UNIT, strict=True),)},
        {"text": "dog", "placements": (Placement(min_area=0.1, max_area=0.1, min_count=2, max_count=2),)},
        {"text": "dog", "placements": (Placement(min_count=2, strict=True),)},
        {"text": "dog", "placements": (Placement(label="dog", max_area=0.5, strict=True),)},
        {"text": "dog", "weights": {"entity": 1.0, "placement": 3.0}},
        {"text": "dog", "weights": {"text_entity": 0.0, "text_image": 0.0, "objectness": 1.0}},
        {"text": "dog", "min_score": 1.0, "candidates": 5000, "preset": "thorough", "all_entities": 1024},
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
    assert parts_of(Query(liked=(Example("a"),))) == ("entity", "global", "objectness")
    assert parts_of(Query(text="dog", placements=(Placement(part="left"),)))[2:] == (
        "placement",
        "objectness",
    )
    assert "placement" in parts_of(Query(text="dog", placements=(Placement(min_count=2),)))
    for condition in (Placement(min_count=2, strict=True), Placement(label="dog", min_count=2)):
        assert "placement" not in parts_of(Query(text="dog", placements=(condition,)))
    assert parts_of(Query(image=IMAGE, text="dog"))[:4] == ("entity", "global", "text_entity", "text_image")


@pytest.mark.parametrize("vector", [np.ones(4), np.zeros(3), np.array([1, np.nan, 0])])
def test_a_vector_of_another_space_or_without_direction_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(InvalidRequest):
        check_vector(vector.astype(np.float32), 3)


def test_a_long_finite_vector_has_a_direction() -> None:
    check_vector(np.full(3, 1e30, dtype=np.float32), 3)
