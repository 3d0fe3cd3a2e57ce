"""Whole searches, whatever is asked, against scoring every image in loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from brute_force import (
    DIMENSION,
    EMBEDDER,
    LABELS,
    MODELS,
    SEGMENTER,
    Expected,
    about_place,
    all_records,
    counts_softly,
    expected_of,
    may_match,
    plain_scoring,
    random_record,
    unit_vectors,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from regionsearch.collection import Collection, DataDirectory, ImageRecord
from regionsearch.collection.records import IndexedField
from regionsearch.ingest import collection_spec
from regionsearch.regions import FRAME_PARTS, Box
from regionsearch.search import Answer, Example, Placement, Query, SearchEngine
from regionsearch.search.background import CollectionBackground
from regionsearch.search.feedback import moved
from regionsearch.search.joint_scoring import JointQuestion
from regionsearch.search.query import PRESETS

IMAGES = 50
IDS = [f"{number:03}" for number in range(IMAGES)]


class World:
    """A collection, an engine, and what an oracle needs of them."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.engine = SearchEngine(MODELS, scoring=plain_scoring())
        self.engine.prepare(collection)
        stored = collection.background()
        assert stored is not None
        self.background = CollectionBackground.from_json(stored).signals
        self.records = all_records(collection)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with DataDirectory(tmp_path_factory.mktemp("world") / "data", "write") as directory:
        spec = replace(
            collection_spec("world", EMBEDDER, SEGMENTER), indexed_fields=(IndexedField("year", "number"),)
        )
        collection = directory.create_collection(spec)
        generator = np.random.default_rng(11)
        collection.upsert([random_record(generator, image_id) for image_id in IDS])
        yield World(collection)


Meets = Callable[[ImageRecord, int], bool]
LEAVES: dict[str, Meets] = {
    "payload.year >= 2010": lambda record, entity: record.payload["year"] >= 2010,
    "payload.year < 2001": lambda record, entity: record.payload["year"] < 2001,
    'payload.colour = "red"': lambda record, entity: record.payload.get("colour") == "red",
    'payload.colour IN ("red", "blue")': lambda record, entity: (
        record.payload.get("colour") in ("red", "blue")
    ),
    'payload.tags = "u3"': lambda record, entity: "u3" in record.payload["tags"],
    "payload.rare = true": lambda record, entity: "rare" in record.payload,
    'entity.label = "dog"': lambda record, entity: record.entities.labels[entity] == "dog",
    "entity.area > 0.25": lambda record, entity: record.entities.areas[entity] > 0.25,
    "entity.index = 0": lambda record, entity: entity == 0,
    "image.entities >= 5": lambda record, entity: len(record.entities) >= 5,
}
FILTERS: dict[str, Meets] = {"": lambda record, entity: True}
"""Those that were drawn, with what they mean of an entity of an image."""


def joined(sign: str, parts: list[tuple[str, Meets]]) -> tuple[str, Meets]:
    both = all if sign == "AND" else any
    text = f" {sign} ".join(f"({text})" for text, _ in parts)
    return text, lambda record, entity: both(meets(record, entity) for _, meets in parts)


conditions = st.recursive(
    st.sampled_from(sorted(LEAVES.items())),
    lambda below: (
        st.builds(joined, st.sampled_from(["AND", "OR"]), st.lists(below, min_size=2, max_size=3))
        | below.map(lambda one: (f"NOT ({one[0]})", lambda record, entity: not one[1](record, entity)))
    ),
    max_leaves=4,
)


@st.composite
def filters(draw: st.DrawFn) -> str:
    """Nothing, often; otherwise what many, few or no entities meet."""
    if draw(st.booleans()):
        return ""
    text, meets = draw(conditions)
    FILTERS[text] = meets
    return text


fractions = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.7, 1.0])


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    """Often strict, so that few images qualify; sometimes none."""
    part = draw(st.none() | st.sampled_from(FRAME_PARTS))
    box, tolerance = None, 0.1
    if part is None and draw(st.booleans()):
        (x0, x1), (y0, y1) = (sorted(draw(st.sampled_from([(0, 0.5), (0.2, 0.9), (0.4, 1)]))) for _ in "xy")
        box = Box(x0, y0, x1, y1)
    if part is not None or box is not None:
        tolerance = draw(st.sampled_from([0.05, 0.1, 0.4]))
    areas = sorted(draw(st.tuples(fractions, fractions)))
    counts = sorted(draw(st.tuples(st.integers(1, 3), st.integers(1, 3))))
    wanted = Placement(
        part=part,
        box=box,
        tolerance=tolerance,
        min_area=draw(st.none() | st.just(areas[0])),
        max_area=draw(st.none() | st.just(areas[1])),
        label=draw(st.none() | st.sampled_from([label for label in LABELS if label])),
        min_count=draw(st.none() | st.just(counts[0])),
        max_count=draw(st.none() | st.just(counts[1])),
    )
    strict = about_place(wanted) or counts_softly(wanted)
    return replace(wanted, strict=strict and draw(st.booleans()))


