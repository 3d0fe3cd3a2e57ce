from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image as PilImage
from served import LIMITS, Service, png, refusal_of

from regionsearch.protobuf_shapes import mask_to_message
from regionsearch.regions import Box, Mask, Point, Polygon
from regionsearch.v1 import search_pb2 as pb
from regionsearch.v1 import types_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NAN = float("nan")


def region(**fields: Any) -> types_pb2.Region:
    return types_pb2.Region(**fields)


def box(x0: float, y0: float, x1: float, y1: float) -> types_pb2.Box:
    return types_pb2.Box(x0=x0, y0=y0, x1=x1, y1=y1)


def mask_png(mask: Mask) -> bytes:
    target = io.BytesIO()
    PilImage.fromarray(mask.to_array().astype(np.uint8) * 255).save(target, "PNG")
    return target.getvalue()


def cut_out_png(mask: Mask) -> bytes:
    """White throughout, and transparent but for the mask."""
    alpha = mask.to_array().astype(np.uint8) * 255
    target = io.BytesIO()
    PilImage.fromarray(np.stack([np.full_like(alpha, 255), alpha], axis=2)).save(target, "PNG")
    return target.getvalue()


RIGHT = Mask.from_box(Box(30, 0, 60, 40), 40, 60)


def test_a_picture_finds_itself_first_with_exactly_as_many_hits_as_asked(
    service: Service, filled: str
) -> None:
    answer = service.client.search(filled, image=png(4), limit=5)
    assert len(answer.hits) == 5
    assert answer.hits[0].image_id == "p04"
    assert answer.collection == filled
    assert answer.regions == ()
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert set(answer.hits[0].parts) == {"entity", "global", "objectness"}


def test_a_hit_brings_its_entity_payload_and_parts(service: Service, filled: str) -> None:
    [hit] = service.client.search(filled, image=png(4), text="words", limit=1).hits
    stored = service.client.get_image(filled, hit.image_id, entities=True, masks=True)
    assert hit.entity == stored.entities[hit.entity.index]
    assert hit.payload == stored.payload
    assert (hit.width, hit.height) == (60, 40)
    assert set(hit.parts) == {"entity", "global", "text_entity", "text_image", "objectness"}


def test_what_is_left_out_is_absent_and_the_hits_stay_the_same(service: Service, filled: str) -> None:
    query: dict[str, Any] = {"image": png(4), "box": (0, 0, 30, 40), "limit": 4}
    full = service.client.search(filled, **query)
    lean = service.client.search(filled, **query, masks=False, payload=False, parts=False)
    assert [(hit.image_id, hit.score) for hit in lean.hits] == [
        (hit.image_id, hit.score) for hit in full.hits
    ]
    assert all(hit.entity.mask is None and hit.payload is None and hit.parts == {} for hit in lean.hits)
    assert (lean.regions[0].mask, lean.regions[0].box) == (None, full.regions[0].box)


@pytest.mark.parametrize(
    "said",
    [
        {"box": (30, 0, 60, 40)},
        {"box": Box(0.5, 0, 1, 1), "normalised": True},
        {"mask": RIGHT},
        {"mask": RIGHT.to_array()},
        {"mask": mask_png(RIGHT)},
        {"mask": cut_out_png(RIGHT)},
        {"polygon": [(30, 0), (60, 0), (60, 40), (30, 40)]},
        {"polygon": Polygon((((0.5, 0), (1, 0), (1, 1), (0.5, 1)),)), "normalised": True},
    ],
    ids=["box", "normalised box", "mask", "array", "png", "transparent png", "polygon", "normalised polygon"],
)
def test_one_region_said_in_different_ways_gives_one_answer(
    service: Service, filled: str, said: dict[str, Any]
) -> None:
    expected = service.client.search(filled, image=png(7), box=(30, 0, 60, 40), limit=12)
    answer = service.client.search(filled, image=png(7), limit=12, **said)
    assert answer.hits == expected.hits
    [used] = answer.regions
    assert used.mask == RIGHT
    assert used.box == Box(30, 0, 60, 40)
    assert used.area == pytest.approx(0.5)


