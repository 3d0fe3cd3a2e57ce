"""What a client says is the query that the engine gets, whatever was said."""

from __future__ import annotations

import io
import re
from inspect import get_annotations
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PilImage
from served import LIMITS

from regionsearch.client import Example, Placement, Query, Region, query, search_requests
from regionsearch.config import Limits
from regionsearch.errors import InvalidRegion, InvalidRequest
from regionsearch.protobuf_shapes import prompt_to_message
from regionsearch.regions import FRAME_PARTS, Box, Mask, Point, Polygon, RegionPrompt
from regionsearch.search import query as asked
from regionsearch.search.placement import DEFAULT_TOLERANCE
from regionsearch.search.placement import Placement as WantedPlace
from regionsearch.serving import query_messages
from regionsearch.serving.query_messages import query_from_message
from regionsearch.serving.strictness import parse
from regionsearch.v1 import search_pb2 as pb
from regionsearch.v1 import types_pb2

WIDE = Limits()
TABLES: dict[str, tuple[Any, dict[Any, Any], dict[Any, Any], Any, tuple[str, ...]]] = {
    "GroupBy": (
        pb.GroupBy,
        query_messages.GROUPINGS,
        search_requests.GROUPINGS,
        query.GroupBy,
        asked.GROUPINGS,
    ),
    "Preset": (pb.Preset, query_messages.PRESETS, search_requests.PRESETS, query.Preset, asked.PRESETS),
    "FramePart": (
        pb.FramePart,
        query_messages.FRAME_PARTS,
        search_requests.FRAME_PARTS,
        query.FramePart,
        FRAME_PARTS,
    ),
    "RerankMethod": (
        pb.RerankMethod,
        query_messages.RERANK_METHODS,
        search_requests.RERANK_METHODS,
        query.RerankMethod,
        asked.RERANK_METHODS,
    ),
}


@pytest.mark.parametrize(("enum", "read", "written", "literal", "names"), TABLES.values(), ids=TABLES)
def test_client_contract_and_engine_have_the_same_names(
    enum: Any, read: dict[Any, Any], written: dict[Any, Any], literal: Any, names: tuple[str, ...]
) -> None:
    assert set(read) == set(enum.values())
    assert set(written) == set(get_args(literal)) == set(names)
    assert {name: read[value] for name, value in written.items()} == {name: name for name in names}
    # Each value of the contract says what it is called.
    prefix = re.sub(r"(?<!^)([A-Z])", r"_\1", enum.DESCRIPTOR.name).upper()
    assert {enum.Value(f"{prefix}_{name.upper()}"): name for name in names}.items() <= read.items()


def test_the_keywords_of_a_query_are_its_fields() -> None:
    keywords = {name: said.__forward_arg__ for name, said in get_annotations(query.QueryFields).items()}
    assert keywords == get_annotations(Query)


fractions = st.floats(0, 1)
counts = st.integers(0, 2**32 - 1)
texts = st.text(min_size=1, max_size=9)
boxes = st.tuples(*[st.floats(-1e5, 1e5)] * 2, *[st.floats(0.5, 1e4)] * 2).map(
    lambda said: Box(said[0], said[1], said[0] + said[2], said[1] + said[3])
)
points = st.builds(Point, st.floats(-1e5, 1e5), st.floats(-1e5, 1e5), st.booleans())
masks = st.integers(1, 9).map(lambda size: Mask.from_box(Box(0, 0, size, 1), 9, 10))
prompts = st.one_of(
    st.builds(lambda some, box: RegionPrompt(tuple(some), box=box), st.lists(points, max_size=2), boxes),
    st.builds(lambda some, mask: RegionPrompt(tuple(some), mask=mask), st.lists(points, max_size=2), masks),
    st.builds(lambda point: RegionPrompt((Point(point.x, point.y), point)), points),
    st.just(RegionPrompt(polygon=Polygon((((0, 0), (9, 0), (0, 9)),)))),
)
regions = st.builds(
    lambda prompt, normalised, refine: asked.QueryRegion(prompt, normalised and prompt.mask is None, refine),
    prompts,
    st.booleans(),
    st.booleans(),
)
examples = st.builds(asked.Example, texts, st.none() | counts)
placements = st.builds(
    WantedPlace,
    part=st.sampled_from(FRAME_PARTS),
    box=st.none() | boxes,
    tolerance=fractions,
    min_area=st.none() | fractions,
    max_area=st.none() | fractions,
    label=st.none() | texts,
    min_count=st.none() | counts,
    max_count=st.none() | counts,
    strict=st.booleans(),
)
queries = st.fixed_dictionaries(
    {},
    optional={
        "image_id": texts,
        "entities": st.lists(counts, max_size=3).map(tuple),
        "regions": st.lists(regions, max_size=3).map(tuple),
        "text": texts,
        "liked": st.lists(examples, max_size=3).map(tuple),
        "disliked": st.lists(examples, max_size=3).map(tuple),
        "placements": st.lists(placements, max_size=3).map(tuple),
        "where": texts,
        "limit": counts,
        "page_token": texts,
        "weights": st.dictionaries(texts, fractions, max_size=3),
        "per_kind_weights": st.booleans(),
        "group_by": st.sampled_from(asked.GROUPINGS),
        "min_score": fractions,
        "candidates": counts,
        "preset": st.sampled_from(asked.PRESETS),
        "all_entities": counts,
        "include_self": st.booleans(),
    },
)