@st.composite
def queries(draw: st.DrawFn) -> Query:
    kind = draw(st.sampled_from(["text", "vector", "entity", "entities", "image", "examples"]))
    image_id = draw(st.sampled_from(IDS)) if kind in ("entity", "entities", "image") else None
    entities: tuple[int, ...] = {"entity": (0,), "entities": (0, 0, 0)[: draw(st.integers(2, 3))]}.get(
        kind, ()
    )
    vector = None
    if kind == "vector":
        vector = unit_vectors(np.random.default_rng(draw(st.integers(0, 5))), 1)[0]
    text = "a red and a blue thing" if kind == "text" or (kind != "vector" and draw(st.booleans())) else None
    count = max(1, len(entities))
    wanted = draw(st.just(()) | st.tuples(*[placements()] * count))
    return Query(
        image_id=image_id,
        entities=entities,
        vector=vector,
        text=text,
        liked=(Example("007"), Example("008", 0)) if kind == "examples" else (),
        placements=wanted,
        where=draw(filters()),
        limit=draw(st.sampled_from([1, 3, 10, IMAGES])),
        min_score=draw(st.sampled_from([0.0, 0.0, 0.5, 0.9])),
        group_by=draw(st.sampled_from(["image", "entity"])) if count == 1 else "image",
        candidates=draw(st.sampled_from([1, 4, IMAGES])),
        preset=draw(st.sampled_from(PRESETS)),
        include_self=bool(image_id) and draw(st.booleans()),
        all_entities=draw(st.sampled_from([0, 2])),
    )


def expectations(world: World, query: Query) -> dict[str, Expected]:
    """Of every image that is not left out."""
    regions: list[np.ndarray] = []
    image: np.ndarray | None = None
    left_out: set[str] = set()
    if query.vector is not None:
        regions, image = [query.vector], query.vector
    elif query.image_id is not None:
        own = world.records[query.image_id].vectors
        regions, image = [own[1 + entity] for entity in query.entities] or [own[0]], own[0]
        left_out = set() if query.include_self else {query.image_id}
    elif query.liked:
        vectors = [world.records[each.image_id].vectors for each in query.liked]
        rows = np.stack(
            [v[0 if e.entity is None else 1 + e.entity] for v, e in zip(vectors, query.liked, strict=True)]
        )
        nothing = np.empty((0, DIMENSION), np.float32)
        regions = [moved(None, rows, nothing)]
        image = moved(None, np.stack([each[0] for each in vectors]), nothing)
        left_out = {each.image_id for each in query.liked}
    text = None if query.text is None else EMBEDDER.embed_texts([query.text])[0]
    question = JointQuestion(np.array(regions, np.float32).reshape(-1, DIMENSION), image, text)
    profile = plain_scoring().profile({})
    return {
        image_id: expected_of(
            world.collection,
            record,
            question,
            query.placements,
            world.background,
            profile,
            FILTERS[query.where],
        )
        for image_id, record in world.records.items()
        if image_id not in left_out
    }


def qualifying(query: Query, expected: dict[str, Expected]) -> dict[tuple[str, int | None], float]:
    """By image, or image and entity, the sums of all that may be hits."""
    if query.group_by == "image":
        totals: dict[tuple[str, int | None], float] = {
            (image_id, None): each.total for image_id, each in expected.items() if each.total is not None
        }
    else:
        totals = {
            (image_id, entity): each.alone[entity]
            for image_id, each in expected.items()
            for entity in each.apart
        }
    least = -math.inf
    if query.min_score:
        least = math.log(query.min_score / (1 - query.min_score))
    return {key: total for key, total in totals.items() if total >= least}


def keys_of(query: Query, answer: Answer) -> list[tuple[str, int | None]]:
    by_entity = query.group_by == "entity"
    return [(hit.image_id, hit.entity.index if by_entity else None) for hit in answer.hits]


