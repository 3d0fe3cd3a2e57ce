"""Candidates beyond the first ones: what is asked for once more, what is not, and what stays as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from brute_force import EMBEDDER, MODELS, SEGMENTER, random_record, unit_vectors

from regionsearch.collection import Collection, DataDirectory, ImageRecord
from regionsearch.collection.fields.matching import Matching
from regionsearch.collection.records import Neighbours
from regionsearch.ingest import collection_spec
from regionsearch.regions import Box
from regionsearch.search import Example, Placement, Query, SearchEngine

IMAGES = 600
VECTOR = unit_vectors(np.random.default_rng(2), 1)[0]
QUERIES = [
    Query(vector=VECTOR),
    Query(text="a red thing"),
    Query(image_id="0003", entities=(0,), text="blue"),
    Query(image_id="0003", entities=(0, 1)),
    Query(text="a red thing", liked=(Example("0005"),)),
]
CONDITIONS = [
    Placement(label="dog", max_area=0.02, strict=True),
    Placement(max_area=0.004, strict=True),
    Placement(label="cat", min_count=2),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path_factory.mktemp("widening") / "data", "write") as opened:
        yield opened


@pytest.fixture(scope="module")
def collection(directory: DataDirectory) -> Collection:
    return filled(directory, "many", IMAGES)


@pytest.fixture(scope="module")
def engine() -> SearchEngine:
    return SearchEngine(MODELS)


def filled(directory: DataDirectory, name: str, images: int) -> Collection:
    made = directory.create_collection(collection_spec(name, EMBEDDER, SEGMENTER))
    generator = np.random.default_rng(4)
    made.upsert([random_record(generator, f"{number:04}") for number in range(images)])
    return made


def score_of_sums(engine: SearchEngine, collection: Collection, query: Query) -> dict[float, float]:
    """By weighted sum, the scores of the hits."""
    return {
        round(sum(part.weight * part.standardised for part in hit.parts.values()), 9): hit.score
        for hit in engine.search(collection, query).hits
    }


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("candidates", [None, 1])
def test_an_image_scores_the_same_however_many_hits_are_asked_for(
    collection: Collection, engine: SearchEngine, query: Query, candidates: int | None
) -> None:
    query = replace(query, candidates=candidates)
    many = {hit.image_id: hit.score for hit in engine.search(collection, replace(query, limit=500)).hits}
    for limit in (1, 3, 10, 60, 200):
        few = engine.search(collection, replace(query, limit=limit)).hits
        assert {hit.image_id: hit.score for hit in few} == {hit.image_id: many[hit.image_id] for hit in few}


@pytest.mark.parametrize(
    "condition",
    [
        *({"placements": (each,)} for each in CONDITIONS),
        {"where": 'entity.label = "dog" AND payload.year > 2005'},
        {"where": 'image.id = "0041"'},
        {"where": "NOT payload.rare:*", "placements": CONDITIONS[:1]},
    ],
)
def test_a_weighted_sum_scores_the_same_with_conditions_and_without(
    collection: Collection, engine: SearchEngine, condition: dict[str, Any]
) -> None:
    # Without the part `placement`, which a place or a size that is wanted adds to the sum.
    query = Query(vector=VECTOR, limit=IMAGES, weights={"placement": 0.0})
    free = score_of_sums(engine, collection, query)
    held = score_of_sums(engine, collection, replace(query, limit=5, **condition))
    shared = set(free) & set(held)
    assert shared
    assert {total: held[total] for total in shared} == {total: free[total] for total in shared}


class Overtaken:
    """A collection in which, right after an arm has been asked for the first time, images are replaced."""

    def __init__(self, collection: Collection, replaced: Sequence[str]) -> None:
        self._collection = collection
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def candidates(self, *given: Any, **named: Any) -> Any:
        replaced, self._replaced = self._replaced, ()
        if replaced:
            self._collection.upsert([self._collection.get(image_id) for image_id in replaced])
        return self._collection.candidates(*given, **named)


def test_an_image_that_is_replaced_between_two_widths_is_one_hit(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    made = filled(directory, "replaced", 200)
    engine.prepare(made)
    overtaken = cast(Collection, Overtaken(made, [f"{number:04}" for number in range(200)]))
    query = Query(vector=VECTOR, candidates=10, limit=20, placements=(CONDITIONS[2],))
    expected = [hit.image_id for hit in engine.search(made, query).hits]
    found = [hit.image_id for hit in engine.search(overtaken, query).hits]
    assert len(set(found)) == len(found) == len(expected)


class Rewritten(Overtaken):
    """A collection in which, right after images were scored for the first time, payloads are updated."""

    def records(self, numbers: Sequence[int]) -> list[ImageRecord | None]:
        replaced, self._replaced = self._replaced, ()
        for image_id in replaced:
            self._collection.update_payload(image_id, {"year": 1900})
        return self._collection.records(numbers)

    def candidates(self, *given: Any, **named: Any) -> Any:
        return self._collection.candidates(*given, **named)


def test_images_that_are_replaced_under_a_filter_are_judged_by_what_they_are_now(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    made = filled(directory, "replaced-filtered", 200)
    engine.prepare(made)
    overtaken = cast(Collection, Overtaken(made, [f"{number:04}" for number in range(200)]))
    query = Query(vector=VECTOR, candidates=10, limit=20, where="payload.year > 2010 AND entity.area < 0.4")
    expected = [hit.image_id for hit in engine.search(made, query).hits]
    assert len(expected) == 20
    assert [hit.image_id for hit in engine.search(overtaken, query).hits] == expected


def test_no_hit_is_shown_with_a_payload_that_the_filter_excludes(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    made = filled(directory, "rewritten", 200)
    engine.prepare(made)
    query = Query(vector=VECTOR, limit=20, where="payload.year > 2010")
    before = [hit.image_id for hit in engine.search(made, query).hits]
    hits = engine.search(cast(Collection, Rewritten(made, before[:15])), query).hits
    assert len(hits) == 20
    assert not {hit.image_id for hit in hits} & set(before[:15])
    assert all(hit.payload["year"] > 2010 for hit in hits)


class Listening:
    """A collection that remembers how many neighbours were asked of its arms."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self.entities: list[int] = []
        self.images: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def search(self, vector: np.ndarray, k: int, matching: Matching | None) -> Neighbours:
        self.entities.append(k)
        return self._collection.search(vector, k, matching)

    def search_images(self, vector: np.ndarray, k: int, matching: Matching | None) -> Neighbours:
        self.images.append(k)
        return self._collection.search_images(vector, k, matching)