def as_the_client_says_it(fields: dict[str, Any]) -> Query:
    said = dict(fields)
    said["regions"] = [
        Region(
            box=region.prompt.box,
            points=region.prompt.points,
            mask=region.prompt.mask,
            polygon=region.prompt.polygon,
            normalised=region.normalised,
            refine=region.refine,
        )
        for region in fields.get("regions", ())
    ]
    for name in ("liked", "disliked"):
        said[name] = [
            example.image_id if example.entity is None else Example(example.image_id, example.entity)
            for example in fields.get(name, ())
        ]
    said["placements"] = [
        Placement(
            part=place.part,
            box=place.box,
            tolerance=place.tolerance,
            min_area=place.min_area,
            max_area=place.max_area,
            label=place.label,
            min_count=place.min_count,
            max_count=place.max_count,
            strict=place.strict,
        )
        for place in fields.get("placements", ())
    ]
    return Query(**said)


def fields_of(received: asked.Query) -> dict[str, Any]:
    return dict(vars(received))


@given(queries)
def test_the_engine_gets_what_the_client_was_told(fields: dict[str, Any]) -> None:
    sent = search_requests.search("c", as_the_client_says_it(fields)).SerializeToString()
    received = query_from_message(parse(sent, pb.SearchRequest), LIMITS)
    assert fields_of(received) == fields_of(asked.Query(**fields))


def test_a_region_by_itself_is_the_only_one_of_a_list() -> None:
    box = (1.0, 2.0, 30.0, 20.0)
    alone = search_requests.search("c", Query(image=b"P", box=box, points=[(5, 5)], refine=True))
    listed = Query(image=b"P", regions=[Region(box=box, points=[(5, 5)], refine=True)])
    assert alone == search_requests.search("c", listed)
    prompt = RegionPrompt((Point(5, 5),), box=Box(*box))
    whole = search_requests.search("c", Query(image=b"P", region=prompt))
    assert whole == search_requests.search("c", Query(image=b"P", regions=[prompt]))


def test_what_is_not_said_is_not_sent() -> None:
    sent = search_requests.search("c", Query(text="t"))
    assert sent == pb.SearchRequest(collection="c", text="t", limit=10)


OLD_REQUESTS = {
    "picture": (
        "0a0666696c6c656452035049436a400802521251000000000000d03f59000000000000e03f521451000000000000e83f5900"
        "0000000000e03f60015a1261000000000000e03f69000000000000f03f720b696e2074686520736e6f77c00207ca02110a06"
        "676c6f62616c11000000000000e03f900301980301a00301e2030f5002c00209c902000000000000f83f",
        {
            "encoded_image": b"PIC",
            "regions": (
                asked.QueryRegion(
                    RegionPrompt((Point(0.25, 0.5), Point(0.75, 0.5, positive=False)), box=Box(0, 0, 0.5, 1)),
                    normalised=True,
                ),
            ),
            "text": "in the snow",
            "limit": 7,
            "weights": {"global": 0.5},
            "rerank": asked.Rerank("pairwise_instructed", 9, 1.5),
        },
    ),
    "indexed": (
        "0a0666696c6c65645a037030356001c0020cd00201",
        {"image_id": "p05", "entities": (1,), "include_self": True, "limit": 12},
    ),
}
"""Bytes written with the contract as it was when a query had one region."""


@pytest.mark.parametrize(("data", "fields"), OLD_REQUESTS.values(), ids=OLD_REQUESTS)
def test_a_request_of_an_earlier_client_means_what_it_meant(data: str, fields: dict[str, Any]) -> None:
    request = parse(bytes.fromhex(data), pb.SearchRequest)
    assert request.collection == "filled"
    assert fields_of(query_from_message(request, LIMITS)) == fields_of(asked.Query(**fields))
    left_out = {request.without_masks, request.without_payload, request.without_parts}
    assert left_out == {"encoded_image" in fields}


def test_a_vector_of_an_earlier_client_is_read_as_it_was() -> None:
    request = parse(bytes.fromhex("0a0666696c6c65647a0a5a080000803f000000c0"), pb.SearchRequest)
    vector = query_from_message(request, LIMITS).vector
    assert vector is not None
    assert np.array_equal(vector, np.array([1, -2], dtype=np.float32))