def test_points_belong_to_the_region_and_come_back_with_it(service: Service, filled: str) -> None:
    points = [(40, 20), (5, 5, 0)]
    [used] = service.client.search(filled, image=png(7), box=(30, 0, 60, 40), points=points).regions
    assert used.prompt is not None
    assert used.prompt.points == (Point(40, 20), Point(5, 5, positive=False))
    assert used.prompt.box == Box(30, 0, 60, 40)


def test_an_indexed_image_is_not_among_its_own_hits_unless_asked(service: Service, filled: str) -> None:
    others = service.client.search(filled, image_id="p05", entity=1, limit=12)
    assert len(others.hits) == 11
    assert "p05" not in [hit.image_id for hit in others.hits]
    everyone = service.client.search(filled, image_id="p05", entity=1, limit=12, include_self=True)
    assert everyone.hits[0].image_id == "p05"
    assert everyone.hits[0].entity.index == 1


def test_a_vector_is_the_same_query_in_both_its_forms(service: Service, filled: str) -> None:
    vector = service.client.get_image(filled, "p02", vectors=True).vectors[0]
    answers = [
        service.stubs.search.Search(pb.SearchRequest(collection=filled, vector=message, limit=12))
        for message in (
            types_pb2.Vector(values=vector.tolist()),
            types_pb2.Vector(packed=vector.astype("<f4").tobytes()),
        )
    ]
    assert answers[0].hits[0].image_id == "p02"
    assert list(answers[0].hits) == list(answers[1].hits)


def test_weights_by_part_name_change_the_order(service: Service, filled: str) -> None:
    query: dict[str, Any] = {"image": png(3), "text": "something else", "limit": 12}
    pixels = service.client.search(filled, **query, weights={"text_entity": 0, "text_image": 0})
    words = service.client.search(filled, **query, weights={"entity": 0, "global": 0})
    only_words = service.client.search(filled, text="something else", limit=12)
    assert pixels.hits[0].image_id == "p03"
    assert [hit.image_id for hit in words.hits] == [hit.image_id for hit in only_words.hits]
    assert words.hits[0].parts["entity"].weight == 0


def test_the_answer_says_where_the_time_went(service: Service, filled: str) -> None:
    timing = service.client.search(filled, image=png(3), box=(0, 0, 20, 20)).timing_ms
    assert set(timing) == {
        "decode",
        "segment",
        "encode",
        "entity_arm",
        "global_arm",
        "fetch",
        "joint",
        "rerank",
        "serialise",
    }
    assert all(timing[stage] > 0 for stage in ("decode", "encode", "serialise"))


def test_an_empty_collection_has_no_hits(service: Service, collection: str) -> None:
    assert service.client.search(collection, text="anything").hits == ()


