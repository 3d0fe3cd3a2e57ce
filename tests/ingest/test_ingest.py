"""From encoded bytes to stored records, with the weightless models."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from regionsearch.collection import Collection, DataDirectory, ImageRecord
from regionsearch.config import Limits
from regionsearch.entities import Entities
from regionsearch.errors import DataLoss, FingerprintMismatch
from regionsearch.images import Image
from regionsearch.ingest import EncodedImage, Pipeline, check_models, collection_spec, upsert_images
from regionsearch.models.registry import ModelRegistry

MODELS = ModelRegistry()
EMBEDDER = MODELS.embedder("dummy")
SEGMENTER = MODELS.segmenter("dummy")


def picture(colour: str, box: tuple[int, int, int, int] = (10, 10, 40, 40), size: int = 64) -> bytes:
    image = PIL.Image.new("RGB", (size, size), "white")
    PIL.ImageDraw.Draw(image).rectangle(box, fill=colour)
    coded = io.BytesIO()
    image.save(coded, "PNG")
    return coded.getvalue()


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with DataDirectory(tmp_path / "data", "write") as directory:
        yield directory.create_collection(collection_spec("photos", EMBEDDER, SEGMENTER))


def pipeline() -> Pipeline:
    return Pipeline(EMBEDDER, SEGMENTER)


def test_a_corrupt_image_is_named_and_the_good_ones_beside_it_land(collection: Collection) -> None:
    batch = [
        EncodedImage("a", picture("red")),
        EncodedImage("b", picture("blue")[:60]),
        EncodedImage("c", b""),
        EncodedImage("d", picture("green")),
    ]
    outcome = upsert_images(collection, pipeline(), batch)
    assert [result.image_id for result in outcome.stored] == ["a", "d"]
    assert [failure.source for failure in outcome.failures] == ["b", "c"]
    assert list(collection.image_ids()) == ["a", "d"]


def test_an_id_or_payload_that_does_not_fit_fails_alone(collection: Collection) -> None:
    batch = [
        EncodedImage("x" * 481, picture("red")),
        EncodedImage("b", picture("blue"), payload={"text": "y" * 70_000}),
        EncodedImage("c", picture("green")),
    ]
    outcome = upsert_images(collection, pipeline(), batch)
    assert [result.image_id for result in outcome.stored] == ["c"]
    assert len(outcome.failures) == 2


def test_bytes_without_an_id_are_known_by_their_hash(collection: Collection) -> None:
    upsert_images(collection, pipeline(), [EncodedImage("", picture("red"))])
    (image_id,) = collection.image_ids()
    assert image_id == collection.get(image_id).content_hash


class Unused:
    """A segmenter that must not be needed."""

    info = SEGMENTER.info
    backbone = None

    def propose(self, *_: object, **__: object) -> list[Entities]:
        raise AssertionError("the image was segmented again")

    def prompt(self, *_: object, **__: object) -> object:
        raise AssertionError("the image was segmented again")


def test_bytes_that_are_known_are_copied_and_not_computed_again(collection: Collection) -> None:
    upsert_images(collection, pipeline(), [EncodedImage("a", picture("red"), {"year": 2020})])
    frugal = Pipeline(EMBEDDER, Unused())  # type: ignore[arg-type]
    upsert_images(collection, frugal, [EncodedImage("b", picture("red"), {"year": 2021})])
    first, second = collection.get("a", pixels=True), collection.get("b", pixels=True)
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert first.number != second.number
    assert (first.payload, second.payload) == ({"year": 2020}, {"year": 2021})
    assert first.pixels == second.pixels


class Counting:
    """The weightless segmenter, which tells how many images it was given."""

    info = SEGMENTER.info
    backbone = None

    def __init__(self) -> None:
        self.images = 0

    def propose(self, images: Sequence[Image], *more: Any, **settings: Any) -> list[Entities]:
        self.images += len(images)
        return SEGMENTER.propose(images, *more, **settings)

    prompt = SEGMENTER.prompt


def test_equal_bytes_in_a_batch_are_computed_once(collection: Collection) -> None:
    counting = Counting()
    batch = [EncodedImage(letter, picture("red"), {"letter": letter}) for letter in "abc"]
    batch += [EncodedImage("", picture("red")), EncodedImage("d", b"broken"), EncodedImage("e", b"broken")]
    outcome = upsert_images(collection, Pipeline(EMBEDDER, counting), batch)
    assert counting.images == 1
    assert sorted(result.image_id for result in outcome.stored)[1:] == ["a", "b", "c"]
    assert sorted(failure.source for failure in outcome.failures) == ["d", "e"]
    assert [collection.get(letter).payload for letter in "abc"] == [{"letter": each} for each in "abc"]
    assert outcome.entities == collection.stats.entities


@pytest.mark.parametrize("loss", ["deleted", "replaced"])
def test_a_copy_is_whole_when_the_image_copied_from_goes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    red, blue = picture("red"), picture("blue")
    originals = Pipeline(EMBEDDER, SEGMENTER, pixels="original")
    with DataDirectory(tmp_path / "kept", "write") as directory:
        spec = collection_spec("photos", EMBEDDER, SEGMENTER, pixels="original")
        collection = directory.create_collection(spec)
        upsert_images(collection, originals, [EncodedImage("a", red)])
        find = collection.find_content

        def find_and_lose(*of: Any, **settings: Any) -> ImageRecord | None:
            found = find(*of, **settings)
            monkeypatch.undo()
            if loss == "deleted":
                collection.delete(["a"])  # as another thread would
            else:
                upsert_images(collection, originals, [EncodedImage("a", blue)])
            return found

        monkeypatch.setattr(collection, "find_content", find_and_lose)
        upsert_images(collection, originals, [EncodedImage("b", red)])
        assert collection.get("b", pixels=True).pixels == red


def test_a_damaged_image_is_mended_by_bringing_it_again(tmp_path: Path) -> None:
    data = picture("red")
    with DataDirectory(tmp_path / "kept", "write") as directory:
        collection = directory.create_collection(collection_spec("photos", EMBEDDER, SEGMENTER))
        upsert_images(collection, pipeline(), [EncodedImage("a", data)])
        vectors = collection.get("a").vectors
    catalog = tmp_path / "kept" / "catalog" / "data.mdb"
    stored = bytearray(catalog.read_bytes())
    stored[stored.index(vectors.tobytes())] ^= 1
    catalog.write_bytes(stored)
    with DataDirectory(tmp_path / "kept", "write") as directory:
        collection = directory.collection("photos")
        with pytest.raises(DataLoss, match="index it again"):
            collection.get("a")
        outcome = upsert_images(collection, pipeline(), [EncodedImage("a", data), EncodedImage("twin", data)])
        assert [result.image_id for result in outcome.stored] == ["a", "twin"]
        np.testing.assert_array_equal(collection.get("a").vectors, vectors)
        np.testing.assert_array_equal(collection.get("twin").vectors, vectors)


def test_of_two_images_with_one_id_in_a_batch_the_last_counts(collection: Collection) -> None:
    upsert_images(collection, pipeline(), [EncodedImage("z", picture("red"))])
    batch = [EncodedImage("a", picture("green")), EncodedImage("a", picture("red"))]
    upsert_images(collection, pipeline(), batch)
    assert collection.get("a").content_hash == collection.get("z").content_hash


@pytest.mark.parametrize("kept", ["none", "thumbnail", "original"])
def test_a_collection_keeps_the_pixels_that_it_says(kept: str) -> None:
    data = picture("red", size=640)
    (record,), _ = Pipeline(EMBEDDER, SEGMENTER, pixels=kept).run([EncodedImage("a", data)])  # type: ignore[arg-type]
    if kept == "original":
        assert record.pixels == data
    elif kept == "none":
        assert record.pixels is None
    else:
        assert record.pixels is not None
        with PIL.Image.open(io.BytesIO(record.pixels)) as small:
            assert (small.format, small.size) == ("JPEG", (320, 320))


def test_vectors_belong_to_the_entities_of_their_record() -> None:
    batch = [EncodedImage(colour, picture(colour)) for colour in ("red", "green", "blue")]
    records, _ = pipeline().run(batch)
    for record in records:
        alone = pipeline().run([EncodedImage(record.image_id, picture(record.image_id))])[0][0]
        np.testing.assert_allclose(record.vectors, alone.vectors, atol=1e-6)
        assert record.vectors.shape == (1 + len(record.entities), EMBEDDER.info.dimension)


def test_a_file_over_the_byte_limit_is_refused_by_name() -> None:
    limits = replace(Limits(), image_bytes=100)
    _, failures = Pipeline(EMBEDDER, SEGMENTER, limits=limits).run([EncodedImage("a", picture("red"))])
    assert "limits.image_bytes" in failures[0].reason
    assert "'a'" in failures[0].reason


class Shifted:
    """The dummy embedder as another processor might compute it, far beyond rounding."""

    info = EMBEDDER.info
    backbone = None

    def embed_images(
        self, images: Sequence[Image], entities: Sequence[Entities], features: object = None
    ) -> list[object]:
        embedded = EMBEDDER.embed_images(images, entities)
        return [replace(one, image=np.roll(one.image, 1)) for one in embedded]


def test_a_collection_refuses_a_model_that_is_not_its_own() -> None:
    spec = collection_spec("photos", EMBEDDER, SEGMENTER)
    check_models(spec, EMBEDDER, SEGMENTER)
    foreign = replace(spec, embedder=replace(spec.embedder, name="other", weights="ab" * 32))
    with pytest.raises(FingerprintMismatch, match=r"other .*dummy"):
        check_models(foreign, EMBEDDER)
    other_cutter = replace(spec, segmenter=replace(spec.segmenter, preprocessing=99))
    check_models(other_cutter, EMBEDDER)
    with pytest.raises(FingerprintMismatch, match="segmenter"):
        check_models(other_cutter, EMBEDDER, SEGMENTER)
    with pytest.raises(FingerprintMismatch, match="cosine"):
        check_models(spec, Shifted())  # type: ignore[arg-type]
