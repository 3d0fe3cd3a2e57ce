"""Captioned pictures as files, and what a frozen embedder says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.errors import InvalidImage, InvalidRegion, InvalidRequest, ModelUnavailable
from regionsearch.images import load_image
from regionsearch.models.dummy import DummyEmbedder
from regionsearch.regions import Box, Mask
from regionsearch.training.connector.caption_data import CaptionedPicture, CaptionedRegion, read_captioned
from regionsearch.training.connector.frozen_vectors import ReadingStoppedError, frozen_vectors

HALVES = (Box(0, 0, 20, 20), Box(20, 0, 40, 20))


class CountingEmbedder(DummyEmbedder):
    def __init__(self) -> None:
        self.images = self.texts = 0

    def embed_images(self, images: Any, entities: Any, features: Any = None) -> Any:
        self.images += len(images)
        return super().embed_images(images, entities, features)

    def embed_texts(self, texts: Any) -> NDArray[np.float32]:
        self.texts += len(texts)
        return super().embed_texts(texts)


def quiet(what: str, done: int, of: int) -> None:
    del what, done, of


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Left half red and right half blue; left green and right yellow."""
    for name, colours in (("a.png", ("red", "blue")), ("b.png", ("green", "yellow"))):
        picture = PIL.Image.new("RGB", (40, 20), colours[0])
        picture.paste(PIL.Image.new("RGB", (20, 20), colours[1]), (20, 0))
        picture.save(tmp_path / name)
    return tmp_path


def captions_file(photos: Path, captions: list[tuple[int, str]]) -> Path:
    file = photos / "captions.json"
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    notes = [{"image_id": number, "caption": caption} for number, caption in captions]
    file.write_text(json.dumps({"images": images, "annotations": notes}))
    return file


def scar_file(photos: Path) -> Path:
    import pyarrow
    from pyarrow import parquet

    rows = [
        ("a.png", "red", [0.0, 0.0, 20.0, 20.0]),
        ("a.png", "blue", [20.0, 0.0, 20.0, 20.0]),
        ("b.png", "yellow", [20.0, 0.0, 20.4, 20.0]),
        ("a.png", "a red thing", [0.0, 0.0, 20.0, 20.0]),
    ]
    table = {
        "qry": ["<|image_1|>\nFind the caption."] * len(rows),
        "qry_image_path": [name for name, _, _ in rows],
        "pos_text": [caption for _, caption, _ in rows],
        "bbox": [box for _, _, box in rows],
    }
    parquet.write_table(pyarrow.table(table), photos / "scar.parquet")
    return photos / "scar.parquet"


def test_all_captions_of_a_photo_are_together(photos: Path) -> None:
    file = captions_file(photos, [(1, "red things"), (2, "green"), (1, "a  red\nthing")])
    assert read_captioned(photos, file) == [
        CaptionedPicture(photos / "a.png", (CaptionedRegion(None, ("red things", "a red thing")),)),
        CaptionedPicture(photos / "b.png", (CaptionedRegion(None, ("green",)),)),
    ]


def test_scars_captions_are_of_their_boxes(photos: Path) -> None:
    first, second = read_captioned(photos, scar_file(photos))
    assert first.regions == (
        CaptionedRegion(HALVES[0], ("red", "a red thing")),
        CaptionedRegion(HALVES[1], ("blue",)),
    )
    assert [region.captions for region in second.regions] == [("yellow",)]


def test_one_example_alone_is_refused(photos: Path) -> None:
    with pytest.raises(InvalidRequest, match="2 or more"):
        read_captioned(photos, captions_file(photos, [(1, "red"), (1, "blue")]))


def test_each_example_has_the_vector_of_its_own_region(photos: Path) -> None:
    embedder = DummyEmbedder()
    vectors = frozen_vectors(read_captioned(photos, scar_file(photos)), embedder, photos / "cache", quiet)
    image = load_image(photos / "a.png")
    masks = [Mask.from_box(box, 20, 40) for box in HALVES]
    (expected,) = embedder.embed_images([image], [Entities.from_masks(masks, np.zeros(2, np.float32))])
    assert np.array_equal(vectors.pixels[:2], expected.entities)
    assert vectors.pictures.tolist() == [0, 0, 1]
    assert vectors.owners.tolist() == [0, 0, 1, 2]
    assert np.array_equal(vectors.texts, embedder.embed_texts(["red", "a red thing", "blue", "yellow"]))


def test_whole_photos_have_the_vector_of_the_image(photos: Path) -> None:
    embedder = DummyEmbedder()
    pictures = read_captioned(photos, captions_file(photos, [(2, "green"), (1, "red")]))
    vectors = frozen_vectors(pictures, embedder, photos / "cache", quiet)
    images = [load_image(picture.path) for picture in pictures]
    frames = [Entities.whole_frame(20, 40)] * 2
    expected = [each.image for each in embedder.embed_images(images, frames)]
    assert np.array_equal(vectors.pixels, np.stack(expected))


def test_nothing_is_computed_twice_but_what_has_changed(photos: Path) -> None:
    pictures = read_captioned(photos, captions_file(photos, [(1, "red"), (2, "green")]))
    embedder = CountingEmbedder()
    first = frozen_vectors(pictures, embedder, photos / "cache", quiet)
    again = frozen_vectors(pictures, embedder, photos / "cache", quiet)
    assert (embedder.images, embedder.texts) == (2, 2)
    assert np.array_equal(first.pixels, again.pixels)
    PIL.Image.new("RGB", (40, 20), "purple").save(photos / "a.png")
    changed = frozen_vectors(pictures, embedder, photos / "cache", quiet)
    assert embedder.images == 4
    assert not np.array_equal(first.pixels, changed.pixels)


def test_a_photo_that_cannot_be_read_is_named(photos: Path) -> None:
    file = captions_file(photos, [(1, "red"), (2, "green")])
    (photos / "b.png").write_bytes(b"no picture")
    with pytest.raises(InvalidImage, match=r"b\.png"):
        frozen_vectors(read_captioned(photos, file), DummyEmbedder(), photos / "cache", quiet)


def test_a_box_outside_its_photo_is_named(photos: Path) -> None:
    region = CaptionedRegion(Box(50, 0, 60, 10), ("nothing",))
    with pytest.raises(InvalidRegion, match=r"a\.png.*outside"):
        frozen_vectors(
            [CaptionedPicture(photos / "a.png", (region,))], DummyEmbedder(), photos / "cache", quiet
        )


def test_reading_stops_between_blocks_and_keeps_what_was_read(photos: Path) -> None:
    pictures, embedder = read_captioned(photos, scar_file(photos)), CountingEmbedder()
    with pytest.raises(ReadingStoppedError):
        frozen_vectors(pictures, embedder, photos / "cache", quiet, lambda: True)
    assert (embedder.images, embedder.texts) == (2, 0)
    frozen_vectors(pictures, embedder, photos / "cache", quiet)
    assert embedder.images == 2


def test_damaged_kept_vectors_are_named(photos: Path) -> None:
    pictures = read_captioned(photos, scar_file(photos))
    frozen_vectors(pictures, DummyEmbedder(), photos / "cache", quiet)
    for file in (photos / "cache").glob("*.npy"):
        file.write_bytes(file.read_bytes()[:90])
    with pytest.raises(ModelUnavailable, match=r"cache/.*\.npy cannot be read"):
        frozen_vectors(pictures, DummyEmbedder(), photos / "cache", quiet)
