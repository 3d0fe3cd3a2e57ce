from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from regionsearch.errors import InvalidRegion, InvalidRequest
from regionsearch.protobuf_shapes import (
    at_field,
    box_from_message,
    mask_from_message,
    mask_to_message,
    points_from_message,
    polygon_from_message,
    prompt_to_message,
    vector_from_message,
    vector_to_message,
)
from regionsearch.regions import Box, Mask, Point, Polygon, RegionPrompt
from regionsearch.v1 import types_pb2 as pb

numbers = st.floats(-1e6, 1e6)
points = st.builds(Point, numbers, numbers, st.booleans())
boxes = st.tuples(numbers, numbers, st.floats(0.5, 1e5), st.floats(0.5, 1e5)).map(
    lambda b: Box(b[0], b[1], b[0] + b[2], b[1] + b[3])
)
rings = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=6).map(tuple)
polygons = st.lists(rings, min_size=1, max_size=3).map(lambda found: Polygon(tuple(found)))
masks = arrays.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))).map(Mask.from_array)
prompts = st.one_of(
    st.builds(lambda p, b: RegionPrompt(tuple(p), box=b), st.lists(points), boxes),
    st.builds(lambda p, m: RegionPrompt(tuple(p), mask=m), st.lists(points), masks),
    st.builds(lambda p, q: RegionPrompt(tuple(p), polygon=q), st.lists(points), polygons),
    st.builds(lambda p: RegionPrompt((Point(1, 2), *p)), st.lists(points)),
)


@given(prompts, st.booleans())
def test_a_region_comes_back_from_the_wire_as_it_was(prompt: RegionPrompt, normalised: bool) -> None:
    sent = prompt_to_message(prompt, normalised=normalised)
    message = pb.Region.FromString(sent.SerializeToString())
    assert (message.coordinates == pb.COORDINATE_SPACE_NORMALISED) == normalised
    received = RegionPrompt(
        points=points_from_message(message),
        box=box_from_message(message.box) if message.HasField("box") else None,
        mask=mask_from_message(message.mask.run_length) if message.HasField("mask") else None,
        polygon=polygon_from_message(message.polygon) if message.HasField("polygon") else None,
    )
    assert received == prompt


@given(masks)
def test_a_mask_travels_as_cocos_runs(mask: Mask) -> None:
    message = mask_to_message(mask)
    assert message.run_length.counts == mask.to_coco()["counts"]
    assert mask_from_message(message.run_length) == mask


@given(
    arrays.arrays(
        np.float32, st.integers(1, 40), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
    ),
    st.sampled_from([pb.VECTOR_FORM_UNSPECIFIED, pb.VECTOR_FORM_PACKED, pb.VECTOR_FORM_VALUES]),
)
def test_a_vector_keeps_every_bit_in_both_forms(vector: np.ndarray, form: pb.VectorForm) -> None:
    message = pb.Vector.FromString(vector_to_message(vector, form).SerializeToString())
    assert vector_from_message(message).tobytes() == vector.tobytes()


def test_packed_vectors_are_little_endian() -> None:
    assert vector_to_message(np.array([1.0, -2.0], dtype=">f4")).packed == b"\0\0\x80?\0\0\0\xc0"


@pytest.mark.parametrize(
    "message",
    [
        pb.Vector(),
        pb.Vector(values=[1], packed=b"\0\0\x80?"),
        pb.Vector(packed=b"\0\0\x80"),
        pb.Vector(values=[float("inf")]),
        pb.Vector(packed=b"\0\0\xc0\x7f"),
    ],
)
def test_what_is_no_vector_is_refused(message: pb.Vector) -> None:
    with pytest.raises(InvalidRequest):
        vector_from_message(message)


def test_errors_name_the_whole_path_of_their_field() -> None:
    ring = pb.Ring(coordinates=[1, 2, 3])
    with pytest.raises(InvalidRegion) as caught, at_field("regions[0]"), at_field("polygon"):
        polygon_from_message(pb.Polygon(rings=[ring]))
    assert caught.value.field == "regions[0].polygon.rings[0].coordinates"
    with pytest.raises(InvalidRegion) as caught, at_field("regions[0]"), at_field("box"):
        box_from_message(pb.Box())
    assert caught.value.field == "regions[0].box"
