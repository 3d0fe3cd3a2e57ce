"""What the evaluation asks is what a server answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_photos import DrawnFolder, draw_folder

from regionsearch.cli import main
from regionsearch.client import Client
from regionsearch.collection import DataDirectory
from regionsearch.config import Limits
from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.coco_annotations import AnnotatedPhotos, read_folders
from regionsearch.evaluation.coco_questions import class_questions, composed_questions, region_questions
from regionsearch.evaluation.photo_index import MODES, PhotoIndex, weighted_sum
from regionsearch.evaluation.remembered_features import REMEMBERED_PHOTOS, RememberingBackbone
from regionsearch.images import Image
from regionsearch.models.features import DenseFeatures
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.server import Server

PHOTOS = 60
"""Enough for a background of the collection's own."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DrawnFolder:
    return draw_folder(tmp_path_factory.mktemp("drawn"), PHOTOS)


@pytest.fixture(scope="module")
def photos(folder: DrawnFolder) -> AnnotatedPhotos:
    return read_folders([folder.images], [folder.annotations])


@pytest.fixture(scope="module")
def index(photos: AnnotatedPhotos) -> Iterator[PhotoIndex]:
    with PhotoIndex(photos, ModelRegistry(), "dummy", "dummy") as opened:
        yield opened


