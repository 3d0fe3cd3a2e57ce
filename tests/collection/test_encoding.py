"""Records encoded many at a time are what each is by itself, and one that does not fit is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_images import HEIGHT, WIDTH, assert_same_image, record, spec

from regionsearch.collection import ImageRecord
from regionsearch.collection.encoding import columns_of, encode_records
from regionsearch.collection.record_layout import decode
from regionsearch.collection.segments.entity_columns import EntityColumns
from regionsearch.collection.validation import check_payload, check_record
from regionsearch.entities import Entities
from regionsearch.errors import DataLoss, InvalidRecord
from regionsearch.regions import Mask

SPEC = spec(pixels="original")
KEY = b"row 12345678"


def tall_image(random: np.random.Generator) -> ImageRecord:
    """One with runs of more than 65,535 pixels, which are kept apart."""
    height, width = 700, 400
    pixels = np.zeros((height, width), bool)
    pixels[5, 100:110] = True
    masks = [Mask.from_array(pixels), Mask.full(height, width)]
    entities = Entities.from_masks(masks, np.ones(2, np.float32))
    return replace(record(random, "tall", entities=2), width=width, height=height, entities=entities)


def test_records_of_one_call_come_back_as_each_was_given() -> None:
    random = np.random.default_rng(0)
    records = [record(random, f"{number}", pixels=random.bytes(9)) for number in range(20)]
    records[7] = tall_image(random)
    records[9] = replace(records[9], vectors=np.asfortranarray(records[9].vectors), payload={})
    together = encode_records(records, SPEC)
    for image, each in zip(records, together, strict=True):
        (alone,) = encode_records([image], SPEC)
        assert alone.value == each.value
        assert each.pixels == image.pixels
        np.testing.assert_array_equal(each.vectors, image.vectors)
        value = bytes(each.numbered(KEY, 77, 5, 1_000_000))
        stored = decode(value, KEY)
        assert_same_image(stored, image)
        assert (stored.number, stored.version, stored.updated) == (77, 5, "1970-01-01T00:00:01.000000Z")
    for image, columns in zip(records, columns_of(records), strict=True):
        expected = EntityColumns.of(image.entities, image.width, image.height)
        for name in ("areas", "objectness", "boxes", "labels", "sources"):
            np.testing.assert_array_equal(getattr(columns, name), getattr(expected, name))
        assert columns.label_table == expected.label_table
    assert encode_records([], SPEC) == []


def scaled(factor: float) -> Callable[[ImageRecord], ImageRecord]:
    def change(given: ImageRecord) -> ImageRecord:
        vectors = given.vectors.copy()
        vectors[-1] *= np.float32(factor)
        return replace(given, vectors=vectors)

    return change


def with_value(value: float) -> Callable[[ImageRecord], ImageRecord]:
    def change(given: ImageRecord) -> ImageRecord:
        vectors = given.vectors.copy()
        vectors[-1, 3] = value
        return replace(given, vectors=vectors)

    return change


def with_tampered_mask(given: ImageRecord) -> ImageRecord:
    mask = Mask.full(HEIGHT, WIDTH)
    object.__setattr__(mask, "counts", np.array([0, HEIGHT * WIDTH - 1], np.uint32))
    return replace(given, entities=replace(given.entities, masks=(mask, *given.entities.masks[1:])))


WRONG: dict[str, Callable[[ImageRecord], ImageRecord]] = {
    "vectors": with_value(float("nan")),
    "vectors ": with_value(float("inf")),
    "vectors[": scaled(1.0011),
    "vectors[ ": scaled(0.9989),
    "vectors[  ": scaled(1e20),
    "entities[0].mask": with_tampered_mask,
    "payload": lambda given: replace(given, payload={"x": float("inf")}),
    "payload ": lambda given: replace(given, payload={"x": {1: 2}}),
    "payload  ": lambda given: replace(given, payload={"x": "\ud800"}),
    "width": lambda given: replace(given, width=0),
}


@pytest.mark.parametrize("field", list(WRONG))
def test_one_record_of_many_that_does_not_fit_is_named(field: str) -> None:
    random = np.random.default_rng(0)
    records = [record(random, f"image {number}", entities=2) for number in range(9)]
    records[4] = WRONG[field](records[4])
    with pytest.raises(InvalidRecord, match="'image 4'") as refused:
        encode_records(records, SPEC)
    assert refused.value.field is not None
    assert refused.value.field.startswith(field.strip())
    with pytest.raises(InvalidRecord) as alone:
        check_record(records[4], SPEC)
    assert alone.value.message == refused.value.message


@pytest.mark.parametrize("factor", [0.9991, 0.99905, 1.0, 1.00095])
def test_vectors_within_the_tolerance_are_taken(factor: float) -> None:
    given = scaled(factor)(record(np.random.default_rng(0), "a", entities=2))
    check_record(given, SPEC)
    assert len(encode_records([given], SPEC)) == 1


odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=3)
    | st.binary(max_size=1)
    | st.just({1}),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 3), inner, max_size=2)
    ),
    max_leaves=5,
)


def is_json(value: Any) -> bool:
    """The oracle: what JSON has, by its definition."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_text(key) and is_json(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_json, value))
    if isinstance(value, str):
        return is_text(value)
    if isinstance(value, float):
        return bool(np.isfinite(value))
    return value is None or isinstance(value, int)


def is_text(value: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in value)


@settings(max_examples=100)
@given(payload=st.dictionaries(st.text(st.characters(codec=None), max_size=2), odd, max_size=3))
def test_a_payload_is_taken_exactly_when_it_is_json(payload: dict[str, Any]) -> None:
    if is_json(payload):
        check_payload("a", payload)
    else:
        with pytest.raises(InvalidRecord, match="payload"):
            check_payload("a", payload)


def test_a_record_that_changes_in_memory_is_not_written() -> None:
    (each,) = encode_records([record(np.random.default_rng(0), "a")], SPEC)
    each.value[500] ^= 1
    with pytest.raises(DataLoss, match="'a' changed in memory"):
        each.numbered(KEY, 1, 1, 1)
