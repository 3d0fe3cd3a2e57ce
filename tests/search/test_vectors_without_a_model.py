"""Collections whose vectors no model at hand has made: what brings vectors is answered, the rest refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from brute_force import random_record

from regionsearch.collection import Collection, CollectionSpec, DataDirectory
from regionsearch.errors import ModelNotFound, NotAccepted, RegionSearchError
from regionsearch.fingerprint import Fingerprint
from regionsearch.images import Image
from regionsearch.models.precomputed import fingerprints_of
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, RegionPrompt
from regionsearch.search import Example, Query, QueryRegion, Rerank, SearchEngine
from regionsearch.search.background import LEAST_IMAGES

DIMENSION = 24
BROUGHT = fingerprints_of("faces-v2", DIMENSION)
GONE = Fingerprint("withdrawn:2019", "ab" * 32, DIMENSION, 3), Fingerprint("dummy", "", 0, 1)
PICTURE = Image(np.zeros((8, 8, 3), np.uint8))
FEW, MANY = 8, LEAST_IMAGES + 10


def units(seed: int, count: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataDirectory]:
    """Collections `brought-8`, `brought-60`, `gone-8` and `gone-60`."""
    with DataDirectory(tmp_path_factory.mktemp("no-model") / "data", "write") as opened:
        for name, (embedder, segmenter) in (("brought", BROUGHT), ("gone", GONE)):
            for images in (FEW, MANY):
                made = opened.create_collection(CollectionSpec(f"{name}-{images}", embedder, segmenter))
                generator = np.random.default_rng(images)
                records = [random_record(generator, f"{number:03}") for number in range(images)]
                made.upsert(
                    [
                        replace(record, vectors=units(place, 1 + len(record.entities)))
                        for place, record in enumerate(records)
                    ]
                )
        yield opened


@pytest.fixture(params=[f"{name}-{images}" for name in ("brought", "gone") for images in (FEW, MANY)])
def collection(request: pytest.FixtureRequest, directory: DataDirectory) -> Collection:
    return directory.collection(request.param)


def test_vectors_images_and_examples_find_what_is_nearest(collection: Collection) -> None:
    engine = SearchEngine(ModelRegistry())
    own = collection.get("003").vectors
    [near] = units(1_000, 1)
    queries = [
        Query(vector=own[1], weights={"global": 0.0}),
        Query(vector=7 * own[0] + 0.1 * near, weights={"entity": 0.0}),
        Query(image_id="003", entities=(0,), include_self=True),
        Query(liked=(Example("003", 0),), include_self=True),
    ]
    for query in queries:
        answer = engine.search(collection, query)
        assert answer.hits[0].image_id == "003"
        assert len(answer.hits) == min(query.limit, collection.stats.images)
        assert all(0 < hit.score < 1 for hit in answer.hits)


def test_signals_are_standardised_by_the_collections_own_pairs_once_there_are_enough(
    directory: DataDirectory,
) -> None:
    query = Query(vector=units(5, 1)[0], limit=MANY)
    for name in ("brought", "gone"):
        few = SearchEngine(ModelRegistry()).search(directory.collection(f"{name}-{FEW}"), query)
        many = SearchEngine(ModelRegistry()).search(directory.collection(f"{name}-{MANY}"), query)
        assert many.background.startswith(f"{MANY}-images-")
        assert few.background != many.background
        # Random vectors: as many images lie above what random pairs have as below.
        mean = np.mean([hit.parts["global"].standardised for hit in many.hits])
        assert abs(mean) < 0.5


@pytest.mark.parametrize(
    "query",
    [
        Query(text="a dog"),
        Query(image_id="003", text="in the snow"),
        Query(image=PICTURE),
        Query(image=PICTURE, regions=(QueryRegion(RegionPrompt(box=Box(0, 0, 4, 4))),)),
    ],
    ids=["text", "image and text", "picture", "region"],
)
def test_what_a_model_would_have_to_read_is_refused_and_disturbs_nothing_else(
    collection: Collection, query: Query
) -> None:
    engine = SearchEngine(ModelRegistry())
    brought = collection.spec.name.startswith("brought")
    with pytest.raises(NotAccepted if brought else ModelNotFound) as refused:
        engine.search(collection, query)
    assert ("computed elsewhere" if brought else "withdrawn") in refused.value.message
    together = engine.search_many(collection, [query, Query(image_id="003"), query])
    assert isinstance(together[0], RegionSearchError)
    assert not isinstance(together[1], RegionSearchError)
    assert len(together[1].hits) == min(10, collection.stats.images - 1)


def test_reading_again_needs_the_model(tmp_path_factory: pytest.TempPathFactory) -> None:
    with DataDirectory(tmp_path_factory.mktemp("reading") / "data", "write") as opened:
        made = opened.create_collection(CollectionSpec("c", *GONE))
        record = random_record(np.random.default_rng(0), "a")
        made.upsert([replace(record, vectors=units(0, 1 + len(record.entities)))])
        with pytest.raises(ModelNotFound):
            SearchEngine(ModelRegistry()).search(made, Query(image_id="a", rerank=Rerank()))
