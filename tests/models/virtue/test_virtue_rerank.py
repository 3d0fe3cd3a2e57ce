"""Reading the best again with VIRTUE: both sides in the words that it was trained on."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage
from tiny_virtue import write_tiny_virtue

from regionsearch.collection import Collection, DataDirectory
from regionsearch.errors import NotAccepted
from regionsearch.images import Image
from regionsearch.ingest import collection_spec
from regionsearch.ingest.pipeline import EncodedImage, Pipeline
from regionsearch.ingest.upserting import upsert_images
from regionsearch.models.embedder import ModelInput
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, Mask, Point, RegionPrompt
from regionsearch.search import Query, QueryRegion, Rerank, SearchEngine

COLOURS = [(220, 20, 20), (20, 160, 40), (20, 40, 220)]
MODELS = ModelRegistry(1)


def picture(number: int) -> Image:
    pixels = np.full((60, 84, 3), 255, dtype=np.uint8)
    pixels[10:40, 8:40] = COLOURS[number % 3]
    pixels[20:50, 50:80] = COLOURS[(number + 1) % 3]
    return Image(pixels)


@pytest.fixture(scope="module")
def embedder_name(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_virtue(tmp_path_factory.mktemp("virtue") / "tiny"))


@pytest.fixture(scope="module")
def collection(embedder_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    embedder, segmenter = MODELS.embedder(embedder_name), MODELS.segmenter("dummy")
    with DataDirectory(Path(tmp_path_factory.mktemp("virtue-rerank")) / "data", "write") as directory:
        made = directory.create_collection(collection_spec("c", embedder, segmenter, pixels="original"))
        images = []
        for number in range(2):
            coded = io.BytesIO()
            PilImage.fromarray(picture(number).pixels).save(coded, "PNG")
            images.append(EncodedImage(f"{number}", coded.getvalue()))
        assert len(upsert_images(made, Pipeline(embedder, segmenter, pixels="original"), images).stored) == 2
        yield made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("region", "said"),
    [
        (RegionPrompt(box=Box(8, 10, 40, 40)), "Referring object bbox: [8, 10, 40, 40]"),
        (RegionPrompt(points=(Point(20, 20),)), "Referring object point: (20, 20)"),
    ],
)
def test_both_sides_are_read_in_the_words_of_training(
    collection: Collection, embedder_name: str, region: RegionPrompt, said: str
) -> None:
    embedder = MODELS.embedder(embedder_name)
    query = Query(
        image=picture(0), regions=(QueryRegion(region),), text="the same, but blue", limit=2, rerank=Rerank()
    )
    hits = SearchEngine(MODELS).search(collection, query).hits
    inputs = [ModelInput(picture(0), f"<|image_pad|>\nthe same, but blue\n{said}", region)]
    for hit in hits:
        box = Box(*hit.entity.box)
        corners = [int(value) for value in hit.entity.box]
        words = (
            "<|image_pad|>\nFind the caption that best describes the segmented object, considering both "
            f"local details and global context in the given image.\nReferring object bbox: {corners}"
        )
        inputs.append(ModelInput(picture(int(hit.image_id)), words, RegionPrompt(box=box)))
    question, *candidates = embedder.embed_inputs(inputs)
    for hit, candidate in zip(hits, candidates, strict=True):
        assert hit.rerank is not None
        assert hit.rerank.raw == pytest.approx(float(question @ candidate), abs=1e-5)


@pytest.mark.slow
def test_instructed_candidates_are_read_with_the_words_of_the_question(
    collection: Collection, embedder_name: str
) -> None:
    embedder = MODELS.embedder(embedder_name)
    region = RegionPrompt(box=Box(8, 10, 40, 40))
    again = Rerank("pairwise_instructed")
    query = Query(
        image=picture(0), regions=(QueryRegion(region),), text="the same, but blue", limit=2, rerank=again
    )
    hits = SearchEngine(MODELS).search(collection, query).hits
    inputs = [ModelInput(picture(0), asked_words([8, 10, 40, 40]), region)]
    for hit in hits:
        words = asked_words([int(value) for value in hit.entity.box])
        inputs.append(ModelInput(picture(int(hit.image_id)), words, RegionPrompt(box=Box(*hit.entity.box))))
    question, *candidates = embedder.embed_inputs(inputs)
    for hit, candidate in zip(hits, candidates, strict=True):
        assert hit.rerank is not None
        assert hit.rerank.raw == pytest.approx(float(question @ candidate), abs=1e-5)


def asked_words(corners: list[int]) -> str:
    return f"<|image_pad|>\nthe same, but blue\nReferring object bbox: {corners}"


@pytest.mark.slow
def test_a_box_read_again_is_the_stored_signal_and_a_mask_is_asked_as_its_box(
    collection: Collection,
) -> None:
    """Joint scoring asks a mask as SAM's mask; where things are read as in training, it is a box, as the
    entities were. That is something new."""
    corner = np.zeros((60, 84), dtype=np.bool_)
    corner[10:40, 8:12] = corner[36:40, 8:40] = True
    readings = {}
    for name, region in (
        ("box", RegionPrompt(box=Box(8, 10, 40, 40))),
        ("mask", RegionPrompt(mask=Mask.from_array(corner))),
    ):
        query = Query(image=picture(0), regions=(QueryRegion(region),), limit=2, rerank=Rerank())
        hits = sorted(SearchEngine(MODELS).search(collection, query).hits, key=lambda hit: hit.image_id)
        readings[name] = [
            (hit.entity.index, hit.rerank.raw, hit.matches[0].raw) for hit in hits if hit.rerank
        ]
    assert len(readings["box"]) == len(readings["mask"]) == 2
    for (entity, raw, stored), (other, asked, joint) in zip(readings["box"], readings["mask"], strict=True):
        assert raw == pytest.approx(stored, abs=1e-5)
        assert abs(asked - joint) > 1e-4
        if entity == other:
            assert asked == pytest.approx(raw, abs=1e-5)


def test_a_region_that_virtue_cannot_read_is_refused_before_anything_is_read(
    collection: Collection,
) -> None:
    region = RegionPrompt(points=(Point(20, 20), Point(30, 30)))
    with pytest.raises(NotAccepted, match="point"):
        SearchEngine(MODELS).search(
            collection, Query(image=picture(0), regions=(QueryRegion(region),), rerank=Rerank())
        )