BOX = types_pb2.Box(x1=9, y1=9)
MALFORMED: dict[str, tuple[dict[str, Any], type[InvalidRequest], str]] = {
    "second mask that is no PNG": (
        {"regions": [{"box": BOX}, {"mask": {"png": b"GIF89a"}}]},
        InvalidRegion,
        "regions[1].mask.png",
    ),
    "third region empty": (
        {"regions": [{"box": BOX}, {"box": BOX}, {}]},
        InvalidRegion,
        "regions[2]",
    ),
    "too many regions": ({"regions": [{"box": BOX}] * 99}, InvalidRequest, "regions"),
    "entity and entities": ({"image_id": "a", "entity": 1, "entities": [2]}, InvalidRequest, "entities"),
    "empty box of a placement": (
        {"placements": [{}, {"box": {"x0": 1}}]},
        InvalidRegion,
        "placements[1].box",
    ),
    "points without end": (
        {"regions": [{"box": BOX}, {"points": [{}] * (query_messages.MAX_POINTS + 1)}]},
        InvalidRegion,
        "regions[1].points",
    ),
    "rings without end": (
        {"regions": [{"polygon": {"rings": [{"coordinates": [0, 0, 9, 0, 0, 9]}] * 257}}]},
        InvalidRegion,
        "regions[0].polygon",
    ),
    "corners without end": (
        {"regions": [{"polygon": {"rings": [{"coordinates": [0.0] * 10_002}] * 2}}]},
        InvalidRegion,
        "regions[0].polygon",
    ),
    "run lengths without end": (
        {"regions": [{"mask": {"run_length": {"height": 2000, "width": 2000, "counts": "1" * 1_000_001}}}]},
        InvalidRegion,
        "regions[0].mask",
    ),
    "one number without end": (
        {"regions": [{"mask": {"run_length": {"height": 9, "width": 9, "counts": "P" * 7_000_007}}}]},
        InvalidRegion,
        "regions[0].mask",
    ),
    "tolerance of nothing": ({"placements": [{"tolerance": 0.1}]}, InvalidRequest, "placements[0].tolerance"),
}


@pytest.mark.parametrize(("fields", "kind", "path"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_refused_by_the_path_of_its_field(
    fields: dict[str, Any], kind: type[InvalidRequest], path: str
) -> None:
    with pytest.raises(kind) as caught:
        query_from_message(pb.SearchRequest(**fields), LIMITS)
    assert caught.value.field == path


def test_a_mask_of_noise_is_refused_and_one_of_outlines_is_not() -> None:
    """A small file that draws a mask of so many runs that it would take minutes to search with."""
    rows = np.zeros((2000, 2000), dtype=bool)
    rows[::2] = True
    one_line = np.arange(2_000_002)[None] % 2 == 1
    for drawn in (rows, rows[:1000], one_line):
        request = pb.SearchRequest(regions=[{"mask": {"png": png_of(drawn)}}])
        assert len(request.regions[0].mask.png) < 10_000
        with pytest.raises(InvalidRegion, match=r"runs .*1000000") as caught:
            query_from_message(request, WIDE)
        assert caught.value.field == "regions[0].mask.png"
    rows[:, 999:] = False
    rows[1000:] = False
    request = pb.SearchRequest(regions=[{"mask": {"png": png_of(rows)}}])
    mask = query_from_message(request, WIDE).regions[0].prompt.mask
    assert mask == Mask.from_array(rows)
    coded = pb.SearchRequest(regions=[prompt_to_message(RegionPrompt(mask=mask))])
    assert query_from_message(coded, WIDE).regions[0].prompt.mask == mask


def png_of(pixels: np.ndarray) -> bytes:
    target = io.BytesIO()
    PilImage.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (pb.SearchRequest(group_by=9), "group_by"),  # type: ignore[arg-type]
        (pb.SearchRequest(preset=9), "preset"),  # type: ignore[arg-type]
        (
            pb.SearchRequest(placements=[pb.Placement(), pb.Placement(part=99)]),  # type: ignore[arg-type]
            "placements[1].part",
        ),
    ],
    ids=["group_by", "preset", "part"],
)
def test_a_value_that_is_none_of_the_contract_is_refused_by_name(
    request_: pb.SearchRequest, path: str
) -> None:
    with pytest.raises(InvalidRequest, match="none of") as caught:
        parse(request_.SerializeToString(), pb.SearchRequest)
    assert caught.value.field == path


def test_tolerance_not_said_is_the_engines_own() -> None:
    [place] = query_from_message(pb.SearchRequest(placements=[{"part": 1}]), LIMITS).placements
    assert place.tolerance == DEFAULT_TOLERANCE