def sums_of(answer: Answer) -> list[float]:
    return [sum(part.weight * part.standardised for part in hit.parts.values()) for hit in answer.hits]


@settings(max_examples=50)
@given(queries())
def test_an_answer_is_full_of_what_qualifies_and_scored_as_by_hand(world: World, query: Query) -> None:
    totals = qualifying(query, expectations(world, query))
    answer = world.engine.search(world.collection, query)
    keys = keys_of(query, answer)
    assert len(set(keys)) == len(keys) == min(query.limit, len(totals))
    sums = sums_of(answer)
    assert sums == pytest.approx([totals[key] for key in keys], abs=1e-4)
    assert sums == sorted(sums, reverse=True) or np.all(np.diff(sums) < 1e-9)
    for hit, total in zip(answer.hits, sums, strict=True):
        assert hit.score == pytest.approx(1 / (1 + math.exp(-total)), abs=1e-6)
        assert len({match.entity.index for match in hit.matches}) == len(hit.matches)
        assert all(
            FILTERS[query.where](world.records[hit.image_id], match.entity.index) for match in hit.matches
        )
        assert FILTERS[query.where](world.records[hit.image_id], hit.entity.index)
        if not query.placements:
            continue
        for match, placement in zip(hit.matches, query.placements, strict=False):
            assert may_match(world.records[hit.image_id], match.entity.index, placement)


@settings(max_examples=30)
@given(queries())
def test_with_every_image_a_candidate_the_ranking_is_that_of_all(world: World, query: Query) -> None:
    query = replace(query, candidates=IMAGES, limit=20)
    totals = qualifying(query, expectations(world, query))
    best = sorted(totals.values(), reverse=True)[:20]
    assert sums_of(world.engine.search(world.collection, query)) == pytest.approx(best, abs=1e-4)


def pages(world: World, query: Query) -> Iterator[Answer]:
    token = ""
    while True:
        answer = world.engine.search(world.collection, replace(query, page_token=token))
        yield answer
        token = answer.next_page_token
        if not token:
            return


@settings(max_examples=25)
@given(queries(), st.sampled_from([7, 13]))
def test_pages_are_one_ranking_without_repeats_or_omissions(world: World, query: Query, limit: int) -> None:
    query = replace(query, limit=limit)
    totals = qualifying(query, expectations(world, query))
    answers = list(pages(world, query))
    together = [key for answer in answers for key in keys_of(query, answer)]
    assert len(set(together)) == len(together)
    assert set(together) == set(totals)
    assert all(len(answer.hits) == limit for answer in answers[:-1])
    assert answers[-1].hits or not totals


@settings(max_examples=20)
@given(queries())
def test_further_entities_are_the_next_best_of_their_image(world: World, query: Query) -> None:
    if query.group_by == "entity" or len(query.entities) > 1:
        query = replace(query, group_by="image", entities=query.entities[:1], placements=query.placements[:1])
    expected = expectations(world, query)
    for hit in world.engine.search(world.collection, replace(query, all_entities=3)).hits:
        others = {e: t for e, t in expected[hit.image_id].alone.items() if e != hit.entity.index}
        listed = [match.entity.index for match in hit.entities]
        assert hit.entity.index not in listed
        assert [match.score for match in hit.entities] == pytest.approx(
            [1 / (1 + math.exp(-total)) for total in sorted(others.values(), reverse=True)[:3]], abs=1e-5
        )
        assert set(listed) <= set(others)


def arm_places(vectors: Sequence[np.ndarray], world: World, rows: slice) -> dict[str, int]:
    nearest = {
        image_id: max(float(v @ q) for q in vectors for v in record.vectors[rows])
        for image_id, record in world.records.items()
    }
    order = sorted(nearest, key=lambda image_id: -nearest[image_id])
    return {image_id: place for place, image_id in enumerate(order, start=1)}


def test_hits_name_their_places_in_both_arms(world: World) -> None:
    vector = unit_vectors(np.random.default_rng(3), 1)[0]
    by_entity = arm_places([vector], world, slice(1, None))
    by_image = arm_places([vector], world, slice(0, 1))
    answer = world.engine.search(
        world.collection, Query(vector=vector, candidates=12, limit=15, preset="fast")
    )
    width = 15
    for hit in answer.hits:
        assert hit.entity_arm_rank == (by_entity[hit.image_id] if by_entity[hit.image_id] <= width else None)
        assert hit.global_arm_rank == (by_image[hit.image_id] if by_image[hit.image_id] <= width else None)
