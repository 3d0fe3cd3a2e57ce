"""Filters over stored images answer as their definition does of each (image, entity)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_images import HEIGHT, WIDTH, record, spec
from written_filters import KEYS, expressions, payloads, written

from regionsearch.collection import Collection, DataDirectory, ImageRecord
from regionsearch.collection.records import FieldKind, IndexedField
from regionsearch.filters import Expression, Membership, Not
from regionsearch.filters.expression import Field
from regionsearch.filters.meaning import EntityFacts, ImageFacts, holds
from regionsearch.filters.timestamps import instant_of

_names = count()
KINDS: tuple[FieldKind, ...] = ("number", "string", "boolean", "timestamp")


def image_facts(image: ImageRecord) -> ImageFacts:
    updated = instant_of(image.updated)
    assert updated is not None
    return ImageFacts(
        id=image.image_id,
        width=image.width,
        height=image.height,
        entities=len(image.entities),
        version=image.version,
        updated=updated,
        content_hash=image.content_hash,
        payload=image.payload,
    )


def entity_facts(image: ImageRecord, index: int) -> EntityFacts:
    entities = image.entities
    left, top, right, bottom = entities.boxes[index] / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)
    return EntityFacts(
        index=index,
        label=entities.labels[index],
        label_source=entities.label_sources[index],
        area=entities.areas[index],
        objectness=entities.objectness[index],
        left=left,
        top=top,
        right=right,
        bottom=bottom,
    )


def assert_agrees(collection: Collection, expression: Expression) -> None:
    """One filter against all that is stored."""
    images = [collection.get(image_id) for image_id in collection.image_ids()]
    images.sort(key=lambda image: image.number)
    expected = {
        image.number: [
            holds(expression, image_facts(image), entity_facts(image, index))
            for index in range(len(image.entities))
        ]
        for image in images
    }
    matching = collection.matching(written(expression))
    assert matching.image_numbers().tolist() == [number for number, each in expected.items() if any(each)]
    assert matching.image_count == sum(any(each) for each in expected.values())
    assert matching.entity_count == sum(map(sum, expected.values()))
    mask = matching.entity_mask(list(expected), [len(each) for each in expected.values()])
    assert mask.tolist() == [each for image in expected.values() for each in image]


def indexed(random: np.random.Generator) -> tuple[IndexedField, ...]:
    """Half of the keys, and some below them, of kinds that fit their values or do not."""
    paths = [str(Field("payload", (key,))) for key in KEYS if random.random() < 0.5]
    paths += [str(Field("payload", ("a", key))) for key in KEYS if random.random() < 0.3]
    return tuple(
        IndexedField(path.removeprefix("payload."), KINDS[random.integers(len(KINDS))]) for path in paths
    )


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path / "data", "write") as opened:
        yield opened


SEEDS = st.integers(0, 2**32)
MANY = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@MANY
@given(st.lists(payloads, min_size=1, max_size=6), st.lists(expressions, min_size=3, max_size=8), SEEDS)
def test_any_filter_over_any_payloads_holds_of_what_its_definition_says(
    directory: DataDirectory, given_payloads: list[dict[str, Any]], filters: list[Expression], seed: int
) -> None:
    random = np.random.default_rng(seed)
    collection = directory.create_collection(spec(f"photos{next(_names)}", indexed_fields=indexed(random)))
    try:
        collection.upsert(
            [record(random, f"{place}.jpg", payload=each) for place, each in enumerate(given_payloads)]
        )
        for expression in filters:
            assert_agrees(collection, expression)
    finally:
        directory.drop_collection(collection.spec.name)


def test_a_list_of_fractions_is_rounded_as_a_single_one_is(directory: DataDirectory) -> None:
    """No float32 equals 0.1 or 0.3 in double precision: IN must mean what = means."""
    random = np.random.default_rng(2)
    collection = directory.create_collection(spec(f"photos{next(_names)}"))
    for place in range(4):
        image = record(random, f"{place}.jpg", entities=3)
        seen = np.array([0.1, 0.3, place / 7], np.float32)
        collection.upsert(
            [dataclasses.replace(image, entities=dataclasses.replace(image.entities, objectness=seen))]
        )
    objectness = Field("entity", ("objectness",))
    for values in [(0.1,), (0.3, 5), (1 / 7, 2 / 7, 0.1)]:
        assert_agrees(collection, Membership(objectness, values))
        assert_agrees(collection, Not(Membership(objectness, values)))
    assert collection.count("entity.objectness IN (0.1, 0.3)").entities == 8


@settings(MANY, max_examples=12)
@given(st.data(), SEEDS)
def test_filters_follow_every_write(directory: DataDirectory, data: st.DataObject, seed: int) -> None:
    random = np.random.default_rng(seed)
    collection = directory.create_collection(spec(f"photos{next(_names)}", indexed_fields=indexed(random)))
    ids = [f"{place}.jpg" for place in range(4)]
    filters = data.draw(st.lists(expressions, min_size=2, max_size=4))
    try:
        for _ in range(6):
            some = ids[random.integers(len(ids))]
            kind = random.integers(4)
            if kind == 0:
                collection.delete([some])
            elif kind == 1 and collection.contains(some):
                collection.update_payload(some, data.draw(payloads), merge=bool(random.integers(2)))
            else:
                collection.upsert([record(random, some, payload=data.draw(payloads))])
            for expression in filters:
                assert_agrees(collection, expression)
    finally:
        directory.drop_collection(collection.spec.name)