PICTURE = png(0)
BAD_QUERIES: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "nothing": ({}, "INVALID_REQUEST", "query"),
    "two sources": ({"image": PICTURE, "image_id": "p01"}, "INVALID_REQUEST", "image_id"),
    "picture and vector": (
        {"image": PICTURE, "vector": types_pb2.Vector(values=[1.0])},
        "INVALID_REQUEST",
        "vector",
    ),
    "text and vector": ({"text": "a", "vector": types_pb2.Vector(values=[1.0])}, "INVALID_REQUEST", "vector"),
    "empty image": ({"image": b""}, "INVALID_REQUEST", "image"),
    "corrupt image": ({"image": b"junk"}, "INVALID_IMAGE", "image"),
    "truncated image": ({"image": PICTURE[:100]}, "INVALID_IMAGE", "image"),
    "huge image": ({"image": png(0, 1200, 900)[:150_000]}, "INVALID_IMAGE", "image"),
    "heavy image": ({"image": b"x" * (LIMITS.image_bytes + 1)}, "INVALID_REQUEST", "image"),
    "empty id": ({"image_id": ""}, "INVALID_REQUEST", "image_id"),
    "entity without image_id": ({"text": "a", "entity": 0}, "INVALID_REQUEST", "entity"),
    "entity of a picture": ({"image": PICTURE, "entity": 0}, "INVALID_REQUEST", "entity"),
    "entity beyond": ({"image_id": "p01", "entity": 4_000_000_000}, "INVALID_REQUEST", "entity"),
    "self of a picture": ({"image": PICTURE, "include_self": True}, "INVALID_REQUEST", "include_self"),
    "empty text": ({"text": ""}, "INVALID_REQUEST", "text"),
    "blank text": ({"text": " \n\t"}, "INVALID_REQUEST", "text"),
    "long text": ({"text": "é" * 100_000}, "INVALID_REQUEST", "text"),
    "limit 0": ({"text": "a", "limit": 0}, "INVALID_REQUEST", "limit"),
    "limit beyond": ({"text": "a", "limit": LIMITS.hits + 1}, "INVALID_REQUEST", "limit"),
    "unknown part": ({"text": "a", "weights": {"colour": 1}}, "INVALID_REQUEST", "weights[colour]"),
    "negative weight": ({"text": "a", "weights": {"entity": -1}}, "INVALID_REQUEST", "weights[entity]"),
    "weight not a number": ({"text": "a", "weights": {"entity": NAN}}, "INVALID_REQUEST", "weights[entity]"),
    "no weight left": (
        {"text": "a", "weights": {"text_entity": 0, "text_image": 0}},
        "INVALID_REQUEST",
        "weights",
    ),
    "vector in both forms": (
        {"vector": types_pb2.Vector(values=[1.0], packed=b"\0\0\x80?")},
        "INVALID_REQUEST",
        "vector",
    ),
    "empty vector": ({"vector": types_pb2.Vector()}, "INVALID_REQUEST", "vector"),
    "torn vector": ({"vector": types_pb2.Vector(packed=b"abcde")}, "INVALID_REQUEST", "vector.packed"),
    "short vector": ({"vector": types_pb2.Vector(values=[1.0, 2.0])}, "INVALID_REQUEST", "vector"),
    "vector not finite": ({"vector": types_pb2.Vector(values=[NAN] * 8)}, "INVALID_REQUEST", "vector"),
    "region without image": (
        {"text": "a", "regions": [region(box=box(0, 0, 9, 9))]},
        "INVALID_REQUEST",
        "regions",
    ),
    "region of an indexed image": (
        {"image_id": "p01", "regions": [region(box=box(0, 0, 9, 9))]},
        "INVALID_REQUEST",
        "regions",
    ),
}
BAD_REGIONS: dict[str, tuple[types_pb2.Region, str]] = {
    "empty": (region(), "regions[0]"),
    "only negative points": (
        region(points=[types_pb2.Point(x=1, y=1, negative=True)]),
        "regions[0]",
    ),
    "box and mask": (
        region(box=box(0, 0, 9, 9), mask=mask_to_message(RIGHT)),
        "regions[0].mask",
    ),
    "box outside": (region(box=box(100, 100, 120, 120)), "regions[0]"),
    "box empty": (region(box=box(9, 0, 9, 9)), "regions[0].box"),
    "box not finite": (region(box=box(0, 0, NAN, 9)), "regions[0].box"),
    "box without numbers": (region(box=types_pb2.Box()), "regions[0].box"),
    "point outside": (region(points=[types_pb2.Point(x=60, y=1)]), "regions[0]"),
    "point not finite": (
        region(points=[types_pb2.Point(x=1, y=1), types_pb2.Point(x=NAN, y=1)]),
        "regions[0].points[1]",
    ),
    "normalised beyond 1": (
        region(box=box(0, 0, 30, 40), coordinates=types_pb2.COORDINATE_SPACE_NORMALISED),
        "regions[0]",
    ),
    "normalised mask": (
        region(mask=mask_to_message(RIGHT), coordinates=types_pb2.COORDINATE_SPACE_NORMALISED),
        "regions[0].coordinates",
    ),
    "unknown coordinates": (region(box=box(0, 0, 9, 9), coordinates=9), "regions[0].coordinates"),
    "mask of another size": (region(mask=mask_to_message(Mask.full(10, 10))), "regions[0]"),
    "mask in no form": (region(mask=types_pb2.Mask()), "regions[0].mask"),
    "mask in both forms": (
        region(mask=types_pb2.Mask(run_length=mask_to_message(RIGHT).run_length, png=mask_png(RIGHT))),
        "regions[0].mask",
    ),
    "mask of bad runs": (
        region(mask=types_pb2.Mask(run_length=types_pb2.RunLength(height=40, width=60, counts="!?"))),
        "regions[0].mask",
    ),
    "mask beyond memory": (
        region(
            mask=types_pb2.Mask(run_length=types_pb2.RunLength(height=2**32 - 1, width=2**32 - 1, counts="0"))
        ),
        "regions[0].mask",
    ),
    "mask that is no PNG": (region(mask=types_pb2.Mask(png=b"GIF89a")), "regions[0].mask.png"),
    "polygon without rings": (region(polygon=types_pb2.Polygon()), "regions[0].polygon"),
    "polygon of two corners": (
        region(polygon=types_pb2.Polygon(rings=[types_pb2.Ring(coordinates=[1, 1, 2, 2])])),
        "regions[0].polygon",
    ),
    "polygon with half a corner": (
        region(polygon=types_pb2.Polygon(rings=[types_pb2.Ring(coordinates=[1, 1, 2, 2, 3])])),
        "regions[0].polygon.rings[0].coordinates",
    ),
    "polygon outside": (
        region(polygon=types_pb2.Polygon(rings=[types_pb2.Ring(coordinates=[90, 90, 99, 90, 99, 99])])),
        "regions[0]",
    ),
}


