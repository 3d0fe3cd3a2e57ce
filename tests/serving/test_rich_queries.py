"""Everything that a query can say, asked of a real server: it goes round, and what is wrong is named."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from served import LIMITS, Service, png, refusal_of

from regionsearch.client import Answer, Example, Placement, Region
from regionsearch.errors import InvalidRegion, InvalidRequest
from regionsearch.regions import Box
from regionsearch.search.query import PART_NAMES
from regionsearch.v1 import search_pb2 as pb
from regionsearch.v1 import types_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT
LEFT, RIGHT = (5, 8, 20, 32), (35, 5, 55, 35)
"""The two things of each picture of `png`; the right one is entity 0, the left one entity 1."""


def ids(answer: Answer) -> list[str]:
    return [hit.image_id for hit in answer.hits]


def test_two_regions_are_matched_to_two_things_of_the_same_image(service: Service, filled: str) -> None:
    regions = [Region(box=LEFT), Region(points=[(45, 20)])]
    answer = service.client.search(filled, image=png(4), regions=regions, limit=12)
    assert [used.box for used in answer.regions] == [Box(*LEFT), Box(*RIGHT)]
    best = answer.hits[0]
    assert best.image_id == "p04"
    assert [(match.region, match.entity.index) for match in best.matches] == [(0, 1), (1, 0)]
    assert best.entity == best.matches[0].entity
    for hit in answer.hits:
        assert len({match.entity.index for match in hit.matches}) == 2
    assert all(match.raw == pytest.approx(1, abs=1e-5) for match in best.matches)


def test_the_order_of_regions_is_the_order_of_their_matches(service: Service, filled: str) -> None:
    boxes = [Region(box=LEFT), Region(box=RIGHT)]
    one = service.client.search(filled, image=png(4), regions=boxes, limit=12)
    other = service.client.search(filled, image=png(4), regions=boxes[::-1], limit=12)
    assert ids(one) == ids(other)
    assert [match.entity.index for match in one.hits[0].matches] == [1, 0]
    assert [match.entity.index for match in other.hits[0].matches] == [0, 1]
    for hit, turned in zip(one.hits, other.hits, strict=True):
        # Which thing is which region's is open where both are equally unlike both.
        assert sum(match.raw for match in hit.matches) == pytest.approx(
            sum(match.raw for match in turned.matches), abs=1e-6
        )


def test_regions_in_pixels_and_in_fractions_stand_side_by_side(service: Service, filled: str) -> None:
    pixels = [Region(box=(6, 4, 30, 32)), Region(box=(30, 0, 60, 40))]
    mixed = [Region(box=(0.1, 0.1, 0.5, 0.8), normalised=True), Region(box=(30, 0, 60, 40))]
    one = service.client.search(filled, image=png(4), regions=pixels, limit=12)
    other = service.client.search(filled, image=png(4), regions=mixed, limit=12)
    assert (one.hits, one.regions) == (other.hits, other.regions)


def test_a_box_can_mean_every_pixel_of_it_or_the_thing_within(service: Service, filled: str) -> None:
    loose = (30, 2, 58, 38)
    [as_it_is] = service.client.search(filled, image=png(4), box=loose).regions
    [refined] = service.client.search(filled, image=png(4), box=loose, refine=True).regions
    assert as_it_is.box == Box(*loose)
    assert refined.box == Box(*RIGHT)
    assert refined.prompt is not None
    assert refined.prompt.box == Box(*loose)


def test_entities_of_an_indexed_image_are_asked_for_together(service: Service, filled: str) -> None:
    by_id = service.client.search(filled, image_id="p04", entities=[1, 0], limit=11, include_self=True)
    drawn = [Region(box=LEFT), Region(box=RIGHT)]
    by_picture = service.client.search(filled, image=png(4), regions=drawn, limit=11)
    assert ids(by_id) == ids(by_picture)
    assert [match.entity.index for match in by_id.hits[0].matches] == [1, 0]
    assert by_id.regions == ()
    without = service.client.search(filled, image_id="p04", entities=[1, 0], limit=12)
    assert len(without.hits) == 11
    assert "p04" not in ids(without)


def test_liked_examples_are_a_query_of_their_own_and_not_among_the_hits(
    service: Service, filled: str
) -> None:
    like_it = service.client.search(filled, image_id="p04", limit=5)
    liked = service.client.search(filled, liked=["p04"], limit=5)
    assert ids(liked) == ids(like_it)
    with_it = service.client.search(filled, liked=["p04"], limit=5, include_self=True)
    assert with_it.hits[0].image_id == "p04"
    one_thing = service.client.search(filled, liked=[Example("p04", 1)], limit=3, include_self=True)
    assert one_thing.hits[0].entity.index == 1


def test_examples_move_the_query(service: Service, filled: str) -> None:
    def likeness(wanted: str, **examples: Any) -> float:
        """Of the whole picture that is wanted and the query, as its examples have moved it."""
        answer = service.client.search(
            filled, image=png(4), limit=12, include_self=bool(examples), **examples
        )
        return next(hit.parts["global"].raw for hit in answer.hits if hit.image_id == wanted)

    assert likeness("p08", liked=["p08"]) > likeness("p08") + 0.01
    assert likeness("p03", disliked=["p03"]) < likeness("p03") - 0.01
    gone = service.client.search(filled, image=png(4), liked=["p08"], disliked=["p03"], limit=12)
    assert set(ids(gone)) == {f"p{number:02}" for number in range(12)} - {"p08", "p03"}


def test_a_placement_says_where_the_match_lies(service: Service, filled: str) -> None:
    def asked(**placement: Any) -> Answer:
        return service.client.search(filled, text="red", limit=12, placements=[Placement(**placement)])

    for part, index in (("left_half", 1), ("right_half", 0)):
        answer = asked(part=part, strict=True)
        assert answer.hits
        assert {hit.entity.index for hit in answer.hits} == {index}
    soft = asked(part="left")
    assert len(soft.hits) == 12
    agreements = {hit.image_id: hit.parts["placement"] for hit in soft.hits}
    assert all(0 <= part.raw <= 1 and part.weight > 0 for part in agreements.values())
    exact = asked(box=(5 / 60, 8 / 40, 20 / 60, 32 / 40), tolerance=0.05, strict=True)
    assert {hit.entity.index for hit in exact.hits} == {1}
    assert asked(box=(0, 0, 0.1, 0.1), tolerance=0.01, strict=True).hits == ()


def test_a_placement_says_how_large_and_how_many_and_what_it_is_called(service: Service, filled: str) -> None:
    def asked(**placement: Any) -> Answer:
        return service.client.search(filled, text="red", limit=12, placements=[Placement(**placement)])

    large, small = 20 * 30 / 2400, 15 * 24 / 2400
    between = (large + small) / 2
    assert {hit.entity.index for hit in asked(min_area=between, strict=True).hits} == {0}
    assert {hit.entity.index for hit in asked(max_area=between, strict=True).hits} == {1}
    assert asked(min_area=between, max_area=0.2, strict=True).hits == ()
    assert len(asked(min_count=1, max_count=2).hits) == 12
    assert asked(min_count=3, strict=True).hits == ()
    three = asked(min_count=3)
    assert len(three.hits) == 12
    assert all(0.9 <= hit.parts["placement"].raw < 1 for hit in three.hits)
    assert all("placement" not in hit.parts for hit in asked(max_count=2, strict=True).hits)
    assert asked(label="dog").hits == ()


def test_each_region_has_its_own_placement(service: Service, filled: str) -> None:
    regions = [Region(box=LEFT), Region(box=RIGHT)]
    placements = [Placement(part="right_half", strict=True), Placement(part="left_half", strict=True)]
    answer = service.client.search(filled, image=png(4), regions=regions, placements=placements, limit=12)
    assert len(answer.hits) == 12
    for hit in answer.hits:
        assert [match.entity.index for match in hit.matches] == [0, 1]


def test_a_filter_holds_of_images_and_of_the_entity_that_matched(service: Service, filled: str) -> None:
    def asked(where: str, **others: Any) -> Answer:
        return service.client.search(filled, text="red", limit=12, where=where, **others)

    every = asked("")
    assert every.notes == ()
    some = asked('image.id < "p05" AND entity.index = 1')
    assert ids(some) == [hit.image_id for hit in every.hits if hit.image_id < "p05"] or len(some.hits) == 5
    assert {hit.image_id for hit in some.hits} == {f"p{number:02}" for number in range(5)}
    assert {hit.entity.index for hit in some.hits} == {1}
    assert "image.id" in some.notes[0]
    by_entity = asked("entity.index = 0", group_by="entity")
    assert {hit.entity.index for hit in by_entity.hits} == {0}
    assert all(hit.entities == () for hit in asked("entity.index = 0", all_entities=5).hits)
    regions = {"image": png(4), "regions": [Region(box=LEFT), Region(box=RIGHT)], "limit": 12}
    assert service.client.search(filled, **regions, where="entity.index = 0").hits == ()
    assert len(service.client.search(filled, **regions, where="entity.area > 0").hits) == 12


def test_hits_can_be_entities(service: Service, filled: str) -> None:
    answer = service.client.search(filled, text="red", group_by="entity", limit=24)
    found = [(hit.image_id, hit.entity.index) for hit in answer.hits]
    assert set(found) == {(f"p{number:02}", index) for number in range(12) for index in (0, 1)}
    assert len(found) == 24
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    asked_plainly = pb.SearchRequest(collection=filled, text="red", group_by=pb.GROUP_BY_IMAGE, limit=24)
    assert len(service.stubs.search.Search(asked_plainly).hits) == 12


def test_a_least_score_leaves_out_what_is_below_it(service: Service, filled: str) -> None:
    everything = service.client.search(filled, text="red", limit=12)
    least = everything.hits[1].score
    some = service.client.search(filled, text="red", limit=12, min_score=least)
    assert some.hits == tuple(hit for hit in everything.hits if hit.score >= least)
    assert 0 < len(some.hits) < 12


def test_a_hit_lists_as_many_of_its_entities_as_are_asked_for(service: Service, filled: str) -> None:
    query: dict[str, Any] = {"image": png(4), "box": LEFT, "limit": 6}
    assert all(hit.entities == () for hit in service.client.search(filled, **query).hits)
    for hit in service.client.search(filled, **query, all_entities=8).hits:
        [other] = hit.entities
        assert {hit.entity.index, other.entity.index} == {0, 1}
        assert 0 <= other.score <= hit.score
        stored = service.client.get_image(filled, hit.image_id, entities=True, masks=True)
        assert other.entity == stored.entities[other.entity.index]


def test_a_mask_is_sent_once_a_hit_and_stands_with_each_of_its_entities(
    service: Service, filled: str
) -> None:
    request = pb.SearchRequest(
        collection=filled,
        image=png(4),
        regions=[types_pb2.Region(box=types_pb2.Box(x0=5, y0=8, x1=20, y1=32))],
        all_entities=8,
    )
    for hit in service.stubs.search.Search(request).hits:
        entities = [hit.entity, hit.matches[0].entity, hit.entities[0].entity]
        assert [entity.index == hit.entity.index for entity in entities] == [True, True, False]
        assert [entity.HasField("mask") for entity in entities] == [True, False, True]
    answer = service.client.search(filled, image=png(4), box=LEFT, all_entities=8)
    for found in answer.hits:
        assert found.matches[0].entity == found.entity
        assert found.entities[0].entity.mask is not None
    lean = service.client.search(filled, image=png(4), box=LEFT, all_entities=8, masks=False)
    for found in lean.hits:
        assert {entity.mask for entity in (found.entity, found.matches[0].entity)} == {None}


def test_a_hit_says_where_each_arm_had_it_and_what_each_part_was_measured_on(
    service: Service, filled: str
) -> None:
    answer = service.client.search(filled, image=png(4), box=LEFT, text="red", limit=12)
    by_words = service.client.search(filled, text="red", limit=12)
    for each in (answer, by_words):
        for ranks in (
            [hit.entity_arm_rank for hit in each.hits],
            [hit.global_arm_rank for hit in each.hits],
        ):
            there = [rank for rank in ranks if rank is not None]
            assert min(there) == 1
            # An arm that is asked pixels and words apart has several first places.
            assert each is answer or len(set(there)) == len(there)
    for hit in answer.hits:
        assert set(hit.parts) <= set(PART_NAMES)
        assert hit.parts["entity"].entity == hit.entity.index
        assert hit.parts["global"].entity is None
        assert hit.parts["text_image"].entity is None
    assert answer.calibration
    assert answer.background


def test_presets_candidates_and_kinds_of_weights_are_heard(service: Service, filled: str) -> None:
    query: dict[str, Any] = {"image": png(4), "box": LEFT, "text": "red", "limit": 4}
    plain = service.client.search(filled, **query)
    assert service.client.search(filled, **query, preset="balanced").hits == plain.hits
    for said in ({"preset": "fast"}, {"preset": "thorough"}, {"candidates": 12}, {"per_kind_weights": True}):
        assert len(service.client.search(filled, **query, **said).hits) == 4  # type: ignore[arg-type]
    few = service.client.search(filled, **query, candidates=1, weights={"entity": 0})
    assert len(few.hits) == 4


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "second region outside": (
        {"image": png(4), "regions": [{"box": {"x1": 9, "y1": 9}}, {"box": {"x0": 90, "x1": 99, "y1": 9}}]},
        "INVALID_REGION",
        "regions[1]",
    ),
    "point on nothing, in the second": (
        {"image": png(4), "regions": [{"box": {"x1": 9, "y1": 9}}, {"points": [{"x": 1, "y": 1}]}]},
        "INVALID_REGION",
        "regions[1]",
    ),
    "refined mask": (
        {"image": png(4), "regions": [{"points": [{"x": 40, "y": 20}], "refine": True}]},
        "INVALID_REQUEST",
        "regions[0].refine",
    ),
    "too many regions": (
        {"image": png(4), "regions": [{"box": {"x1": 9, "y1": 9}}] * (LIMITS.regions + 1)},
        "INVALID_REQUEST",
        "regions",
    ),
    "entities without image_id": ({"text": "a", "entities": [0, 1]}, "INVALID_REQUEST", "entities[0]"),
    "one of the entities beyond": ({"image_id": "p01", "entities": [0, 9]}, "INVALID_REQUEST", "entities[1]"),
    "the only one of the entities beyond": (
        {"image_id": "p01", "entities": [9]},
        "INVALID_REQUEST",
        "entities[0]",
    ),
    "too many entities": (
        {"image_id": "p01", "entities": range(LIMITS.regions + 1)},
        "INVALID_REQUEST",
        "entities",
    ),
    "too many examples": (
        {"liked": [{"image_id": f"{number}"} for number in range(LIMITS.examples + 1)]},
        "INVALID_REQUEST",
        "liked",
    ),
    "example without an id": ({"liked": [{"image_id": "p01"}, {}]}, "INVALID_REQUEST", "liked[1].image_id"),
    "example's entity beyond": (
        {"text": "a", "disliked": [{"image_id": "p01", "entity": 9}]},
        "INVALID_REQUEST",
        "disliked[0].entity",
    ),
    "nothing wanted": ({"disliked": [{"image_id": "p01"}]}, "INVALID_REQUEST", "disliked"),
    "more placements than matches": (
        {"text": "a", "placements": [{}, {}]},
        "INVALID_REQUEST",
        "placements[1]",
    ),
    "part and box": (
        {"text": "a", "placements": [{"part": 1, "box": {"x1": 1, "y1": 1}}]},
        "INVALID_REQUEST",
        "placements[0].box",
    ),
    "placement in pixels": (
        {"text": "a", "placements": [{"box": {"x1": 60, "y1": 40}}]},
        "INVALID_REQUEST",
        "placements[0].box",
    ),
    "tolerance of 0": (
        {"text": "a", "placements": [{"part": 1, "tolerance": 0}]},
        "INVALID_REQUEST",
        "placements[0].tolerance",
    ),
    "areas crossed": (
        {"text": "a", "placements": [{"min_area": 0.5, "max_area": 0.4}]},
        "INVALID_REQUEST",
        "placements[0].max_area",
    ),
    "counts crossed": (
        {"text": "a", "placements": [{"min_count": 3, "max_count": 2}]},
        "INVALID_REQUEST",
        "placements[0].max_count",
    ),
    "least score above 1": ({"text": "a", "min_score": 1.5}, "INVALID_REQUEST", "min_score"),
    "least score no number": ({"text": "a", "min_score": float("nan")}, "INVALID_REQUEST", "min_score"),
    "no candidates": ({"text": "a", "candidates": 0}, "INVALID_REQUEST", "candidates"),
    "too many candidates": (
        {"text": "a", "candidates": LIMITS.candidates + 1},
        "INVALID_REQUEST",
        "candidates",
    ),
    "too many entities listed": ({"text": "a", "all_entities": 1025}, "INVALID_REQUEST", "all_entities"),
    "entities of several regions as hits": (
        {"image": png(4), "regions": [{"box": {"x1": 9, "y1": 9}}] * 2, "group_by": 2},
        "INVALID_REQUEST",
        "group_by",
    ),
    "unknown grouping": ({"text": "a", "group_by": 7}, "INVALID_REQUEST", "group_by"),
    "unknown preset": ({"text": "a", "preset": 7}, "INVALID_REQUEST", "preset"),
    "token of nowhere": ({"text": "a", "page_token": "abc"}, "INVALID_REQUEST", "page_token"),
    "filter that ends too soon": ({"text": "a", "filter": "entity.area >"}, "INVALID_FILTER", "filter"),
    "filter of no field": ({"text": "a", "filter": "entity.colour = 1"}, "INVALID_FILTER", "filter"),
    "self of words": ({"text": "a", "include_self": True}, "INVALID_REQUEST", "include_self"),
}


@pytest.mark.parametrize(("fields", "reason", "field"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_asked_is_refused_by_its_field(
    service: Service, filled: str, fields: dict[str, Any], reason: str, field: str
) -> None:
    refused = refusal_of(lambda: service.stubs.search.Search(pb.SearchRequest(collection=filled, **fields)))
    assert (refused.code, refused.reason, refused.field) == (INVALID, reason, field)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"liked": [{"image_id": "p01"}, {"image_id": "nobody"}]}, "liked[1].image_id"),
        ({"text": "a", "disliked": [{"image_id": "nobody"}]}, "disliked[0].image_id"),
        ({"image_id": "nobody"}, "image_id"),
    ],
)
def test_an_image_that_is_not_there_is_named_by_its_field(
    service: Service, filled: str, fields: dict[str, Any], field: str
) -> None:
    refused = refusal_of(lambda: service.stubs.search.Search(pb.SearchRequest(collection=filled, **fields)))
    assert (refused.code, refused.reason, refused.field) == (
        grpc.StatusCode.NOT_FOUND,
        "IMAGE_NOT_FOUND",
        field,
    )
    assert refused.resource == "nobody"


def test_limits_are_told_by_the_server(service: Service) -> None:
    told = service.client.server_info().limits
    for name in ("hits", "regions", "examples", "candidates", "batch_queries", "batch_images"):
        assert getattr(told, name) == getattr(LIMITS, name)


@pytest.mark.parametrize(
    ("said", "kind", "field"),
    [
        ({"regions": [Region(box=(0, 0, 9, 9)), Region(box=(1, 2, 3))]}, InvalidRegion, "regions[1].box"),
        ({"regions": [Region(mask=b"x"), Region()]}, InvalidRegion, "regions[1]"),
        ({"regions": Region(box=(0, 0, 9, 9))}, InvalidRequest, "regions"),
        ({"regions": [(0, 0, 9, 9)]}, InvalidRegion, "regions[0]"),
        ({"regions": [Region(box=(0, 0, 9, 9))], "box": (0, 0, 9, 9)}, InvalidRegion, "regions"),
        ({"regions": [Region(box=(0, 0, 9, 9))], "normalised": True}, InvalidRequest, "normalised"),
        ({"refine": True}, InvalidRequest, "refine"),
        ({"liked": "p01"}, InvalidRequest, "liked"),
        ({"liked": ["p01", 5]}, InvalidRequest, "liked[1]"),
        ({"disliked": [Example("p01", -1)]}, InvalidRequest, "disliked[0].entity"),
        ({"placements": Placement()}, InvalidRequest, "placements"),
        ({"placements": [Placement(part="middle")]}, InvalidRequest, "placements[0].part"),  # type: ignore[arg-type]
        ({"placements": [Placement(min_area="a")]}, InvalidRequest, "placements[0].min_area"),  # type: ignore[arg-type]
        ({"group_by": "thing"}, InvalidRequest, "group_by"),
        ({"preset": None}, InvalidRequest, "preset"),
        ({"min_score": "high"}, InvalidRequest, "min_score"),
        ({"candidates": -1}, InvalidRequest, "candidates"),
        ({"all_entities": 1.5}, InvalidRequest, "all_entities"),
        ({"entities": 3}, InvalidRequest, "entities"),
        ({"page_token": 3}, InvalidRequest, "page_token"),
        ({"region": Region(box=Box(0, 0, 0.5, 0.5), normalised=True)}, InvalidRegion, "region"),
        ({"points": None}, InvalidRequest, "points"),
        ({"regions": [Region(points=5)]}, InvalidRequest, "regions[0].points"),  # type: ignore[arg-type]
        ({"mask": [[0, 1], [1, 0]]}, InvalidRegion, "mask"),
        ({"box": (0, 0, 9, 9), "refine": "no"}, InvalidRequest, "refine"),
        ({"masks": None}, InvalidRequest, "masks"),
        ({"placements": [Placement(strict="no")]}, InvalidRequest, "placements[0].strict"),  # type: ignore[arg-type]
    ],
)
def test_what_the_contract_cannot_carry_is_refused_before_it_is_sent(
    service: Service, filled: str, said: dict[str, Any], kind: type[InvalidRequest], field: str
) -> None:
    with pytest.raises(kind) as caught:
        service.client.search(filled, image=png(4), **said)
    assert caught.value.field == field


def test_a_keyword_that_is_none_is_a_slip_of_the_program(service: Service, filled: str) -> None:
    with pytest.raises(TypeError, match="txet"):
        service.client.search(filled, txet="red")  # type: ignore[call-arg]
    with pytest.raises(InvalidRequest, match="text=") as caught:
        service.client.search(filled, "red")  # type: ignore[arg-type]
    assert caught.value.field == "query"
