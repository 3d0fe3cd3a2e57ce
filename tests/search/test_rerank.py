"""The third phase: what reading the best again does to an answer, and what it refuses."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PilImage

from regionsearch.collection import Collection, DataDirectory, ImageRecord
from regionsearch.entities import Entities
from regionsearch.errors import FailedPrecondition
from regionsearch.images import Image, thumbnail_jpeg
from regionsearch.ingest import collection_spec
from regionsearch.ingest.pipeline import EncodedImage, Pipeline
from regionsearch.ingest.upserting import upsert_images
from regionsearch.models.dummy import COLOURS
from regionsearch.models.embedder import ModelInput
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, Mask, Point, RegionPrompt
from regionsearch.search import Answer, Hit, Query, QueryRegion, Rerank, SearchEngine, rerank
from regionsearch.search.joint_scoring import ranking
from regionsearch.search.query import PART_NAMES, STAGES, RerankMethod
from regionsearch.search.rerank import Reading, entity_region

MODELS = ModelRegistry()
EMBEDDER = MODELS.embedder("dummy")
SEGMENTER = MODELS.segmenter("dummy")
NAMES = [name for name in COLOURS if name != "white"]


def flat(things: Sequence[tuple[str, tuple[int, int, int, int]]], ground: str = "white") -> Image:
    """60 × 40 pixels with coloured boxes [x0, y0, x1, y1)."""
    pixels = np.full((40, 60, 3), COLOURS[ground], dtype=np.uint8)
    for colour, (x0, y0, x1, y1) in things:
        pixels[y0:y1, x0:x1] = COLOURS[colour]
    return Image(pixels)


def png_of(image: Image) -> bytes:
    target = io.BytesIO()
    PilImage.fromarray(image.pixels).save(target, "PNG")
    return target.getvalue()


def record_of(image_id: str, image: Image, boxes: Sequence[Box], pixels: bytes | None) -> ImageRecord:
    masks = [Mask.from_box(box, image.height, image.width) for box in boxes]
    entities = Entities.from_masks(masks, np.full(len(masks), 0.5, dtype=np.float32))
    [vectors] = EMBEDDER.embed_images([image], [entities])
    return ImageRecord(
        image_id,
        image.width,
        image.height,
        entities,
        np.concatenate([vectors.image[None], vectors.entities]),
        pixels=pixels,
    )


def drawn(number: int) -> Image:
    """Two things whose colours tell the number, the second one growing with it."""
    first, second = NAMES[number % 12], NAMES[(number // 3 + 5) % 12]
    return flat([(first, (4, 6, 22, 30)), (second, (30, 4, 40 + number % 16, 36))])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path_factory.mktemp("rerank") / "data", "write") as opened:
        yield opened


@pytest.fixture(scope="module")
def collection(directory: DataDirectory) -> Collection:
    """Seventy pictures with all their pixels, indexed as any others."""
    made = directory.create_collection(collection_spec("photos", EMBEDDER, SEGMENTER, pixels="original"))
    pipeline = Pipeline(EMBEDDER, SEGMENTER, pixels="original")
    images = [EncodedImage(f"{number:03}", png_of(drawn(number))) for number in range(70)]
    assert len(upsert_images(made, pipeline, images).stored) == 70
    return made


@pytest.fixture(scope="module")
def engine() -> SearchEngine:
    return SearchEngine(MODELS)


BOX = QueryRegion(RegionPrompt(box=Box(4, 6, 22, 30)))
QUESTIONS = [
    Query(image=drawn(3), regions=(BOX,)),
    Query(
        image=drawn(7), regions=(QueryRegion(RegionPrompt(points=(Point(10, 10),))),), text="something blue"
    ),
    Query(image=drawn(9)),
    Query(text="a red thing"),
    Query(image_id="012", entities=(1,)),
    Query(image_id="020", text="yellow"),
]


def asked(query: Query, limit: int, again: Rerank | None) -> Query:
    return replace(query, limit=limit, rerank=again)


def weighted_sum(hit: Hit) -> float:
    return sum(part.weight * part.standardised for part in hit.parts.values())


def logit(score: float) -> float:
    return float(np.log(score / (1 - score)))


def ids(answer: Answer) -> list[str]:
    return [hit.image_id for hit in answer.hits]


# The merge of the two orders

# Few different values, so that ties happen.
tied = st.sampled_from([-1.5, 0.0, 0.25, 0.25, 1.0, 3.0])
joint_sums = st.lists(st.one_of(tied, st.floats(-30, 30)), min_size=1, max_size=40)


@given(joint_sums, st.integers(1, 45), st.floats(0.01, 1000), st.data())
def test_the_images_read_again_lead_in_their_new_order_and_the_rest_follow_in_their_old_one(
    sums: list[float], top_n: int, weight: float, data: st.DataObject
) -> None:
    names = data.draw(st.permutations([f"{number:02}" for number in range(len(sums))]))
    totals = np.array(sums)
    before = ranking(totals, names)
    n = min(top_n, len(before))
    cosines = data.draw(st.lists(st.one_of(tied, st.floats(-1, 1)), min_size=n, max_size=n))
    reading = Reading(np.array(before[:n]), np.array(cosines))
    after = reading.added_to(totals, weight)
    order = ranking(after, names)

    assert set(order[:n]) == set(before[:n])
    assert order[n:] == before[n:]
    # The oracle of the first n: each one's own sum, spelt out.
    deviation = max(float(np.std(cosines)), 0.01)
    sum_of = {
        place: sums[place] + weight * ((cosine - min(cosines)) / deviation)
        for place, cosine in zip(before[:n], cosines, strict=True)
    }
    assert order[:n] == sorted(before[:n], key=lambda place: (-sum_of[place], names[place]))
    assert [after[place] for place in order] == sorted(after, reverse=True)
    assert (after >= totals).all()


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_a_reading_that_finds_all_equal_changes_nothing(sums: list[float]) -> None:
    places = np.arange(len(sums))
    raised = Reading(places, np.full(len(sums), 0.37)).added_to(np.array(sums), 5.0)
    assert raised.tolist() == sums


# Whole searches


@pytest.mark.parametrize("query", QUESTIONS, ids=["box", "point + text", "image", "text", "entity", "by id"])
@pytest.mark.parametrize(("limit", "top_n"), [(10, 32), (40, 7), (5, 1), (70, 70), (3, 256)])
def test_an_answer_read_again_is_full_ordered_and_explained(
    collection: Collection, engine: SearchEngine, query: Query, limit: int, top_n: int
) -> None:
    plain = engine.search(collection, asked(query, 70, None))
    answer = engine.search(collection, asked(query, limit, Rerank(top_n=top_n)))
    assert len(set(ids(answer))) == len(answer.hits) == min(limit, len(plain.hits))
    read = [hit for hit in answer.hits if hit.rerank is not None]
    assert len(read) == min(limit, top_n, len(plain.hits))
    assert list(answer.hits[: len(read)]) == read
    assert ids(answer)[top_n:] == ids(plain)[top_n:limit]
    joint = {hit.image_id: (rank, hit.score) for rank, hit in enumerate(plain.hits, start=1)}
    sums, scores = [weighted_sum(hit) for hit in plain.hits], [logit(hit.score) for hit in plain.hits]
    slope, intercept = np.polyfit(sums, scores, 1)
    keys = [(-hit.score, hit.image_id) for hit in answer.hits]
    assert [score for score, _ in keys] == sorted(score for score, _ in keys)
    for hit in answer.hits:
        total = weighted_sum(hit)
        if hit.rerank is None:
            assert (joint[hit.image_id][1]) == hit.score
        else:
            assert (hit.rerank.joint_rank, hit.rerank.joint_score) == joint[hit.image_id]
            assert hit.rerank.standardised >= 0
            total += hit.rerank.weight * hit.rerank.standardised
        # The calibration of the sums, as the answer without reading shows it.
        assert logit(hit.score) == pytest.approx(intercept + slope * total, abs=1e-6)
        assert set(hit.parts) <= set(PART_NAMES)
    assert answer.timing_ms["rerank"] > 0
    assert plain.timing_ms["rerank"] == 0
    assert set(answer.timing_ms) == set(STAGES)


@pytest.mark.parametrize("method", ["pairwise", "pairwise_instructed"])
def test_the_reading_is_the_cosine_of_both_sides_as_the_model_reads_them(
    collection: Collection, engine: SearchEngine, method: RerankMethod
) -> None:
    query = asked(QUESTIONS[1], 20, Rerank(method, top_n=20))
    said = query.text if method == "pairwise_instructed" else None
    answer = engine.search(collection, query)
    used = RegionPrompt(mask=answer.regions[0].mask)
    [question] = EMBEDDER.embed_inputs([ModelInput(query.image, query.text, used)])
    for hit in answer.hits:
        picture = drawn(int(hit.image_id))
        candidate = ModelInput(picture, said, RegionPrompt(mask=hit.entity.mask))
        [vector] = EMBEDDER.embed_inputs([candidate])
        assert hit.rerank is not None
        assert hit.rerank.raw == pytest.approx(float(question @ vector), abs=1e-6)


def test_a_thing_that_is_what_region_and_words_say_together_rises(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    """Asked with a red region and the word `blue`. The image `apart` has a red thing, and blue around it:
    joint scoring gives it every point for the region (`entity`) and for the words about the image
    (`text_image`). The flag is one thing that is red and blue, on white; half right in every part. The
    pairwise reading takes region and words as one and finds that no thing in `apart` is both."""
    made = directory.create_collection(collection_spec("flags", EMBEDDER, SEGMENTER, pixels="original"))
    flag = flat([("red", (20, 10, 30, 30)), ("blue", (30, 10, 40, 30))])
    apart = flat([("red", (20, 10, 40, 30))], ground="blue")
    plain = flat([("green", (20, 10, 40, 30))])
    made.upsert(
        [
            record_of(name, image, [Box(20, 10, 40, 30)], png_of(image))
            for name, image in (("flag", flag), ("apart", apart), ("plain", plain))
        ]
    )
    source = flat([("red", (10, 10, 30, 30))], ground="blue")
    region = QueryRegion(RegionPrompt(box=Box(10, 10, 30, 30)))
    # What joint scoring thinks of such a case hangs on its weights, which are fitted to photos.
    weights = {"entity": 1.0, "global": 0.25, "text_entity": 1.25, "text_image": 0.5}
    query = Query(image=source, regions=(region,), text="blue", limit=3, weights=weights)
    assert ids(engine.search(made, query)) == ["apart", "flag", "plain"]
    again = asked(query, 3, Rerank(weight=4.0))
    answer = engine.search(made, again)
    assert ids(answer) == ["flag", "apart", "plain"]
    readings = {hit.image_id: hit.rerank.raw for hit in answer.hits if hit.rerank is not None}
    assert readings == pytest.approx({"flag": 1.0, "apart": 0.5**0.5, "plain": 0.0}, abs=1e-6)


@pytest.mark.parametrize(
    "query",
    [
        Query(image=drawn(3), regions=(QueryRegion(RegionPrompt(box=Box(4, 6, 40, 30))),)),
        Query(image_id="07", entities=(0,)),
        Query(text="a red thing"),
    ],
    ids=["box", "indexed entity", "text"],
)
def test_from_the_pixels_that_were_indexed_pairwise_says_a_stored_signal_once_more(
    directory: DataDirectory, engine: SearchEngine, query: Query
) -> None:
    """A region, or words, against the entity as it was indexed: joint scoring had that cosine already."""
    name = f"mixed-{'text' if query.text else query.image_id or 'box'}"
    made = directory.create_collection(collection_spec(name, EMBEDDER, SEGMENTER, pixels="original"))
    # Things of several colours, so that cosines are not 0 or 1.
    for number in range(20):
        image = drawn(number)
        boxes = [Box(6, 8, 25 + number, 34), Box(1, 1, 10 + number, 39)]
        made.upsert([record_of(f"{number:02}", image, boxes, png_of(image))])
    hits = engine.search(made, asked(query, 19, Rerank(top_n=19))).hits
    read = {hit.image_id: hit.rerank.raw for hit in hits if hit.rerank is not None}
    assert len(read) == 19
    assert len({round(raw, 4) for raw in read.values()}) > 2

    def stored(hit: Hit) -> float:
        if query.text is None:
            return hit.matches[0].raw
        entities = made.get(hit.image_id).vectors[1:]
        return float(entities[hit.entity.index] @ EMBEDDER.embed_texts([query.text])[0])

    assert read == pytest.approx({hit.image_id: stored(hit) for hit in hits}, abs=1e-6)


def test_read_with_the_words_a_candidate_need_only_show_what_they_do_not_say(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    """Asked with a red region and the word `blue`. Read as it is stored, the thing that is half red and
    half blue is what was asked, and the red one is half of it. This model adds words to pixels, so read
    with `blue` as well every candidate has the blue that was said: the red one then has all of it, and the
    flag more blue than was asked."""
    made = directory.create_collection(collection_spec("told", EMBEDDER, SEGMENTER, pixels="original"))
    pictures = {
        "flag": flat([("red", (20, 10, 30, 30)), ("blue", (30, 10, 40, 30))]),
        "green": flat([("green", (20, 10, 40, 30))]),
        "red": flat([("red", (20, 10, 40, 30))]),
    }
    made.upsert([record_of(name, it, [Box(20, 10, 40, 30)], png_of(it)) for name, it in pictures.items()])
    region = QueryRegion(RegionPrompt(box=Box(20, 10, 40, 30)))
    query = Query(image=pictures["red"], regions=(region,), text="blue", limit=3)

    def read(method: RerankMethod) -> dict[str, float]:
        answer = engine.search(made, asked(query, 3, Rerank(method, weight=1000)))
        return {hit.image_id: hit.rerank.raw for hit in answer.hits if hit.rerank is not None}

    stored, told = read("pairwise"), read("pairwise_instructed")
    assert list(stored) == ["flag", "red", "green"]
    assert stored == pytest.approx({"flag": 1.0, "red": 0.5**0.5, "green": 0.0}, abs=1e-6)
    assert list(told) == ["red", "flag", "green"]
    # Red at 0° and blue at 90°: asked at 45°; the flag, with the blue that was said, at 67.5°.
    assert told == pytest.approx({"red": 1.0, "flag": np.cos(np.pi / 8), "green": 0.5}, abs=1e-6)


def test_the_same_question_read_again_twice_gets_the_same_answer(
    collection: Collection, engine: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = asked(QUESTIONS[1], 30, Rerank(top_n=25))
    first = engine.search(collection, query)
    # However few pictures the model is handed at once.
    monkeypatch.setattr(rerank, "PIXELS_AT_ONCE", 3 * 40 * 60)
    second = SearchEngine(MODELS).search(collection, query)
    assert [(h.image_id, h.score, h.rerank) for h in first.hits] == [
        (h.image_id, h.score, h.rerank) for h in second.hits
    ]


def test_thumbnails_are_read_with_regions_of_their_size(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    made = directory.create_collection(collection_spec("thumbs", EMBEDDER, SEGMENTER, pixels="thumbnail"))
    colours = ["red", "green", "purple", "yellow", "cyan"]
    for colour in colours:
        pixels = np.full((480, 640, 3), COLOURS["blue"], dtype=np.uint8)
        pixels[40:200, 320:600] = COLOURS[colour]
        image = Image(pixels)
        made.upsert([record_of(colour, image, [Box(320, 40, 600, 200)], thumbnail_jpeg(image))])
    query = Query(text="green", limit=5, rerank=Rerank(top_n=5))
    read = {hit.image_id: hit.rerank.raw for hit in engine.search(made, query).hits if hit.rerank}
    # A region in the pixels of the original would show nothing but the ground, or leave the thumbnail.
    assert read["green"] > 0.99
    assert max(raw for name, raw in read.items() if name != "green") < 0.1


def test_what_is_thinner_than_a_pixel_of_the_thumbnail_keeps_the_one_it_lies_in() -> None:
    image = Image(np.zeros((1000, 800, 3), dtype=np.uint8))
    record = record_of("thin", image, [Box(13, 20, 14, 900)], None)
    region = entity_region(record, 0, Image(np.zeros((100, 80, 3), dtype=np.uint8)))
    assert region.mask is not None
    assert region.mask.box().as_tuple() == (1, 2, 2, 90)


def test_a_collection_without_pixels_says_what_it_needs(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    made = directory.create_collection(collection_spec("bare", EMBEDDER, SEGMENTER, pixels="none"))
    with pytest.raises(FailedPrecondition, match=r"'bare' keeps no pixels.*`original`") as refused:
        engine.search(made, Query(text="red", rerank=Rerank()))
    assert refused.value.field == "rerank"


@pytest.mark.parametrize("pixels", [None, b"no picture", png_of(drawn(0))[:90]])
def test_an_image_that_cannot_be_read_again_is_named(
    directory: DataDirectory, engine: SearchEngine, pixels: bytes | None
) -> None:
    name = f"damaged-{0 if pixels is None else len(pixels)}"
    made = directory.create_collection(collection_spec(name, EMBEDDER, SEGMENTER, pixels="original"))
    boxes = [Box(4, 6, 22, 30)]
    made.upsert([record_of("sound", drawn(1), boxes, png_of(drawn(1)))])
    made.upsert([record_of("the/broken one", drawn(0), boxes, pixels)])
    assert len(engine.search(made, Query(text="red")).hits) == 2
    for query in (Query(text="red", rerank=Rerank()), Query(image_id="the/broken one", rerank=Rerank())):
        with pytest.raises(FailedPrecondition, match="'the/broken one'"):
            engine.search(made, query)


def test_answers_stay_full_while_images_that_are_read_again_are_replaced(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    made = directory.create_collection(collection_spec("busy", EMBEDDER, SEGMENTER, pixels="original"))
    boxes = [Box(4, 6, 22, 30), Box(30, 4, 40, 36)]
    records = [
        record_of(f"{number % 8}", drawn(number), boxes[: 1 + number % 2], png_of(drawn(number)))
        for number in range(32)
    ]
    made.upsert(records[:8])
    done = threading.Event()

    def replace_all_the_time() -> None:
        place = 0
        while not done.is_set():
            made.upsert([records[place % len(records)]])
            place += 1

    writer = threading.Thread(target=replace_all_the_time)
    writer.start()
    try:
        query = Query(text="red", limit=8, rerank=Rerank(top_n=8))
        sizes = [len(engine.search(made, query).hits) for _ in range(60)]
    finally:
        done.set()
        writer.join()
    assert set(sizes) == {8}


# Pages of what is read again


@pytest.mark.parametrize("limit", [3, 5])
@pytest.mark.parametrize("query", QUESTIONS)
def test_what_a_later_page_finds_does_not_push_in_among_what_was_read_again(
    collection: Collection, engine: SearchEngine, query: Query, limit: int
) -> None:
    """With one candidate an arm, the best images are often found when a later page is asked for."""
    narrow = replace(query, candidates=1, preset="fast", limit=limit, rerank=Rerank(top_n=limit + 1))
    together: list[str] = []
    token = ""
    for _ in range(4):
        answer = engine.search(collection, replace(narrow, page_token=token))
        together += ids(answer)
        token = answer.next_page_token
    assert len(set(together)) == len(together) == 4 * limit