@pytest.mark.parametrize(("fields", "reason", "field"), BAD_QUERIES.values(), ids=BAD_QUERIES)
def test_a_query_that_says_nothing_too_much_or_two_things_is_refused(
    service: Service, filled: str, fields: dict[str, Any], reason: str, field: str | None
) -> None:
    refused = refusal_of(lambda: service.stubs.search.Search(pb.SearchRequest(collection=filled, **fields)))
    assert (refused.code, refused.reason, refused.field) == (INVALID, reason, field)


@pytest.mark.parametrize(("said", "field"), BAD_REGIONS.values(), ids=BAD_REGIONS)
def test_a_region_that_cannot_be_in_its_image_is_refused(
    service: Service, filled: str, said: types_pb2.Region, field: str
) -> None:
    request = pb.SearchRequest(collection=filled, image=PICTURE, regions=[said])
    refused = refusal_of(lambda: service.stubs.search.Search(request))
    assert (refused.code, refused.field) == (INVALID, field)


@pytest.mark.parametrize(
    ("fields", "code", "reason", "field"),
    [
        ({"text": "a"}, INVALID, "INVALID_REQUEST", "collection"),
        (
            {"collection": "nowhere", "text": "a"},
            grpc.StatusCode.NOT_FOUND,
            "COLLECTION_NOT_FOUND",
            "collection",
        ),
        (
            {"collection": "filled", "image_id": "x" * 100_000},
            grpc.StatusCode.NOT_FOUND,
            "IMAGE_NOT_FOUND",
            "image_id",
        ),
    ],
)
def test_a_search_for_what_is_not_there_says_so(
    service: Service,
    filled: str,
    fields: dict[str, Any],
    code: grpc.StatusCode,
    reason: str,
    field: str | None,
) -> None:
    refused = refusal_of(lambda: service.stubs.search.Search(pb.SearchRequest(**fields)))
    assert (refused.code, refused.reason, refused.field) == (code, reason, field)


def test_searches_beside_uploads_answer_and_see_acknowledged_writes(
    service: Service, collection: str
) -> None:
    def upload_and_look(writer: int) -> None:
        for number in range(3):
            ids = [f"w{writer}-{number}-{entry}" for entry in range(3)]
            pictures = [png(1000 * writer + 10 * number + entry) for entry in range(3)]
            service.client.upsert(collection, pictures, ids=ids)
            found = service.client.search(collection, image=pictures[0], limit=50)
            assert set(ids) <= {hit.image_id for hit in found.hits}

    def search(number: int) -> None:
        for _ in range(10):
            answer = service.client.search(collection, text=f"query {number}", limit=50)
            assert len({hit.image_id for hit in answer.hits}) == len(answer.hits)

    with ThreadPoolExecutor(8) as pool:
        tasks = [pool.submit(upload_and_look, writer) for writer in range(4)]
        tasks += [pool.submit(search, number) for number in range(4)]
        for task in tasks:
            task.result()
    assert service.client.get_collection(collection).images == 36
