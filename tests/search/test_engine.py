"""Whole searches over a small collection, against scoring every image by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from regionsearch.collection import Collection, CollectionSpec, DataDirectory, ImageRecord
from regionsearch.entities import Entities
from regionsearch.errors import FingerprintMismatch, ImageNotFound, InvalidRegion, InvalidRequest
from regionsearch.images import Image
from regionsearch.ingest import collection_spec
from regionsearch.models.embedder import Embedder, EncodableQuery, QueryVectors
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, Mask, Point, RegionPrompt
from regionsearch.search import Query, QueryRegion, SearchEngine
from regionsearch.search.background import CollectionBackground, is_due, neutral_phrases
from regionsearch.search.calibration import QueryFacts
from regionsearch.search.engine import encoding_at_once
from regionsearch.search.joint_scoring import JointQuestion, ranking, score_jointly
from regionsearch.search.scoring import shipped_scoring

MODELS = ModelRegistry()
EMBEDDER = MODELS.embedder("dummy")
SEGMENTER = MODELS.segmenter("dummy")
DIMENSION = EMBEDDER.info.dimension


def random_record(generator: np.random.Generator, number: int) -> ImageRecord:
    count = int(generator.integers(1, 6))
    masks = [Mask.from_box(Box(i, i, i + 4, i + 5), 12, 16) for i in range(count)]
    vectors = generator.standard_normal((1 + count, DIMENSION)).astype(np.float32)
    return ImageRecord(
        image_id=f"{number:04}",
        width=16,
        height=12,
        entities=Entities.from_masks(masks, np.full(count, 0.5, dtype=np.float32)),
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def filled(directory: DataDirectory, name: str, images: int) -> Collection:
    collection = directory.create_collection(collection_spec(name, EMBEDDER, SEGMENTER))
    generator = np.random.default_rng(7)
    collection.upsert([random_record(generator, number) for number in range(images)])
    return collection


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path_factory.mktemp("engine") / "data", "write") as opened:
        yield opened


@pytest.fixture(scope="module")
def collection(directory: DataDirectory) -> Collection:
    return filled(directory, "many", 300)


@pytest.fixture(scope="module")
def engine() -> SearchEngine:
    return SearchEngine(MODELS)


def scene() -> Image:
    pixels = np.full((40, 60, 3), 255, dtype=np.uint8)
    pixels[5:20, 5:25] = (255, 0, 0)
    pixels[22:36, 30:52] = (0, 0, 255)
    return Image(pixels)


def test_the_answer_is_what_scoring_every_image_would_give(
    collection: Collection, engine: SearchEngine
) -> None:
    record = collection.get("0042")
    answer = engine.search(collection, Query(image_id="0042", entities=(0,), limit=300))
    stored = collection.background()
    assert stored is not None
    background = CollectionBackground.from_json(stored)
    others = [collection.get(image_id) for image_id in collection.image_ids() if image_id != "0042"]
    vectors = QueryVectors(record.vectors[1], record.vectors[0], record.vectors[1], record.vectors[0])
    candidates = collection.candidates([other.number for other in others])
    scores = score_jointly(
        candidates, JointQuestion.of(vectors), background.signals, shipped_scoring().profile({})
    )
    order = ranking(scores.totals, [other.image_id for other in others])
    # The arms bring every image here, so nothing may be missing or out of place.
    assert [hit.image_id for hit in answer.hits] == [others[place].image_id for place in order]
    assert [hit.entity.index for hit in answer.hits] == [scores.matches(place).entities[0] for place in order]
    facts = QueryFacts("pixels", "", 300, scores.totals)
    expected = shipped_scoring().calibration.of(facts).scores(scores.totals[order])
    assert [hit.score for hit in answer.hits] == pytest.approx(expected.tolist())
    for hit, place in zip(answer.hits, order, strict=True):
        total = sum(part.standardised * part.weight for part in hit.parts.values())
        assert total == pytest.approx(scores.totals[place])


@pytest.mark.parametrize("limit", [1, 7, 100, 299, 1000])
def test_an_answer_has_exactly_limit_images_whenever_they_exist(
    collection: Collection, engine: SearchEngine, limit: int
) -> None:
    hits = engine.search(collection, Query(image_id="0000", limit=limit)).hits
    assert len({hit.image_id for hit in hits}) == len(hits) == min(limit, 299)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_an_image_is_among_its_own_answers_only_when_asked(
    collection: Collection, engine: SearchEngine
) -> None:
    with_self = engine.search(collection, Query(image_id="0005", entities=(0,), include_self=True))
    assert with_self.hits[0].image_id == "0005"
    without = engine.search(collection, Query(image_id="0005", limit=1000))
    assert "0005" not in {hit.image_id for hit in without.hits}


def test_entities_of_one_image_do_not_crowd_out_others(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    collection = directory.create_collection(collection_spec("crowd", EMBEDDER, SEGMENTER))
    generator = np.random.default_rng(1)
    crowd = random_record(generator, 0)
    masks = [Mask.full(12, 16)] * 900
    near = np.tile(crowd.vectors[1], (901, 1)) + 0.001 * generator.standard_normal((901, DIMENSION))
    near = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    entities = Entities.from_masks(masks, np.full(900, 0.5, dtype=np.float32))
    collection.upsert(
        [
            ImageRecord("crowd", 16, 12, entities, near),
            *(random_record(generator, number) for number in range(30)),
        ]
    )
    answer = engine.search(collection, Query(vector=near[0], limit=31))
    assert len(answer.hits) == 31
    assert answer.hits[0].image_id == "crowd"


def test_the_same_question_gets_the_same_answer(collection: Collection, engine: SearchEngine) -> None:
    query = Query(
        image=scene(), regions=(QueryRegion(RegionPrompt(points=(Point(12, 12),))),), text="red", limit=50
    )
    first, second = engine.search(collection, query), SearchEngine(MODELS).search(collection, query)
    assert [(h.image_id, h.score, h.entity.index) for h in first.hits] == [
        (h.image_id, h.score, h.entity.index) for h in second.hits
    ]


def test_a_point_means_the_thing_that_it_lies_on(collection: Collection, engine: SearchEngine) -> None:
    answer = engine.search(
        collection, Query(image=scene(), regions=(QueryRegion(RegionPrompt(points=(Point(40, 30),))),))
    )
    (used,) = answer.regions
    assert used.mask.box().as_tuple() == (30, 22, 52, 36)
    assert set(answer.hits[0].parts) == {"entity", "global", "objectness"}


def test_pixels_and_words_bring_all_four_parts(collection: Collection, engine: SearchEngine) -> None:
    region = RegionPrompt(box=Box(0.1, 0.1, 0.4, 0.5))
    query = Query(image=scene(), regions=(QueryRegion(region, normalised=True),), text="blue")
    answer = engine.search(collection, query)
    assert set(answer.hits[0].parts) == {"entity", "global", "text_entity", "text_image", "objectness"}
    x0, y0, x1, y1 = answer.regions[0].mask.box().as_tuple()
    assert (x0, y0, x1, y1) == (6, 4, 24, 20)


def test_weights_of_a_request_change_the_ranking_and_are_shown(
    collection: Collection, engine: SearchEngine
) -> None:
    by_entity = engine.search(
        collection, Query(image_id="0001", entities=(0,), weights={"global": 0.0}, limit=20)
    )
    by_image = engine.search(
        collection, Query(image_id="0001", entities=(0,), weights={"entity": 0.0}, limit=20)
    )
    assert by_entity.hits[0].parts["global"].weight == 0.0
    assert [h.image_id for h in by_entity.hits] != [h.image_id for h in by_image.hits]
    raw = [hit.parts["global"].raw for hit in by_image.hits]
    assert raw == sorted(raw, reverse=True)


def test_regions_outside_the_image_and_points_on_nothing_are_refused(
    collection: Collection, engine: SearchEngine
) -> None:
    for region in (RegionPrompt(box=Box(100, 100, 120, 120)), RegionPrompt(points=(Point(60, 5),))):
        with pytest.raises(InvalidRegion, match="60 × 40"):
            engine.search(collection, Query(image=scene(), regions=(QueryRegion(region),)))
    with pytest.raises(InvalidRegion, match="point"):
        engine.search(
            collection, Query(image=scene(), regions=(QueryRegion(RegionPrompt(points=(Point(1, 1),))),))
        )


def test_ids_and_entities_that_do_not_exist_are_named(collection: Collection, engine: SearchEngine) -> None:
    with pytest.raises(ImageNotFound, match="nobody"):
        engine.search(collection, Query(image_id="nobody"))
    with pytest.raises(InvalidRequest, match="99"):
        engine.search(collection, Query(image_id="0001", entities=(99,)))


def test_an_empty_collection_answers_with_nothing(directory: DataDirectory, engine: SearchEngine) -> None:
    collection = directory.create_collection(collection_spec("empty", EMBEDDER, SEGMENTER))
    assert engine.search(collection, Query(text="red")).hits == ()


def test_a_collection_made_with_another_model_is_refused_by_name(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    spec = collection_spec("foreign", EMBEDDER, SEGMENTER)
    foreign = CollectionSpec(
        "foreign",
        type(spec.embedder)("dummy", "ff" * 32, spec.embedder.dimension, spec.embedder.preprocessing),
        spec.segmenter,
        probe=spec.probe,
    )
    collection = directory.create_collection(foreign)
    with pytest.raises(FingerprintMismatch, match="ffffffffffff"):
        engine.search(collection, Query(text="red"))


class CountedEmbedder:
    """The dummy embedder, which knows how many queries were with it at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> object:
        return getattr(EMBEDDER, name)

    def embed_query(self, query: EncodableQuery) -> QueryVectors:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.05)
        with self._lock:
            self.now -= 1
        return EMBEDDER.embed_query(query)


