"""Looking closer at what words may mean: what it finds, and what it refuses."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PilImage

from regionsearch.collection import Collection, DataDirectory, ImageRecord
from regionsearch.entities import Entities
from regionsearch.errors import FailedPrecondition, InvalidRequest
from regionsearch.images import Image
from regionsearch.ingest import collection_spec
from regionsearch.models.dummy import COLOURS, DummyEmbedder
from regionsearch.models.embedder import Embedder, ModelInput
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, Mask, RegionPrompt
from regionsearch.search import Example, Hit, Query, QueryRegion, Rerank, SearchEngine, closer_look
from regionsearch.search.closer_look import LEADERS, likeness


class CloseUpDummy(DummyEmbedder):
    """The dummy, shown the pixels of each box by themselves."""

    def embed_close_ups(self, image: Image, boxes: Sequence[Box]) -> NDArray[np.float32]:
        within = [box.clip(image.height, image.width) for box in boxes]
        shown = [image.pixels[round(b.y0) : round(b.y1), round(b.x0) : round(b.x1)] for b in within]
        return self.embed_inputs([ModelInput(Image(np.ascontiguousarray(pixels))) for pixels in shown])


class CloseUpModels(ModelRegistry):
    def __init__(self) -> None:
        super().__init__()
        self._dummy = CloseUpDummy()

    def embedder(self, name: str) -> Embedder:
        return self._dummy if name == "dummy" else super().embedder(name)


MODELS = CloseUpModels()
EMBEDDER = MODELS.embedder("dummy")
SEGMENTER = MODELS.segmenter("dummy")
CLOSER = Rerank("closer", top_n=50)


def picture(colour: str, things: Sequence[tuple[str, Box]] = (), scale: int = 1) -> Image:
    pixels = np.full((40 * scale, 60 * scale, 3), COLOURS[colour], dtype=np.uint8)
    for name, box in things:
        x0, y0, x1, y1 = (int(value) * scale for value in box.as_tuple())
        pixels[y0:y1, x0:x1] = COLOURS[name]
    return Image(pixels)


def record_of(image_id: str, indexed: Image, kept: Image, boxes: Sequence[Box]) -> ImageRecord:
    """An image whose vectors were made of other pixels than those that are kept of it."""
    masks = [Mask.from_box(box, indexed.height, indexed.width) for box in boxes]
    entities = Entities.from_masks(masks, np.full(len(masks), 0.5, dtype=np.float32))
    [vectors] = EMBEDDER.embed_images([indexed], [entities])
    target = io.BytesIO()
    PilImage.fromarray(kept.pixels).save(target, "PNG")
    return ImageRecord(
        image_id,
        indexed.width,
        indexed.height,
        entities,
        np.concatenate([vectors.image[None], vectors.entities]),
        pixels=target.getvalue(),
    )


LEFT, RIGHT = Box(4, 6, 24, 34), Box(34, 6, 56, 34)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path_factory.mktemp("closer") / "data", "write") as opened:
        yield opened


@pytest.fixture(scope="module")
def collection(directory: DataDirectory) -> Collection:
    """Ten images that were indexed alike, as something that is half red; the kept pixels of `07` alone show
    a thing that is red indeed, those of the others one that is not."""
    made = directory.create_collection(collection_spec("photos", EMBEDDER, SEGMENTER, pixels="original"))
    things = [("red", LEFT), ("blue", Box(14, 6, 24, 34)), ("green", RIGHT)]
    for number in range(10):
        shown = "red" if number == 7 else "blue"
        # One is kept at half its size.
        scale = 2 if number == 3 else 1
        boxes = [Box(*(scale * side for side in box.as_tuple())) for box in (LEFT, RIGHT)]
        indexed, kept = picture("white", things, scale), picture("white", [(shown, LEFT), ("green", RIGHT)])
        made.upsert([record_of(f"{number:02}", indexed, kept, boxes)])
    return made


@pytest.fixture(scope="module")
def engine() -> SearchEngine:
    return SearchEngine(MODELS)


def read(hits: Sequence[Hit]) -> dict[str, float]:
    return {hit.image_id: hit.rerank.raw for hit in hits if hit.rerank is not None}


def test_the_image_that_shows_what_the_words_say_when_looked_at_closely_leads(
    collection: Collection, engine: SearchEngine
) -> None:
    plain = engine.search(collection, Query(text="red", limit=10))
    assert [hit.image_id for hit in plain.hits] == [f"{number:02}" for number in range(10)]
    answer = engine.search(collection, Query(text="red", limit=10, rerank=CLOSER))
    assert answer.hits[0].image_id == "07"
    assert [hit.image_id for hit in answer.hits[1:]] == [
        f"{number:02}" for number in range(10) if number != 7
    ]
    assert answer.hits[0].score > plain.hits[0].score
    raw = read(answer.hits)
    assert raw.pop("07") == pytest.approx(1.0, abs=1e-6)
    # Also in 03, where things are looked for where they lie in what is kept.
    assert raw == pytest.approx(dict.fromkeys(raw, 0.0), abs=1e-6)
    assert all(hit.rerank is not None and hit.rerank.weight == 1.5 for hit in answer.hits)


def test_images_beyond_those_looked_at_follow_in_their_joint_order(
    collection: Collection, engine: SearchEngine
) -> None:
    answer = engine.search(collection, Query(text="red", limit=10, rerank=Rerank("closer", top_n=4)))
    assert [hit.image_id for hit in answer.hits[4:]] == [f"{number:02}" for number in range(4, 10)]
    assert sorted(read(answer.hits)) == ["00", "01", "02", "03"]


@pytest.mark.parametrize(
    "query",
    [
        Query(image=picture("red")),
        Query(image=picture("red"), text="red"),
        Query(image=picture("red"), regions=(QueryRegion(RegionPrompt(box=LEFT)),)),
        Query(image_id="03", text="red"),
        Query(text="red", liked=(Example("03"),)),
        Query(text="red", group_by="entity"),
    ],
    ids=["picture", "picture and words", "region", "by id", "example", "entities"],
)
def test_all_but_words_for_images_are_refused(
    collection: Collection, engine: SearchEngine, query: Query
) -> None:
    with pytest.raises(InvalidRequest, match="closer") as refused:
        engine.search(collection, replace(query, rerank=CLOSER))
    assert refused.value.field == "rerank.method"


def test_an_embedder_that_cannot_look_closer_is_named(collection: Collection) -> None:
    with pytest.raises(FailedPrecondition, match=r"'dummy'.*closer.*pairwise") as refused:
        SearchEngine(ModelRegistry()).search(collection, Query(text="red", rerank=CLOSER))
    assert refused.value.field == "rerank.method"


def test_a_collection_without_pixels_cannot_be_looked_at_closer(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    made = directory.create_collection(collection_spec("bare", EMBEDDER, SEGMENTER, pixels="none"))
    with pytest.raises(FailedPrecondition, match="'bare' keeps no pixels"):
        engine.search(made, Query(text="red", rerank=CLOSER))


def test_a_thing_whose_given_box_lies_outside_its_image_is_looked_at_where_its_mask_is(
    directory: DataDirectory, engine: SearchEngine
) -> None:
    made = directory.create_collection(collection_spec("astray", EMBEDDER, SEGMENTER, pixels="original"))
    image = picture("white", [("red", LEFT)])
    record = record_of("astray", image, image, [LEFT])
    boxes = record.entities.boxes + np.float32(1000)
    made.upsert([replace(record, entities=replace(record.entities, boxes=boxes))])
    answer = engine.search(made, Query(text="red", rerank=CLOSER))
    assert read(answer.hits)["astray"] == pytest.approx(1.0, abs=1e-6)


class CountingDummy(CloseUpDummy):
    """Says how many images were looked at together, at most."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._now = 0
        self.together = 0

    def embed_close_ups(self, image: Image, boxes: Sequence[Box]) -> NDArray[np.float32]:
        with self._lock:
            self._now += 1
            self.together = max(self.together, self._now)
        time.sleep(0.02)
        try:
            return super().embed_close_ups(image, boxes)
        finally:
            with self._lock:
                self._now -= 1


