"""Captions scored by a collection: what the engine's own search would say of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_photos import DrawnFolder, draw_folder
from published_files import write_scar

from regionsearch.collection import DataDirectory
from regionsearch.evaluation.published.embedded_inputs import InputVectors
from regionsearch.evaluation.published.embedding_cache import EmbeddingCache
from regionsearch.evaluation.published.hit_rates import hit_rate
from regionsearch.evaluation.published.image_files import ImageFiles
from regionsearch.evaluation.published.scar import ScarSubset, read_subsets
from regionsearch.evaluation.published.scar_engine import MODES, AnnotatedRegions, engine_hits
from regionsearch.images import load_image
from regionsearch.models.dummy import DummySegmenter
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.search.query import Query


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DrawnFolder:
    return draw_folder(tmp_path_factory.mktemp("scar-engine"), 60)


def one_box_each(subset: ScarSubset) -> ScarSubset:
    """The first row of each picture: a picture then has one entity, and the engine has no choice."""
    first = {row.image: row for row in reversed(subset.rows)}
    return ScarSubset(subset.name, list(first.values()))


def test_the_engine_s_own_search_gives_the_same_hits(folder: DrawnFolder, tmp_path: Path) -> None:
    (subset,) = read_subsets([write_scar(folder, tmp_path / "drawn.parquet")])
    subset = one_box_each(subset)
    models = ModelRegistry()
    embedder = models.embedder("dummy")
    images = ImageFiles(folder.images)
    images.scan(row.image for row in subset.rows)
    with (
        EmbeddingCache(tmp_path, embedder.info.fingerprint) as cache,
        DataDirectory(tmp_path / "data", "write") as directory,
    ):
        vectors = InputVectors(embedder, cache, images)
        kept = np.arange(len(subset.rows))
        found = engine_hits(subset, kept, models, "dummy", None, images, vectors, directory)
        (name,) = directory.collection_names()
        collection = directory.collection(name)
        engine = SearchEngine(models)
        for number, row in enumerate(subset.rows[:3]):
            correct = np.array([text == row.captions[0] for text in row.captions])
            for mode, weights in MODES.items():
                answers = [
                    engine.search(collection, Query(text=text, limit=60, weights=weights))
                    for text in row.captions
                ]
                assert {answer.background for answer in answers} == {found.background}
                sums = [
                    sum(part.weight * part.standardised for part in hit.parts.values())
                    for answer in answers
                    for hit in answer.hits
                    if hit.image_id == row.image
                ]
                assert len(sums) == len(row.captions)
                expected = hit_rate(np.round(sums, 9), correct, 1)
                assert found.hits[mode][number] == pytest.approx(expected)
    assert found.entities == len(subset.rows)
    # 60 pictures are enough for the collection to have statistics of its own.
    assert found.background.startswith("60-images")


def test_boxes_come_first_and_another_segmenter_adds_its_entities(folder: DrawnFolder) -> None:
    regions = AnnotatedRegions(DummySegmenter())
    regions.boxes = [(0, 0, 10, 10), (5, 5, 500, 20)]
    (found,) = regions.propose([load_image(folder.images / "000.png")])
    (others,) = DummySegmenter().propose([load_image(folder.images / "000.png")])
    assert found.boxes[:2].tolist() == [[0, 0, 10, 10], [5, 5, 120, 20]]
    np.testing.assert_array_equal(found.boxes[2:], others.boxes)
    assert "dummy" in regions.info.name
