"""A connector's folder as an embedder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest, ModelUnavailable
from regionsearch.images import Image
from regionsearch.models.connector.connector_folder import ConnectorConfig
from regionsearch.models.connector.connector_map import ConnectorMap
from regionsearch.models.dummy import DIMENSION, DummyEmbedder
from regionsearch.models.embedder import Embedder, EncodableQuery, ModelInput
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, Mask, RegionPrompt

REACHED = 13
"""The named colours, of the dummy's dimensions."""


def write_folder(folder: Path, seed: int | None) -> Path:
    """A connector on the dummy with random weights; seed None: one that changes nothing."""
    rng = np.random.default_rng(seed)
    scale = 0.0 if seed is None else 1.0
    folder.mkdir()

    def drawn(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return (scale * rng.normal(size=shape)).astype(np.float32)

    ConnectorMap(
        skip=np.array(1, dtype=np.float32),
        reached=np.arange(REACHED, dtype=np.int64),
        first_weight=drawn(8, DIMENSION),
        first_bias=drawn(8),
        second_weight=drawn(REACHED, 8),
        second_bias=drawn(REACHED),
    ).save(folder)
    info = DummyEmbedder.info
    ConnectorConfig(info.fingerprint, info.background, {}).write(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "model", seed=4)


def picture() -> tuple[Image, Entities]:
    drawn = PIL.Image.new("RGB", (60, 40), "white")
    PIL.ImageDraw.Draw(drawn).rectangle((5, 5, 24, 24), fill=(220, 20, 20))
    masks = [Mask.from_box(box, 40, 60) for box in (Box(5, 5, 25, 25), Box(20, 0, 60, 40))]
    return Image(np.asarray(drawn)), Entities.from_masks(masks, np.ones(2, dtype=np.float32))


def loaded(folder: Path) -> Embedder:
    return ModelRegistry().embedder(f"connector:{folder}")


def test_a_connector_that_changes_nothing_gives_its_bases_vectors(tmp_path: Path) -> None:
    image, entities = picture()
    (ours,) = loaded(write_folder(tmp_path / "model", seed=None)).embed_images([image], [entities])
    (bases,) = DummyEmbedder().embed_images([image], [entities])
    assert np.abs(ours.image - bases.image).max() < 1e-6
    assert np.abs(ours.entities - bases.entities).max() < 1e-6


def test_pictures_are_mapped_and_words_are_not(folder: Path) -> None:
    image, entities = picture()
    embedder, base = loaded(folder), DummyEmbedder()
    (ours,) = embedder.embed_images([image], [entities])
    (bases,) = base.embed_images([image], [entities])
    assert np.abs(ours.entities - bases.entities).max() > 0.1
    assert np.array_equal(embedder.embed_texts(["red", "words"]), base.embed_texts(["red", "words"]))


def test_vectors_do_not_depend_on_the_batch(folder: Path) -> None:
    image, entities = picture()
    alone = Image(np.ascontiguousarray(image.pixels[:, ::-1]))
    frame = Entities.whole_frame(40, 60)
    embedder = loaded(folder)
    together = embedder.embed_images([image, alone], [entities, frame])
    (last,) = embedder.embed_images([alone], [frame])
    assert [len(each.entities) for each in together] == [2, 1]
    assert np.abs(together[1].image - last.image).max() < 1e-6
    assert embedder.embed_images([], []) == []


def test_a_query_asks_with_the_vectors_that_are_indexed(folder: Path) -> None:
    image, entities = picture()
    embedder = loaded(folder)
    (indexed,) = embedder.embed_images([image], [entities])
    asked = embedder.embed_query(EncodableQuery(image=image, mask=entities.masks[0]))
    assert asked.region is not None
    assert np.abs(asked.region - indexed.entities[0]).max() < 1e-6
    assert np.abs(asked.global_arm - indexed.image).max() < 1e-6
    words = embedder.embed_texts(["blue"])[0]
    both = embedder.embed_query(EncodableQuery(image=image, mask=entities.masks[0], text="blue"))
    expected = (indexed.entities[0] + words) / np.linalg.norm(indexed.entities[0] + words)
    assert np.abs(both.entity_arm - expected).max() < 1e-6
    assert np.array_equal(embedder.embed_query(EncodableQuery(text="blue")).entity_arm, words)


def test_inputs_are_read_as_queries_are(folder: Path) -> None:
    image, entities = picture()
    embedder = loaded(folder)
    (indexed,) = embedder.embed_images([image], [entities])
    box = RegionPrompt(box=Box(5, 5, 25, 25))
    vectors = embedder.embed_inputs([ModelInput(image=image, region=box), ModelInput(text="red")])
    assert np.abs(vectors[0] - indexed.entities[0]).max() < 1e-6
    assert np.array_equal(vectors[1], embedder.embed_texts(["red"])[0])


def test_a_folder_alone_names_the_embedder(folder: Path) -> None:
    assert ModelRegistry().embedder(str(folder)).info == loaded(folder).info
    assert loaded(folder).info.name == f"connector:{folder}"


def test_the_fingerprint_tells_other_weights_and_other_bases_apart(tmp_path: Path, folder: Path) -> None:
    own = loaded(folder).info.fingerprint
    moved = folder.rename(tmp_path / "elsewhere")
    assert loaded(moved).info.fingerprint.same_model(own)
    other = write_folder(tmp_path / "other", seed=5)
    assert not loaded(other).info.fingerprint.same_model(own)


def test_a_connector_of_another_base_is_refused_naming_both(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["base"]["weights"] = "0123456789abcdef"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnavailable, match=r"0123456789ab.*weights none"):
        loaded(folder)


def test_a_connector_on_a_connector_is_refused(folder: Path) -> None:
    info = DummyEmbedder.info
    ConnectorConfig(replace(info.fingerprint, name=f"connector:{folder}"), info.background, {}).write(folder)
    with pytest.raises(InvalidRequest, match="apart"):
        loaded(folder)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("format", 9, "format 9"), ("model_type", "clip", "no connector"), ("base", {"name": "dummy"}, "base")],
)
def test_a_folder_of_something_else_is_refused(folder: Path, key: str, value: object, said: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ModelUnavailable, match=said if key != "base" else "is no connector's"):
        loaded(folder)


def test_damaged_weights_are_refused_by_name(folder: Path) -> None:
    weights = folder / "connector.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(ModelUnavailable, match=r"connector\.safetensors"):
        loaded(folder)


def test_weights_for_other_vectors_are_refused(folder: Path) -> None:
    ConnectorMap(
        skip=np.array(1, dtype=np.float32),
        reached=np.arange(3, dtype=np.int64),
        first_weight=np.zeros((8, 5), dtype=np.float32),
        first_bias=np.zeros(8, dtype=np.float32),
        second_weight=np.zeros((3, 8), dtype=np.float32),
        second_bias=np.zeros(3, dtype=np.float32),
    ).save(folder)
    with pytest.raises(ModelUnavailable, match=r"first_weight has shape \(8, 5\)"):
        loaded(folder)


def test_a_reference_without_a_folder_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="connector:FOLDER"):
        ModelRegistry().embedder("connector")
