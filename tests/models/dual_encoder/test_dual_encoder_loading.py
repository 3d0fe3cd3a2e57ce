"""What a folder must hold, what can be chosen, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from patchwork import photo
from tiny_dual_encoder import FAMILIES, Family, write_tiny_dual_encoder

from regionsearch.errors import InvalidRequest, ModelUnavailable
from regionsearch.models.embedder import Embedder, EncodableQuery
from regionsearch.models.registry import ModelRegistry

TEXTS = ["a cat", "Two Dogs on a beach, running fast!", "e"]


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_in_a_bin_file_give_the_same_vectors(
    tmp_path: Path, embedders: dict[Family, Embedder], family: Family
) -> None:
    folder = write_tiny_dual_encoder(tmp_path / "bin", family, bin_file=True)
    embedder = ModelRegistry().embedder(str(folder))
    image = photo(15)
    old, new = (one.embed_query(EncodableQuery(image=image)).image for one in (embedder, embedders[family]))
    assert old is not None
    assert new is not None
    assert np.abs(old - new).max() < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("regions=boxes", "mask_pooling, crop"),
        ("context=0.5", "means nothing with regions=mask_pooling"),
        ("regions=crop,pixels=64", "means nothing with regions=crop"),
        ("patches=64", "no option 'patches'"),
        ("pixels=0", "from 1 to"),
        ("pixels=40.5", "not a whole number"),
        ("pixels=7", "smaller than a patch"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    folders: dict[Family, Path], options: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        ModelRegistry().embedder(f"dual_encoder:{folders['clip']},{options}")


def test_naflex_has_no_pixels_and_siglip_no_frame(folders: dict[Family, Path]) -> None:
    for family, option in (("siglip2", "pixels=64"), ("siglip", "frame=squeeze")):
        with pytest.raises(InvalidRequest, match="no option"):
            ModelRegistry().embedder(f"dual_encoder:{folders[family]},{option}")  # type: ignore[index]


def test_a_location_is_needed() -> None:
    with pytest.raises(InvalidRequest, match="needs a location"):
        ModelRegistry().embedder("dual_encoder")


def _rewrite(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text("utf-8"))
    content.update(changes)
    path.write_text(json.dumps(content), "utf-8")


def _lose_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors")


def _end_texts_with(folder: Path, end: int) -> None:
    text = json.loads((folder / "config.json").read_text("utf-8"))["text_config"]
    _rewrite(folder / "config.json", text_config={**text, "eos_token_id": end})


def test_an_end_token_that_old_configurations_name_wrongly_is_found(
    tmp_path: Path, embedders: dict[Family, Embedder]
) -> None:
    folder = write_tiny_dual_encoder(tmp_path / "clip", "clip")
    _end_texts_with(folder, 2)
    read = ModelRegistry().embedder(str(folder)).embed_texts(TEXTS)
    assert np.abs(read - embedders["clip"].embed_texts(TEXTS)).max() < 1e-6


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "preprocessor_config.json").unlink(), "how images are prepared"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer.json cannot be read"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda f: (f / "model.safetensors").write_bytes(b"12345678"), "cannot be read"),
        (lambda f: (f / "model.safetensors").unlink(), "has no weights"),
        (lambda f: _rewrite(f / "config.json", model_type="blip"), "type 'blip'"),
        (lambda f: _rewrite(f / "config.json", projection_dim=12), "have not the shapes"),
        (lambda f: _rewrite(f / "config.json", vision_config=3), "config.json cannot be read"),
        (lambda f: _rewrite(f / "preprocessor_config.json", crop_size=16), r"shape \(3, 16, 16\)"),
        (
            lambda f: _rewrite(f / "preprocessor_config.json", image_processor_type="ViTImageProcessor"),
            "is for ViTImageProcessor",
        ),
        (lambda f: _end_texts_with(f, 49407), r"ends texts with token \d+, .* config.json \(49407\)"),
        (_lose_a_weight, "lack visual_projection.weight"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_naming_what_is_wrong(
    tmp_path: Path, damage: Any, message: str
) -> None:
    folder = write_tiny_dual_encoder(tmp_path / "clip", "clip")
    damage(folder)
    with pytest.raises(ModelUnavailable, match=message):
        ModelRegistry().embedder(f"dual_encoder:{folder}")


def test_a_clip_tokenizer_in_its_older_files_reads_the_same(
    tmp_path: Path, embedders: dict[Family, Embedder]
) -> None:
    folder = write_tiny_dual_encoder(tmp_path / "clip", "clip")
    vocabulary = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    (folder / "tokenizer.json").unlink()
    read = ModelRegistry().embedder(str(folder)).embed_texts(TEXTS)
    assert np.abs(read - embedders["clip"].embed_texts(TEXTS)).max() < 1e-6


def test_the_fingerprint_tells_settings_and_weights_apart_but_not_where_they_lie(tmp_path: Path) -> None:
    first, second = (write_tiny_dual_encoder(tmp_path / name, "siglip") for name in ("a", "b"))
    prints = [
        ModelRegistry().embedder(f"dual_encoder:{location}").info.fingerprint
        for location in (first, second, f"{first},regions=crop", f"{first},pixels=64")
    ]
    assert prints[0].same_model(prints[1])
    assert len({one.weights for one in prints}) == 3


def test_siglip_2_of_one_resolution_reads_small_letters_and_keeps_punctuation(tmp_path: Path) -> None:
    folder = write_tiny_dual_encoder(tmp_path / "siglip", "siglip")
    first = ModelRegistry().embedder(str(folder)).embed_texts(["A cat!", "a cat"])
    _rewrite(folder / "tokenizer_config.json", tokenizer_class="GemmaTokenizer")
    second = ModelRegistry().embedder(f"dual_encoder:{folder}").embed_texts(["A cat!", "a cat!", "a cat"])
    assert np.abs(first[0] - first[1]).max() < 1e-6
    assert np.abs(second[0] - second[1]).max() < 1e-6
    assert np.abs(second[2] - first[1]).max() < 1e-6
    assert np.abs(second[1] - second[2]).max() > 1e-3
