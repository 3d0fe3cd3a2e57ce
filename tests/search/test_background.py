"""Statistics of a collection that was stored before some of the signals were measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from regionsearch.collection import Collection, DataDirectory, ImageRecord
from regionsearch.entities import Entities
from regionsearch.images import Image
from regionsearch.ingest import collection_spec
from regionsearch.models.dummy import COLOURS
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, Mask
from regionsearch.search import Placement, Query, SearchEngine
from regionsearch.search.background import UNMEASURED

MODELS = ModelRegistry()


def filled(directory: DataDirectory, images: int) -> Collection:
    embedder, segmenter = MODELS.embedder("dummy"), MODELS.segmenter("dummy")
    made = directory.create_collection(collection_spec("photos", embedder, segmenter, pixels="none"))
    colours = np.array(list(COLOURS.values()), dtype=np.uint8)
    generator = np.random.default_rng(0)
    for number in range(images):
        pixels = np.repeat(colours[generator.integers(0, len(colours), (40, 2))], 30, axis=1)
        entities = Entities.from_masks(
            [Mask.from_box(Box(x, 0, x + 30, 40), 40, 60) for x in (0, 30)],
            generator.uniform(0, 1, 2).astype(np.float32),
        )
        [vectors] = embedder.embed_images([Image(pixels)], [entities])
        block = np.concatenate([vectors.image[None], vectors.entities])
        made.upsert([ImageRecord(f"{number:03}", 60, 40, entities, block)])
    return made


def test_a_collection_measured_before_placement_and_objectness_were_answers_with_both(tmp_path: Path) -> None:
    query = Query(text="red", limit=60, weights={"objectness": 0.5}, placements=(Placement(part="left"),))
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = filled(directory, 60)
        fresh = SearchEngine(MODELS).search(collection, query)
        stored = collection.background()
        assert stored is not None
        older = {name: one for name, one in stored["signals"].items() if name not in UNMEASURED}
        collection.set_background({**stored, "signals": older})
        answer = SearchEngine(MODELS).search(collection, query)
    assert answer.background == fresh.background
    raw = {hit.image_id: hit.parts["text_image"].standardised for hit in fresh.hits}
    for hit in answer.hits:
        assert hit.parts["text_image"].standardised == raw[hit.image_id]
        for name, signal in UNMEASURED.items():
            part = hit.parts[name]
            assert part.standardised == (part.raw - signal.mean) / signal.deviation
