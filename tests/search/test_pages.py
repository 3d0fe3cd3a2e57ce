"""Page tokens: good for their own query and content alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.errors import FailedPrecondition, InvalidRequest
from regionsearch.images import Image
from regionsearch.regions import Box, Mask, Point, RegionPrompt
from regionsearch.search import Example, Placement, Query, QueryRegion, Rerank
from regionsearch.search.pages import page_of, query_digest, token_of
from regionsearch.search.widening import block_ends

PICTURE = Image(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
REGION = QueryRegion(RegionPrompt(box=Box(0, 0, 2, 2)))
FULL = Query(
    image=PICTURE,
    regions=(REGION, QueryRegion(RegionPrompt(points=(Point(1, 1),)))),
    text="red",
    liked=(Example("a", 1),),
    placements=(Placement(), Placement(part="left")),
    weights={"entity": 1.0},
)
OTHERWISE: list[dict[str, Any]] = [
    {"image": Image(np.zeros((4, 4, 3), dtype=np.uint8))},
    {"image": None, "encoded_image": b"png"},
    {"image_id": "a"},
    {"entities": (1,)},
    {"regions": (REGION,)},
    {"regions": tuple(reversed(FULL.regions))},
    {"regions": (replace(REGION, normalised=True), FULL.regions[1])},
    {"regions": (replace(REGION, refine=True), FULL.regions[1])},
    {"regions": (QueryRegion(RegionPrompt(mask=Mask.full(4, 4))), FULL.regions[1])},
    {"text": "red "},
    {"text": None},
    {"vector": np.ones(3, np.float32)},
    {"liked": (Example("a"),)},
    {"liked": (), "disliked": FULL.liked},
    {"placements": (Placement(part="left"), Placement())},
    {"placements": (Placement(), Placement(part="left", strict=True))},
    {"where": "entity.area > 0.1"},
    {"limit": 11},
    {"weights": {"entity": 1.5}},
    {"weights": {"global": 1.0}},
    {"per_kind_weights": True},
    {"group_by": "entity"},
    {"min_score": 0.1},
    {"candidates": 50},
    {"preset": "fast"},
    {"all_entities": 1},
    {"include_self": True},
    {"rerank": Rerank()},
]


@given(st.integers(2, 2**32 - 1))
def test_a_token_brings_its_page_back(page: int) -> None:
    token = token_of(page, FULL, "content")
    assert page_of(replace(FULL, page_token=token), "content") == page
    assert page_of(FULL, "content") == 1
    # A command line would take it for an option.
    assert not token.startswith("-")


@pytest.mark.parametrize("change", OTHERWISE, ids=lambda change: " ".join(change))
def test_a_token_is_refused_with_a_query_that_asks_anything_else(change: dict[str, Any]) -> None:
    asked = replace(FULL, page_token=token_of(2, FULL, "content"), **change)
    with pytest.raises(InvalidRequest, match="another query") as refused:
        page_of(asked, "content")
    assert refused.value.field == "page_token"


def test_every_field_of_a_query_but_the_token_and_the_name_of_its_picture_counts() -> None:
    changed = {name for change in OTHERWISE for name in change}
    assert changed == set(Query.__dataclass_fields__) - {"page_token", "image_name"}
    assert query_digest(replace(FULL, image_name="other")) == query_digest(FULL)


def test_the_same_query_said_again_is_the_same() -> None:
    again = replace(FULL, image=Image(PICTURE.pixels.copy()), weights={"entity": 1})
    assert query_digest(again) == query_digest(FULL)


def test_other_content_is_told_from_another_query() -> None:
    with pytest.raises(FailedPrecondition, match="first page") as refused:
        page_of(replace(FULL, page_token=token_of(2, FULL, "then")), "now")
    assert refused.value.field == "page_token"


@given(st.one_of(st.text(min_size=1), st.binary(min_size=1).map(bytes.hex)))
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidRequest, match="not one that a search gave"):
        page_of(replace(FULL, page_token=token), "content")


@given(st.data())
def test_a_token_with_one_character_changed_is_refused(data: st.DataObject) -> None:
    token = token_of(7, FULL, "content")
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCZabcz019-_").filter(lambda c: c != token[place]))
    changed = token[:place] + other + token[place + 1 :]
    with pytest.raises(InvalidRequest):
        page_of(replace(FULL, page_token=changed), "content")


@given(st.integers(1, 50), st.integers(1, 40), st.integers(0, 300))
def test_blocks_are_a_first_page_with_what_is_read_again_and_then_page_by_page(
    page: int, limit: int, read_again: int
) -> None:
    expected = [max(limit, read_again)]
    while expected[-1] < page * limit:
        expected.append(expected[-1] + limit)
    assert list(block_ends(page, limit, read_again)) == expected


def test_a_token_for_a_page_that_nobody_will_see_costs_no_memory() -> None:
    assert len(block_ends(2**32 - 1, 10, 0)) == 2**32 - 1