@pytest.mark.parametrize(("megapixels", "together"), [(0.02, 2), (0.001, 1)])
def test_no_more_images_are_decoded_together_than_memory_and_cores_allow(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, megapixels: float, together: int
) -> None:
    monkeypatch.setattr(closer_look.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(closer_look, "PIXELS_AT_ONCE", int(megapixels * 1e6))
    counting = CountingDummy()
    ids = [f"{number:02}" for number in range(10)]
    records = [collection.get(image_id) for image_id in ids]
    [text] = counting.embed_texts(["red"])
    reading = closer_look.look_closer(collection, counting, text, 0.1, records, np.zeros(10), 1.5)
    assert len(reading.places) == 10
    assert 1 <= counting.together <= together


unit_rows = st.integers(0, 2**32 - 1)


@given(unit_rows, st.integers(1, 25), st.integers(2, 6))
def test_likeness_is_to_the_leaders_matches_without_ones_own(seed: int, images: int, dimension: int) -> None:
    generator = np.random.default_rng(seed)

    def units(rows: int) -> NDArray[np.float64]:
        drawn = generator.standard_normal((rows, dimension))
        return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), dtype=np.float64)

    entities = [units(int(generator.integers(1, 5))) for _ in range(images)]
    [text] = units(1)
    sums = generator.standard_normal(images)
    found = likeness(entities, text, sums)

    leaders = sorted(range(images), key=lambda image: -sums[image])[:LEADERS]
    for image in range(images):
        mean = np.zeros(dimension)
        for rank, leader in enumerate(leaders, start=1):
            if leader != image:
                best = max(entities[leader], key=lambda vector: float(vector @ text))
                mean += best / rank**0.5
        length = np.linalg.norm(mean)
        if images == 1:
            assert found[image] == 0
        elif length > 1e-5:
            assert found[image] == pytest.approx(max(float(v @ mean) for v in entities[image]) / length)