@pytest.fixture(scope="module")
def client(folder: DrawnFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server on a real port over the same photos, indexed by the command."""
    data = tmp_path_factory.mktemp("served") / "data"
    words = ["index", str(folder.images), "--collection", "photos", "--data", str(data)]
    assert main([*words, "--embedder", "dummy", "--segmenter", "dummy", "--json"]) == 0
    with DataDirectory(data, "write") as directory:
        models, limits = ModelRegistry(1), Limits()
        server = Server(Address("127.0.0.1", 0), limits)
        server.start(Backend(directory, models, SearchEngine(models, limits), limits))
        with Client(str(server.address), timeout=30) as connected:
            yield connected
        server.stop(1)


@pytest.mark.parametrize("mode", MODES)
def test_the_top_ten_are_those_of_a_search_over_grpc(
    index: PhotoIndex, client: Client, photos: AnnotatedPhotos, mode: str
) -> None:
    paths = {image.image_id: image.path for image in photos.images}
    asked = [
        *class_questions(photos),
        *region_questions(photos)[:10],
        *composed_questions(photos)[:10],
    ]
    assert {(question.text is None, question.box is None) for question in asked} == {
        (False, True),
        (True, False),
        (False, False),
    }
    for question in asked:
        ranking = index.ask(question, mode)
        options: dict[str, Any] = {"text": question.text}
        if question.box is not None:
            options |= {"image": paths[question.image_id or ""], "box": question.box}
        hits = client.search("photos", weights=MODES[mode], **options).hits
        ours = [index.photos.images[number].image_id for number in ranking.order[:10]]
        assert [hit.image_id for hit in hits] == ours
        assert [hit.score for hit in hits] == pytest.approx(ranking.scores[:10])
        assert np.array([hit.entity.box.as_tuple() for hit in hits]) == pytest.approx(ranking.boxes[:10])


def test_a_ranking_holds_every_photo_once_and_unreturned_ones_by_id(index: PhotoIndex) -> None:
    hits = index.search({}, text="red", limit=7).hits
    ranking = index.ranking(hits)
    assert sorted(ranking.order) == list(range(PHOTOS))
    assert list(ranking.order[7:]) == sorted(ranking.order[7:])
    assert ranking.sums == pytest.approx([weighted_sum(hit) for hit in hits])
    assert list(ranking.sums) == sorted(ranking.sums, reverse=True)


def test_whole_images_are_ranked_by_the_cosine_of_their_vectors(index: PhotoIndex) -> None:
    source = index.photos.images[5].image_id
    vectors = [index.collection.get(image.image_id).vectors[0] for image in index.photos.images]
    cosines = np.array([float(vector @ vectors[5]) for vector in vectors])
    ranking = index.ask_whole_image(source)
    assert cosines[ranking.order] == pytest.approx(np.sort(cosines)[::-1], abs=1e-6)


def test_annotations_do_not_reach_the_index(folder: DrawnFolder, tmp_path: Path) -> None:
    """The same photos with nonsense drawn on them, and with nothing, give the same records."""
    content = json.loads(folder.annotations.read_text())
    content["images"] = content["images"][:5]
    nonsense = [
        {
            "id": number,
            "image_id": image["id"],
            "category_id": 9,
            "bbox": box,
            "iscrowd": 0,
            "segmentation": [],
        }
        for number, image in enumerate(content["images"])
        for box in ([number, 3, 17, 51], [70, 20, 31, 9 + number])
    ]
    categories = {"categories": [{"id": 9, "name": "zeppelin"}]}
    stored = []
    for name, objects in (("none", []), ("nonsense", nonsense)):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(content | categories | {"annotations": objects}))
        photos = read_folders([folder.images], [file])
        with PhotoIndex(photos, ModelRegistry(), "dummy", "dummy") as opened:
            stored.append([opened.collection.get(image_id) for image_id in opened.collection.image_ids()])
    assert len(stored[0]) == len(stored[1]) == 5
    for bare, annotated in zip(*stored, strict=True):
        assert bare.image_id == annotated.image_id
        assert bare.payload == annotated.payload == {}
        assert bare.entities.labels == annotated.entities.labels
        assert np.array_equal(bare.entities.boxes, annotated.entities.boxes)
        assert bare.entities.masks == annotated.entities.masks
        assert np.array_equal(bare.vectors, annotated.vectors)


def test_photos_that_cannot_be_judged_are_left_out_and_named(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path, 6)
    (folder.images / "001.png").write_bytes(b"no picture")
    content = json.loads(folder.annotations.read_text())
    content["images"][3]["width"] += 1
    folder.annotations.write_text(json.dumps(content))
    photos = read_folders([folder.images], [folder.annotations])
    with PhotoIndex(photos, ModelRegistry(), "dummy", "dummy") as opened:
        assert [failure.source for failure in opened.failures] == ["001.png", "003.png"]
        assert "annotated as 121 × 90" in opened.failures[1].reason
        kept = ["000.png", "002.png", "004.png", "005.png"]
        assert [image.image_id for image in opened.photos.images] == kept
        assert list(opened.collection.image_ids()) == kept


def test_a_folder_without_a_readable_photo_is_refused(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path, 1)
    (folder.images / "000.png").write_bytes(b"")
    photos = read_folders([folder.images], [folder.annotations])
    with pytest.raises(InvalidRequest, match="no photo could be indexed"):
        PhotoIndex(photos, ModelRegistry(), "dummy", "dummy")


class PixelFeatures:
    def __init__(self, image: Image) -> None:
        self.source = "pixels"
        self.mean = float(image.pixels.mean())

    def part(self, source: str) -> DenseFeatures | None:
        return self if source == self.source else None


class CountingBackbone:
    """Features that count how often an image was read."""

    source = "pixels"

    def __init__(self) -> None:
        self.passes = 0

    def features(self, images: list[Image]) -> list[DenseFeatures]:
        self.passes += len(images)
        return [PixelFeatures(image) for image in images]


def test_a_photo_is_read_once_and_never_taken_for_another() -> None:
    backbone = CountingBackbone()
    remembering = RememberingBackbone(backbone)
    for value in range(3 * REMEMBERED_PHOTOS):
        # Each image is dropped when the next is made, so ids of objects come again.
        image = Image(np.full((4, 4, 3), value, dtype=np.uint8))
        for _ in range(3):
            (features,) = remembering.features([image])
            assert features.mean == value
    assert backbone.passes == 3 * REMEMBERED_PHOTOS
