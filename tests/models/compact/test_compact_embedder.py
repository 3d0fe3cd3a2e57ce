"""Words, pictures and regions of them meet in one space."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest, NotAccepted
from regionsearch.images import Image, load_image
from regionsearch.models.compact import load_embedder
from regionsearch.models.compact.embedder import CompactEmbedder
from regionsearch.models.embedder import EncodableQuery
from regionsearch.models.runtime import Runtime
from regionsearch.regions import Box, Mask, Point, RegionPrompt

DIMENSION = 640
PHOTOS = {
    "a cat": skimage.data.chelsea,
    "a cup of coffee": skimage.data.coffee,
    "a space rocket": skimage.data.rocket,
    "old coins": skimage.data.coins,
}


@pytest.fixture(scope="module")
def embedder() -> CompactEmbedder:
    return load_embedder(runtime=Runtime(1))


@pytest.fixture(scope="module")
def photos() -> dict[str, Image]:
    loaded = {name: load() for name, load in PHOTOS.items()}
    return {
        name: Image(pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2))
        for name, pixels in loaded.items()
    }


def left_and_right(image: Image) -> Entities:
    middle = image.width // 2
    boxes = Box(0, 0, middle, image.height), Box(middle, 0, image.width, image.height)
    masks = [Mask.from_box(box, image.height, image.width) for box in boxes]
    return Entities.from_masks(masks, np.ones(2, dtype=np.float32))


def is_unit(vectors: np.ndarray) -> bool:
    return vectors.dtype == np.float32 and np.allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)


def test_words_find_the_photo_that_shows_what_they_say(
    embedder: CompactEmbedder, photos: dict[str, Image]
) -> None:
    images = list(photos.values())
    embedded = embedder.embed_images(images, [Entities.whole_frame(i.height, i.width) for i in images])
    texts = embedder.embed_texts([f"a photo of {name}" for name in photos])
    of_images = texts @ np.stack([vectors.image for vectors in embedded]).T
    of_entities = texts @ np.concatenate([vectors.entities for vectors in embedded]).T
    assert list(of_images.argmax(axis=1)) == list(range(len(photos)))
    assert list(of_entities.argmax(axis=1)) == list(range(len(photos)))


def test_words_find_the_half_that_shows_what_they_say(
    embedder: CompactEmbedder, photos: dict[str, Image]
) -> None:
    cat, coffee = photos["a cat"].pixels[:300, :400], photos["a cup of coffee"].pixels[50:350, 50:450]
    image = Image(np.concatenate([cat, coffee], axis=1))
    (vectors,) = embedder.embed_images([image], [left_and_right(image)])
    similarities = embedder.embed_texts(["a cat", "a cup of coffee"]) @ vectors.entities.T
    assert list(similarities.argmax(axis=1)) == [0, 1]


def test_all_kinds_of_queries_give_unit_vectors_of_one_length(
    embedder: CompactEmbedder, photos: dict[str, Image]
) -> None:
    image = photos["a cat"]
    mask = left_and_right(image).masks[0]
    queries = [
        EncodableQuery(text="a cat"),
        EncodableQuery(image=image),
        EncodableQuery(image=image, mask=mask),
        EncodableQuery(image=image, mask=mask, text="on a sofa"),
    ]
    for query in queries:
        vectors = embedder.embed_query(query)
        given = [vectors.entity_arm, vectors.global_arm]
        given += [part for part in (vectors.region, vectors.image, vectors.text) if part is not None]
        assert all(part.shape == (DIMENSION,) and is_unit(part) for part in given)
        assert (vectors.text is None) == (query.text is None)
        assert (vectors.region is None) == (vectors.image is None) == (query.image is None)


def test_a_query_region_has_the_vector_of_the_entity_with_its_mask(
    embedder: CompactEmbedder, photos: dict[str, Image]
) -> None:
    image = photos["a cup of coffee"]
    entities = left_and_right(image)
    (stored,) = embedder.embed_images([image], [entities])
    asked = embedder.embed_query(EncodableQuery(image=image, mask=entities.masks[1]))
    assert asked.region is not None
    assert asked.image is not None
    assert asked.region @ stored.entities[1] > 0.99999
    assert asked.region @ stored.entities[0] < 0.99
    assert asked.image @ stored.image > 0.99999


def test_an_image_without_a_region_asks_with_its_whole_frame(
    embedder: CompactEmbedder, photos: dict[str, Image]
) -> None:
    image = photos["old coins"]
    (stored,) = embedder.embed_images([image], [Entities.whole_frame(image.height, image.width)])
    region = embedder.embed_query(EncodableQuery(image=image)).region
    assert region is not None
    assert region @ stored.entities[0] > 0.99999


def test_an_instruction_moves_both_arms_towards_its_words(
    embedder: CompactEmbedder, photos: dict[str, Image]
) -> None:
    image = photos["a cat"]
    plain = embedder.embed_query(EncodableQuery(image=image))
    told = embedder.embed_query(EncodableQuery(image=image, text="with a rocket"))
    assert told.text is not None
    assert told.entity_arm @ told.text > plain.entity_arm @ told.text + 0.2
    assert told.global_arm @ told.text > plain.global_arm @ told.text + 0.2
    assert told.entity_arm @ plain.entity_arm > 0.5


def test_features_that_are_handed_over_give_the_same_vectors(
    embedder: CompactEmbedder, photos: dict[str, Image]
) -> None:
    images = list(photos.values())
    entities = [left_and_right(image) for image in images]
    computed = embedder.embed_images(images, entities)
    handed = embedder.embed_images(images, entities, embedder.backbone.features(images))
    for ours, theirs in zip(computed, handed, strict=True):
        assert np.allclose(ours.image, theirs.image, atol=1e-6)
        assert np.allclose(ours.entities, theirs.entities, atol=1e-6)


def test_pictures_without_anything_on_them_still_have_vectors(embedder: CompactEmbedder) -> None:
    flat = [Image(np.full((48, 64, 3), value, dtype=np.uint8)) for value in (0, 127, 255)]
    embedded = embedder.embed_images(flat, [left_and_right(image) for image in flat])
    assert all(is_unit(vectors.image) and is_unit(vectors.entities) for vectors in embedded)


def test_no_images_and_no_texts_are_no_vectors(embedder: CompactEmbedder) -> None:
    assert embedder.embed_images([], []) == []
    assert embedder.embed_texts([]).shape == (0, DIMENSION)


def test_queries_that_mean_nothing_are_refused(embedder: CompactEmbedder, photos: dict[str, Image]) -> None:
    image = photos["a cat"]
    with pytest.raises(InvalidRequest, match="an image, a text, or both"):
        embedder.embed_query(EncodableQuery())
    with pytest.raises(InvalidRequest, match="empty"):
        embedder.embed_query(EncodableQuery(text=" \n\t"))
    with pytest.raises(InvalidRequest, match="empty"):
        embedder.embed_query(EncodableQuery(image=image, text=""))
    with pytest.raises(InvalidRequest, match=r"mask has 9 × 7 pixels"):
        embedder.embed_query(EncodableQuery(image=image, mask=Mask.full(7, 9)))


def test_regions_that_are_not_masks_of_an_image_are_not_accepted(
    embedder: CompactEmbedder, photos: dict[str, Image]
) -> None:
    with pytest.raises(NotAccepted, match="needs the image"):
        embedder.embed_query(EncodableQuery(text="a cat", mask=Mask.full(4, 4)))
    prompt = RegionPrompt(points=(Point(3, 3),))
    with pytest.raises(NotAccepted, match="masks, not as points"):
        embedder.embed_query(EncodableQuery(image=photos["a cat"], prompt=prompt))


def test_class_names_find_their_photos(embedder: CompactEmbedder, data_folder: Path) -> None:
    folder = data_folder / "imagenet_200"
    labels = json.loads((folder / "labels.json").read_text())
    chosen = sorted(labels)[::8]
    images = [load_image(folder / "images" / name) for name in chosen]
    embedded = embedder.embed_images(images, [Entities.whole_frame(i.height, i.width) for i in images])
    texts = embedder.embed_texts([labels[name]["name"] for name in chosen])
    nearest = (texts @ np.stack([vectors.image for vectors in embedded]).T).argmax(axis=1)
    assert (nearest == np.arange(len(chosen))).mean() > 0.85