def test_only_a_few_queries_are_with_a_model_at_once(collection: Collection) -> None:
    counted = CountedEmbedder()

    class Counted(ModelRegistry):
        def embedder(self, name: str) -> Embedder:
            return cast(Embedder, counted)

    engine = SearchEngine(Counted())
    engine.prepare(collection)
    with ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(lambda _: engine.search(collection, Query(text="red")), range(24)))
    assert len({tuple(hit.image_id for hit in answer.hits) for answer in answers}) == 1
    assert 1 < counted.most <= encoding_at_once()


def test_statistics_are_measured_at_fifty_images_and_at_every_doubling(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    small = filled(directory, "small", 49)
    assert engine.search(small, Query(text="red")).background == "dummy-shipped"
    generator = np.random.default_rng(3)
    small.upsert([random_record(generator, 49)])
    at_fifty = engine.search(small, Query(text="red")).background
    assert at_fifty.startswith("50-images")
    small.upsert([random_record(generator, number) for number in range(50, 99)])
    assert engine.search(small, Query(text="red")).background == at_fifty
    small.upsert([random_record(generator, 99)])
    assert engine.search(small, Query(text="red")).background.startswith("100-images")
    assert not is_due(CollectionBackground({}, 100, ""), 199)


def test_the_background_is_that_of_random_pairs(collection: Collection, engine: SearchEngine) -> None:
    engine.prepare(collection)
    stored = collection.background()
    assert stored is not None
    candidates = collection.candidates([collection.get(i).number for i in collection.image_ids()])
    images = np.stack([candidate.vectors[0] for candidate in candidates])
    pairs = (images @ images.T)[~np.eye(len(images), dtype=bool)]
    measured = stored["signals"]["global"]
    assert measured["mean"] == pytest.approx(pairs.mean(), abs=0.1 * float(pairs.std()))
    assert measured["deviation"] == pytest.approx(pairs.std(), rel=0.05)


def test_five_hundred_neutral_phrases_ship() -> None:
    phrases = neutral_phrases()
    assert len(phrases) == len(set(phrases)) == 500


def test_below_fifty_images_the_shipped_statistics_serve_again(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    collection = filled(directory, "shrinking", 60)
    assert engine.search(collection, Query(text="red")).background.startswith("60-images")
    collection.delete([f"{number:04}" for number in range(11)])
    assert engine.search(collection, Query(text="red")).background == "dummy-shipped"


def test_a_vector_far_from_unit_length_is_brought_to_it(collection: Collection, engine: SearchEngine) -> None:
    near = engine.search(collection, Query(vector=np.full(DIMENSION, 1.0, np.float32)))
    far = engine.search(collection, Query(vector=np.full(DIMENSION, 1e30, np.float32)))
    assert [hit.score for hit in far.hits] == pytest.approx([hit.score for hit in near.hits])


def test_answers_stay_full_while_images_are_replaced(directory: DataDirectory, engine: SearchEngine) -> None:
    collection = filled(directory, "busy", 10)
    generator = np.random.default_rng(5)
    replacements = [random_record(generator, number % 10) for number in range(40)]
    done = threading.Event()

    def replace_all_the_time() -> None:
        place = 0
        while not done.is_set():
            collection.upsert([replacements[place % len(replacements)]])
            place += 1

    writer = threading.Thread(target=replace_all_the_time)
    writer.start()
    try:
        sizes = [len(engine.search(collection, Query(text="red", limit=10)).hits) for _ in range(400)]
    finally:
        done.set()
        writer.join()
    assert set(sizes) == {10}


def test_a_damaged_record_does_not_keep_others_from_being_found(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = filled(directory, "damaged", 60)
        victim = collection.get("0007").vectors.tobytes()[:64]
    catalog = next((tmp_path / "data").rglob("data.mdb"))
    stored = bytearray(catalog.read_bytes())
    # The header lies right before the vectors; its own checksum no longer holds.
    stored[stored.index(victim) - 40] ^= 0xFF
    catalog.write_bytes(stored)
    with DataDirectory(tmp_path / "data", "write") as directory:
        answer = SearchEngine(MODELS).search(directory.collection("damaged"), Query(text="red", limit=60))
    assert len(answer.hits) == 59
    assert "0007" not in {hit.image_id for hit in answer.hits}