def test_once_all_images_are_candidates_their_entities_are_not_ranked_once_more(
    collection: Collection, engine: SearchEngine
) -> None:
    listening = Listening(collection)
    asked = replace(QUERIES[0], placements=(Placement(min_count=99, strict=True),))
    assert engine.search(cast(Collection, listening), asked).hits == ()
    assert max(listening.images) > IMAGES
    # The arm of entities begins with four for each image that is wanted.
    assert {k // 4 for k in listening.entities} >= set(sorted(listening.images)[:-1])
    assert 4 * max(listening.images) not in listening.entities


class NothingCopied:
    """A collection that hands out no vectors, only what they were compared with."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def candidates(self, numbers: Sequence[int], **named: Any) -> Any:
        assert named.get("compared_with") is not None
        return self._collection.candidates(numbers, **named)


def test_many_hits_of_one_image_do_not_copy_its_vectors_for_each(
    collection: Collection, engine: SearchEngine
) -> None:
    query = replace(QUERIES[0], group_by="entity", limit=300)
    seen = engine.search(cast(Collection, NothingCopied(collection)), query).hits
    assert len({(hit.image_id, hit.entity.index) for hit in seen}) == 300 > len({h.image_id for h in seen})
    for hit in seen:
        assert {part.entity for part in hit.parts.values()} == {None, hit.entity.index}


@pytest.mark.parametrize(
    "condition",
    [
        {"placements": (Placement(label="nothing like it"),)},
        {"placements": (Placement(min_area=0.999, strict=True),)},
        {"placements": (Placement(box=Box(0.99, 0.99, 1, 1), tolerance=0.001, strict=True),)},
        {"where": 'entity.label = "nothing like it"'},
        {"where": 'payload.colour = "none" AND entity.area > 0'},
        {"min_score": 0.999999},
    ],
)
def test_a_condition_that_nothing_meets_is_found_out_without_ranking_everything(
    collection: Collection, engine: SearchEngine, condition: dict[str, Any]
) -> None:
    listening = Listening(collection)
    asked = replace(QUERIES[0], candidates=4, **condition)
    assert engine.search(cast(Collection, listening), asked).hits == ()
    assert max(listening.images, default=0) < IMAGES / 2
    assert max(listening.entities, default=0) < collection.stats.entities / 2
