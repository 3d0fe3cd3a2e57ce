"""What a query can say, asked of a small world of flat colours."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image as PilImage

from regionsearch.collection import Collection, DataDirectory, ImageRecord
from regionsearch.entities import Entities
from regionsearch.errors import FailedPrecondition, ImageNotFound, InvalidRegion, InvalidRequest
from regionsearch.images import Image
from regionsearch.ingest import collection_spec
from regionsearch.models.dummy import COLOURS
from regionsearch.models.embedder import Embedder, EncodableQuery, QueryVectors
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, Mask, Point, RegionPrompt
from regionsearch.search import Answer, Example, Placement, Query, QueryRegion, Rerank, SearchEngine
from regionsearch.search.query import GroupBy
from regionsearch.search.scoring import shipped_scoring

MODELS = ModelRegistry()
EMBEDDER = MODELS.embedder("dummy")
SEGMENTER = MODELS.segmenter("dummy")
HEIGHT, WIDTH = 60, 90
LEFT, MIDDLE, RIGHT = Box(3, 20, 21, 40), Box(36, 20, 54, 40), Box(69, 20, 87, 40)


def picture(things: Sequence[tuple[str, Box]]) -> Image:
    pixels = np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
    for colour, box in things:
        x0, y0, x1, y1 = map(int, box.as_tuple())
        pixels[y0:y1, x0:x1] = COLOURS[colour]
    return Image(pixels)


def png_of(image: Image) -> bytes:
    target = io.BytesIO()
    PilImage.fromarray(image.pixels).save(target, "PNG")
    return target.getvalue()


def record(image_id: str, things: Sequence[tuple[str, Box]]) -> ImageRecord:
    """Its entities are the things in their order, labelled with their colours."""
    image = picture(things)
    masks = [Mask.from_box(box, HEIGHT, WIDTH) for _, box in things]
    found = Entities.from_masks(masks, np.full(len(masks), 0.5, dtype=np.float32))
    entities = replace(
        found, labels=tuple(colour for colour, _ in things), label_sources=("given",) * len(things)
    )
    [vectors] = EMBEDDER.embed_images([image], [entities])
    rows = np.concatenate([vectors.image[None], vectors.entities])
    return ImageRecord(image_id, WIDTH, HEIGHT, entities, rows)


PICTURES: dict[str, list[tuple[str, Box]]] = {
    "red-blue": [("red", LEFT), ("blue", RIGHT)],
    "blue-red": [("blue", LEFT), ("red", RIGHT)],
    "red-green": [("red", LEFT), ("green", RIGHT)],
    "blue-green": [("blue", LEFT), ("green", RIGHT)],
    "red": [("red", MIDDLE)],
    "blue": [("blue", MIDDLE)],
    "two reds": [("red", LEFT), ("red", RIGHT)],
    "three reds": [("red", LEFT), ("red", MIDDLE), ("red", RIGHT)],
    "yellow": [("yellow", MIDDLE)],
    "small red": [("red", Box(40, 25, 44, 29)), ("yellow", RIGHT)],
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path_factory.mktemp("language") / "data", "write") as opened:
        yield opened


@pytest.fixture(scope="module")
def collection(directory: DataDirectory) -> Collection:
    made = directory.create_collection(collection_spec("colours", EMBEDDER, SEGMENTER))
    made.upsert([record(image_id, things) for image_id, things in PICTURES.items()])
    return made


@pytest.fixture(scope="module")
def engine() -> SearchEngine:
    return SearchEngine(MODELS)


def ids(answer: Answer) -> list[str]:
    return [hit.image_id for hit in answer.hits]


def point(box: Box) -> QueryRegion:
    return QueryRegion(RegionPrompt(points=(Point((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2),)))


# Several regions, several entities


def test_two_regions_find_the_images_that_hold_both(collection: Collection, engine: SearchEngine) -> None:
    query = Query(
        image=picture([("red", LEFT), ("blue", RIGHT)]), regions=(point(LEFT), point(RIGHT)), limit=10
    )
    answer = engine.search(collection, query)
    assert [used.mask.box() for used in answer.regions] == [LEFT, RIGHT]
    assert set(ids(answer)[:2]) == {"red-blue", "blue-red"}
    for hit in answer.hits[:2]:
        assert [match.entity.label for match in hit.matches] == ["red", "blue"]
        assert [match.region for match in hit.matches] == [0, 1]
        assert hit.entity.index == hit.matches[0].entity.index
    # A picture with one thing cannot answer for two.
    assert not {"red", "blue", "yellow"} & set(ids(answer))


def test_the_same_thing_asked_for_twice_is_found_twice(collection: Collection, engine: SearchEngine) -> None:
    answer = engine.search(collection, Query(image_id="red", entities=(0, 0), limit=3))
    assert set(ids(answer)[:2]) == {"two reds", "three reds"}
    assert all(len({match.entity.index for match in hit.matches}) == 2 for hit in answer.hits)


def test_entities_of_an_indexed_image_ask_as_regions_of_its_picture(
    collection: Collection, engine: SearchEngine
) -> None:
    by_id = engine.search(collection, Query(image_id="red-blue", entities=(0, 1), limit=5))
    pixels = picture(PICTURES["red-blue"])
    by_region = engine.search(collection, Query(image=pixels, regions=(point(LEFT), point(RIGHT)), limit=6))
    assert "red-blue" not in ids(by_id)
    assert ids(by_id) == [image_id for image_id in ids(by_region) if image_id != "red-blue"]


class CountedBackbone:
    """The dummy embedder with a backbone, which counts the pictures that it looks at."""

    source = "counted"

    def __init__(self) -> None:
        self.backbone = self
        self.looked = 0
        self.given: list[object] = []

    def __getattr__(self, name: str) -> object:
        return getattr(EMBEDDER, name)

    def features(self, images: Sequence[Image]) -> list[CountedBackbone]:
        self.looked += len(images)
        return [self for _ in images]

    def part(self, source: str) -> None:
        return None

    def embed_query(self, query: EncodableQuery) -> QueryVectors:
        self.given.append(query.features)
        return EMBEDDER.embed_query(query)


def test_several_regions_share_one_look_at_the_pixels(collection: Collection) -> None:
    counted = CountedBackbone()

    class Counted(ModelRegistry):
        def embedder(self, name: str) -> Embedder:
            return cast(Embedder, counted)

    regions = (point(LEFT), point(RIGHT), QueryRegion(RegionPrompt(box=LEFT)))
    query = Query(image=picture(PICTURES["red-blue"]), regions=regions, text="red")
    SearchEngine(Counted()).search(collection, query)
    assert counted.looked == 1
    assert counted.given == [counted] * 3


def test_a_box_is_refined_to_the_thing_within_it_only_when_asked(
    collection: Collection, engine: SearchEngine
) -> None:
    around = RegionPrompt(box=Box(0, 10, 30, 50))
    pixels = picture(PICTURES["red-blue"])
    for refine, box in ((False, Box(0, 10, 30, 50)), (True, LEFT)):
        query = Query(image=pixels, regions=(QueryRegion(around, refine=refine),))
        [used] = engine.search(collection, query).regions
        assert (used.mask.box(), used.prompt.box) == (box, Box(0, 10, 30, 50))


def test_a_region_that_is_wrong_is_named_by_its_place(collection: Collection, engine: SearchEngine) -> None:
    pixels = picture(PICTURES["red-blue"])
    for wrong in (RegionPrompt(points=(Point(500, 5),)), RegionPrompt(points=(Point(1, 1),))):
        with pytest.raises(InvalidRegion) as refused:
            engine.search(collection, Query(image=pixels, regions=(point(LEFT), QueryRegion(wrong))))
        assert refused.value.field == "regions[1]"


# Examples


def test_liked_examples_alone_are_a_query(collection: Collection, engine: SearchEngine) -> None:
    liked = (Example("red-green", 0), Example("red-blue", 0))
    answer = engine.search(collection, Query(liked=liked, limit=4))
    assert set(answer.hits[0].parts) >= {"entity", "global"}
    assert {hit.entity.label for hit in answer.hits} == {"red"}
    assert not {"red-green", "red-blue"} & set(ids(answer))


def test_examples_are_among_the_hits_only_when_asked(collection: Collection, engine: SearchEngine) -> None:
    query = Query(text="red", liked=(Example("two reds"),), disliked=(Example("blue"),), limit=10)
    assert set(ids(engine.search(collection, query))) == set(PICTURES) - {"two reds", "blue"}
    assert set(ids(engine.search(collection, replace(query, include_self=True)))) == set(PICTURES)


def test_words_with_liked_examples_have_the_signals_of_both(
    collection: Collection, engine: SearchEngine
) -> None:
    answer = engine.search(collection, Query(text="red", liked=(Example("blue", 0),)))
    assert set(answer.hits[0].parts) >= {"entity", "global", "text_entity", "text_image"}


def test_disliked_examples_push_their_like_down(collection: Collection, engine: SearchEngine) -> None:
    query = Query(text="red or blue", limit=10)
    before = ids(engine.search(collection, query))
    disliked = replace(query, disliked=(Example("blue", 0),))
    after = engine.search(collection, disliked)
    assert set(after.hits[0].parts) == {"text_entity", "text_image", "objectness"}
    left = [image_id for image_id in before if image_id != "blue"]
    assert ids(after).index("blue-green") >= left.index("blue-green")
    assert ids(after).index("red") <= left.index("red")
    assert after.hits[0].entity.label == "red"


@pytest.mark.parametrize(
    ("query", "error", "field", "words"),
    [
        (Query(liked=(Example("red"), Example("nobody"))), ImageNotFound, "liked[1].image_id", "nobody"),
        (Query(text="red", disliked=(Example("red", 7),)), InvalidRequest, "disliked[0].entity", "0 to 0"),
        (Query(image_id="nobody"), ImageNotFound, "image_id", "nobody"),
        (Query(image_id="red", entities=(3,)), InvalidRequest, "entity", "'red' has 1 entities"),
        (Query(image_id="two reds", entities=(0, 2)), InvalidRequest, "entities[1]", "no 2"),
    ],
)
def test_what_a_query_names_and_the_collection_lacks_is_named(
    collection: Collection, engine: SearchEngine, query: Query, error: type[Exception], field: str, words: str
) -> None:
    with pytest.raises(error, match=words) as refused:
        engine.search(collection, query)
    assert refused.value.field == field  # type: ignore[attr-defined]


# Placement


def test_a_wanted_place_moves_images_up_and_a_strict_one_leaves_the_others_out(
    collection: Collection, engine: SearchEngine
) -> None:
    left = Query(text="red", placements=(Placement(part="left"),), limit=10)
    right = replace(left, placements=(Placement(part="right"),))
    assert "placement" in engine.search(collection, left).hits[0].parts
    by_left, by_right = ids(engine.search(collection, left)), ids(engine.search(collection, right))
    assert by_left.index("red-blue") < by_left.index("blue-red")
    assert by_right.index("blue-red") < by_right.index("red-blue")
    strict = replace(left, placements=(Placement(part="left", label="red", strict=True),))
    assert set(ids(engine.search(collection, strict))) == {
        "red-blue",
        "red-green",
        "two reds",
        "three reds",
    }


def test_size_and_number_are_conditions(collection: Collection, engine: SearchEngine) -> None:
    small = Query(text="red", placements=(Placement(max_area=0.01, strict=True),), limit=10)
    assert ids(engine.search(collection, small)) == ["small red"]
    for least, most, expected in ((2, None, {"two reds", "three reds"}), (2, 2, {"two reds"})):
        wanted = Placement(label="red", min_count=least, max_count=most)
        answer = engine.search(collection, Query(text="red", placements=(wanted,), limit=10))
        assert set(ids(answer)) == expected


def test_a_number_without_a_label_lowers_scores_and_is_a_condition_only_by_request(
    collection: Collection, engine: SearchEngine
) -> None:
    def asked(**placement: Any) -> Answer:
        query = Query(text="red", placements=(Placement(**placement),), limit=10)
        return engine.search(collection, query)

    # Two things that are equally unlike what is asked look alike too.
    several = {"two reds", "three reds", "blue-green"}
    assert set(ids(asked(min_count=2, strict=True))) == several
    for wanted, agreeing in (({"min_count": 2}, several), ({"max_count": 1}, set(PICTURES) - several)):
        agreements = {hit.image_id: hit.parts["placement"].raw for hit in asked(**wanted).hits}
        assert set(agreements) == set(PICTURES)
        assert {image_id for image_id, agreed in agreements.items() if agreed == 1} == agreeing
    three = {hit.image_id: hit.parts["placement"].raw for hit in asked(min_count=3).hits}
    assert 1 == three["three reds"] > three["two reds"] > three["red"] > 0.5


def test_a_ready_vector_can_be_placed_too(collection: Collection, engine: SearchEngine) -> None:
    vector = EMBEDDER.embed_texts(["red"])[0]
    placed = Query(vector=vector, placements=(Placement(part="right", label="red", strict=True),), limit=10)
    assert set(ids(engine.search(collection, placed))) == {"blue-red", "two reds", "three reds"}


# Control


def test_hits_can_be_entities(collection: Collection, engine: SearchEngine) -> None:
    answer = engine.search(collection, Query(text="red", group_by="entity", limit=8))
    reds = [(hit.image_id, hit.entity.index) for hit in answer.hits if hit.entity.label == "red"]
    assert len(reds) == len(set(reds)) == 8
    assert {("three reds", ordinal) for ordinal in range(3)} <= set(reds)


def test_a_thing_that_is_found_whole_and_in_part_is_one_hit(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    found = directory.create_collection(collection_spec("in-parts", EMBEDDER, SEGMENTER))
    inner = Box(LEFT.x0 + 2, LEFT.y0 + 2, LEFT.x1 - 2, LEFT.y1 - 2)
    found.upsert([record("whole and part", [("red", LEFT), ("red", inner), ("red", RIGHT)])])
    query = Query(text="red", group_by="entity", all_entities=3)
    hits = engine.search(found, query).hits
    assert {hit.entity.index for hit in hits} == {0, 2}
    assert all(len(hit.entities) == 2 for hit in hits)


def test_hits_below_the_least_score_are_left_out_and_pages_end_there(
    collection: Collection, engine: SearchEngine
) -> None:
    everything = engine.search(collection, Query(text="red", limit=10)).hits
    least = everything[4].score
    answer = engine.search(collection, Query(text="red", limit=10, min_score=least, candidates=1))
    assert ids(answer) == [hit.image_id for hit in everything if hit.score >= least]
    assert answer.next_page_token == ""


def test_a_page_after_a_write_is_refused_and_says_what_to_do(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    collection = directory.create_collection(collection_spec("written", EMBEDDER, SEGMENTER))
    collection.upsert([record(image_id, things) for image_id, things in PICTURES.items()])
    query = Query(text="red", limit=3)
    token = engine.search(collection, query).next_page_token
    assert len(ids(engine.search(collection, replace(query, page_token=token)))) == 3
    collection.delete(["yellow"])
    with pytest.raises(FailedPrecondition, match="first page"):
        engine.search(collection, replace(query, page_token=token))


def test_a_page_scored_by_other_weights_is_refused(collection: Collection, engine: SearchEngine) -> None:
    query = Query(text="red", limit=3)
    token = engine.search(collection, query).next_page_token
    shipped = shipped_scoring()
    other = replace(shipped, weights={**shipped.weights, "text_entity": 9.0})
    with pytest.raises(FailedPrecondition):
        SearchEngine(MODELS, scoring=other).search(collection, replace(query, page_token=token))


def test_an_engine_scores_with_the_weights_it_is_given_and_names_their_calibration(
    collection: Collection,
) -> None:
    shipped = shipped_scoring()
    weights = {**shipped.weights, "text_image": 0.125}
    calibration = replace(shipped.calibration, version="mine")
    own = SearchEngine(MODELS, scoring=replace(shipped, weights=weights, calibration=calibration))
    answer = own.search(collection, Query(text="red"))
    assert answer.calibration == "mine"
    assert answer.hits[0].parts["text_image"].weight == 0.125


def test_weights_fitted_for_a_kind_of_query_serve_it_when_asked(collection: Collection) -> None:
    shipped = shipped_scoring()
    words = {**shipped.weights, "text_entity": 7.0}
    engine = SearchEngine(MODELS, scoring=replace(shipped, per_kind={"words": words}))
    shown = [
        engine.search(collection, query).hits[0].parts["text_entity"].weight
        for query in (
            Query(text="red"),
            Query(text="red", per_kind_weights=True),
            Query(text="red", image_id="blue", per_kind_weights=True),
            Query(text="red", per_kind_weights=True, weights={"text_entity": 2.0}),
        )
    ]
    usual = shipped.weights["text_entity"]
    assert shown == [usual, 7.0, usual, 2.0]


# Batches


def test_a_batch_is_answered_as_one_by_one_and_a_refused_query_disturbs_nobody(
    collection: Collection, engine: SearchEngine
) -> None:
    queries = [
        Query(text="red"),
        Query(text=" "),
        Query(image_id="blue", text="red"),
        Query(image_id="nobody"),
        Query(image=picture(PICTURES["red-blue"]), regions=(point(LEFT),), text="blue"),
        Query(text="red", limit=2, placements=(Placement(part="left", strict=True),)),
        Query(liked=(Example("red"),)),
        Query(text="something green", group_by="entity"),
    ] * 3
    answers = engine.search_many(collection, queries)
    assert len(answers) == len(queries)
    for query, answer in zip(queries, answers, strict=True):
        if query.text == " " or query.image_id == "nobody":
            assert isinstance(answer, ImageNotFound if query.image_id else InvalidRequest)
            continue
        assert isinstance(answer, Answer)
        alone = engine.search(collection, query)
        assert [(hit.image_id, hit.entity.index, hit.score) for hit in answer.hits] == [
            (hit.image_id, hit.entity.index, hit.score) for hit in alone.hits
        ]
        assert answer.next_page_token == alone.next_page_token


class TogetherEmbedder:
    """The dummy embedder, which remembers what texts it was given together."""

    def __init__(self) -> None:
        self.together: list[list[str]] = []
        self.alone: list[str | None] = []
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> object:
        return getattr(EMBEDDER, name)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.together.append(list(texts))
        return EMBEDDER.embed_texts(texts)

    def embed_query(self, query: EncodableQuery) -> QueryVectors:
        with self._lock:
            self.alone.append(query.text)
        return EMBEDDER.embed_query(query)


def test_texts_of_a_batch_are_embedded_together(collection: Collection) -> None:
    embedder = TogetherEmbedder()

    class Watched(ModelRegistry):
        def embedder(self, name: str) -> Embedder:
            return cast(Embedder, embedder)

    engine = SearchEngine(Watched())
    engine.prepare(collection)
    embedder.together.clear()
    with_pixels = Query(image=picture(PICTURES["red"]), text="pink")
    queries = [Query(text="red"), Query(text="blue"), Query(text="red", limit=3), with_pixels]
    engine.search_many(collection, [*queries, Query(image_id="red", text="green")])
    assert embedder.together == [["red", "blue", "green"]]
    assert embedder.alone == ["pink"]


def test_a_batch_of_nothing_is_answered_with_nothing(collection: Collection, engine: SearchEngine) -> None:
    assert engine.search_many(collection, []) == []


# Pages of what is read again


@pytest.mark.parametrize("top_n", [2, 5, 30])
@pytest.mark.parametrize("group_by", ["image", "entity"])
def test_pages_of_hits_that_are_read_again_are_slices_of_one_ranking(
    directory: DataDirectory, engine: SearchEngine, top_n: int, group_by: GroupBy
) -> None:
    name = f"originals-{top_n}-{group_by}"
    collection = directory.create_collection(collection_spec(name, EMBEDDER, SEGMENTER, pixels="original"))
    kept = {image_id: png_of(picture(things)) for image_id, things in PICTURES.items()}
    collection.upsert(
        [replace(record(image_id, PICTURES[image_id]), pixels=pixels) for image_id, pixels in kept.items()]
    )
    query = Query(image_id="red-blue", entities=(0,), limit=30, group_by=group_by, rerank=Rerank(top_n=top_n))
    whole = engine.search(collection, query)
    assert whole.next_page_token == ""
    together, token = [], ""
    while True:
        answer = engine.search(collection, replace(query, limit=3, page_token=token))
        together += answer.hits
        token = answer.next_page_token
        if not token:
            break
    assert [(hit.image_id, hit.entity.index) for hit in together] == [
        (hit.image_id, hit.entity.index) for hit in whole.hits
    ]
    assert sum(hit.rerank is not None for hit in together) == min(top_n, len(together))
