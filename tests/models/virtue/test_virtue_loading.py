"""VIRTUE from its published files: every form of them, every option, and what is wrong with a folder."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_virtue import Weights, write_tiny_virtue

from regionsearch.errors import InvalidRequest, ModelUnavailable
from regionsearch.images import Image
from regionsearch.models.checkpoints import read_tensors
from regionsearch.models.embedder import ModelInput
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.runtime import Runtime
from regionsearch.models.sam2.image_features import source_of
from regionsearch.models.sam2.loading import load_sam2
from regionsearch.models.virtue import loading
from regionsearch.models.virtue.embedder import VirtueEmbedder
from regionsearch.regions import Box, RegionPrompt

CONNECTOR = "sam2_reducer_and_vlm_layer.pth"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_virtue(tmp_path_factory.mktemp("virtue"))


@pytest.fixture(scope="module")
def expected(folder: Path) -> NDArray[np.float32]:
    return vectors(load(str(folder)))


def load(name: str) -> VirtueEmbedder:
    runtime = Runtime(device="cpu", dtype="fp32")
    return cast(VirtueEmbedder, ModelRegistry(runtime=runtime).embedder(name))


def vectors(model: VirtueEmbedder) -> NDArray[np.float32]:
    """(3, d): a region, a picture, words."""
    image = Image(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))
    region = RegionPrompt(box=Box(5, 6, 40, 50))
    return model.embed_inputs(
        [ModelInput(image, None, region), ModelInput(image), ModelInput(text="a red thing")]
    )


@pytest.mark.parametrize(
    ("weights", "sam", "shards"),
    [("bin", "official", 1), ("bin", "transformers", 3), ("safetensors", "official", 2)],
)
def test_every_published_form_gives_the_same_vectors(
    expected: NDArray[np.float32],
    tmp_path: Path,
    weights: Weights,
    sam: Literal["transformers", "official"],
    shards: int,
) -> None:
    other = write_tiny_virtue(tmp_path / "other", weights=weights, sam=sam, shards=shards)
    np.testing.assert_allclose(vectors(load(str(other))), expected, atol=1e-6)


def test_both_modes_of_positions_number_words_alike_and_pictures_not(
    folder: Path, expected: NDArray[np.float32]
) -> None:
    first = vectors(load(f"{folder},positions=first"))
    np.testing.assert_allclose(expected[2], first[2], atol=1e-6)
    assert (np.abs(expected[:2] - first[:2]).max(axis=1) > 1e-4).all()


def test_as_published_squares_pictures_and_hands_boxes_over_unscaled(
    folder: Path, expected: NDArray[np.float32]
) -> None:
    model = load(f"{folder},as_published=yes")
    tokens = model.indexing_cost(60, 90, np.empty((0, 4), dtype=np.float32)).vision_patches // 4
    assert tokens == 1225
    assert (np.abs(vectors(model)[:2] - expected[:2]).max(axis=1) > 1e-4).all()
    # What SAM saw of a squared picture is not what it sees of the picture itself.
    [features] = model.backbone.features([Image(np.zeros((60, 90, 3), dtype=np.uint8))])
    sam = load_sam2(str(folder / "sam2"), Runtime(device="cpu", dtype="fp32"))
    assert features.part(source_of(sam, "virtue")) is None


def test_what_changes_vectors_changes_the_fingerprint_and_where_files_lie_does_not(
    folder: Path, tmp_path: Path
) -> None:
    plain = load(str(folder)).info.fingerprint
    for option in ("positions=first", "as_published=yes"):
        assert not load(f"{folder},{option}").info.fingerprint.same_model(plain)
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert load(str(moved)).info.fingerprint.same_model(plain)
    other_sam = write_tiny_virtue(tmp_path / "other", seed=5) / "sam2"
    assert not load(f"{folder},sam={other_sam}").info.fingerprint.same_model(plain)


def test_sam_comes_from_the_option_before_the_models_folder(
    folder: Path, expected: NDArray[np.float32], tmp_path: Path
) -> None:
    without = shutil.copytree(folder, tmp_path / "without", ignore=shutil.ignore_patterns("sam2"))
    official = write_tiny_virtue(tmp_path / "other", sam="official") / "sam2"
    named = vectors(load(f"{without},sam={official}"))
    np.testing.assert_allclose(named, expected, atol=1e-6)
    [file] = official.glob("*.pt")
    np.testing.assert_allclose(vectors(load(f"{without},sam={file}")), expected, atol=1e-6)


def test_the_stock_sam_is_asked_for_when_the_folder_has_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = shutil.copytree(folder, tmp_path / "without", ignore=shutil.ignore_patterns("sam2"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    wanted = rf"virtue needs SAM 2: put it into {without}/sam2 or give sam=.*facebook/sam2\.1-hiera-base-plus"
    with pytest.raises(ModelUnavailable, match=wanted):
        load(str(without))


def test_the_grid_has_as_many_points_as_the_configuration_says(
    folder: Path, expected: NDArray[np.float32], tmp_path: Path
) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["virtue_sam"]["points_per_side"] = 4
    (other / "config.json").write_text(json.dumps(config))
    different = np.abs(vectors(load(str(other))) - expected).max(axis=1)
    # Only the picture without a region is asked for by the grid.
    assert different[1] > 1e-5
    assert different[0] < 1e-6
    assert different[2] < 1e-6


def test_a_folder_that_is_no_virtue_is_refused_with_the_reason(folder: Path, tmp_path: Path) -> None:
    def broken(name: str) -> Path:
        return shutil.copytree(folder, tmp_path / name)

    no_connector = broken("no_connector")
    (no_connector / CONNECTOR).unlink()
    with pytest.raises(ModelUnavailable, match=rf"has no {CONNECTOR}"):
        load(str(no_connector))

    half = broken("half")
    parts = read_tensors(half / CONNECTOR)
    torch.save({"sam2_reducer": parts["sam2_reducer"]}, half / CONNECTOR)
    with pytest.raises(ModelUnavailable, match="has no sam2vlm_layer"):
        load(str(half))

    wide = broken("wide")
    parts["sam2_reducer"] = {"weight": torch.zeros(8, 8, 4, 4), "bias": torch.zeros(8)}
    torch.save(parts, wide / CONNECTOR)
    with pytest.raises(ModelUnavailable, match=r"sam2_reducer .* does not fit"):
        load(str(wide))

    plain = broken("plain")
    config = json.loads((plain / "config.json").read_text())
    del config["virtue_sam"]
    (plain / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnavailable, match="has no 'virtue_sam'"):
        load(f"virtue:{plain}")


def test_a_pickle_that_holds_code_is_refused(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    torch.save({"sam2_reducer": Path("anything")}, other / CONNECTOR)
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        load(str(other))


def test_unknown_options_are_refused(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="no option 'position'"):
        load(f"{folder},position=first")
    with pytest.raises(InvalidRequest, match="not one of later, first"):
        load(f"{folder},positions=middle")


def test_loading_says_once_that_the_published_weights_are_not_for_commerce(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_said", set())
    with caplog.at_level(logging.INFO, logger="regionsearch.models"):
        load(str(folder))
        load(f"{folder},positions=first")
    said = [record.getMessage() for record in caplog.records if "CC BY-NC 4.0" in record.getMessage()]
    assert len(said) == 1
