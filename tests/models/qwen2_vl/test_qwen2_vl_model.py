"""A tiny Qwen2-VL: its files, its vision tower, its language model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_virtue import HIDDEN, write_tiny_qwen2_vl, write_weights

from regionsearch.errors import ModelUnavailable
from regionsearch.models.checkpoints import read_tensors
from regionsearch.models.qwen2_vl.language import run_language_model
from regionsearch.models.qwen2_vl.loading import LoadedQwen2VL, load_qwen2_vl, published_name
from regionsearch.models.qwen2_vl.preprocessing import QwenPixels, prepare
from regionsearch.models.qwen2_vl.vision import vision_features
from regionsearch.models.runtime import Runtime

CPU = Runtime(device="cpu", dtype="fp32")
HALVED = {"type": "mrope", "mrope_section": [2, 2, 4]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_qwen2_vl(tmp_path_factory.mktemp("qwen2_vl"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedQwen2VL:
    return load_qwen2_vl(folder, CPU)


def pictures() -> list[QwenPixels]:
    random = np.random.default_rng(3)
    sizes = [(56, 84), (112, 56), (56, 84)]
    return [prepare(random.integers(0, 256, (*size, 3), dtype=np.uint8), *size) for size in sizes]


def test_every_weight_of_the_files_arrives(folder: Path, loaded: LoadedQwen2VL) -> None:
    stored = read_tensors(folder / "model.safetensors")
    held = {published_name(name): tensor for name, tensor in loaded.model.state_dict().items()}
    assert held.keys() == stored.keys()
    assert all(torch.equal(held[name], tensor) for name, tensor in stored.items())


def test_weights_that_are_missing_are_named_instead_of_drawn_at_random(folder: Path, tmp_path: Path) -> None:
    stored = read_tensors(folder / "model.safetensors")
    del stored["visual.merger.ln_q.weight"]
    lacking = write_tiny_qwen2_vl(tmp_path / "lacking")
    write_weights(lacking, stored, "safetensors", 1)
    with pytest.raises(ModelUnavailable, match=r"lack visual\.merger\.ln_q\.weight"):
        load_qwen2_vl(lacking, CPU)


def test_damaged_or_foreign_folders_are_refused_with_the_reason(tmp_path: Path) -> None:
    damaged = write_tiny_qwen2_vl(tmp_path / "damaged")
    whole = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        load_qwen2_vl(damaged, CPU)
    other = write_tiny_qwen2_vl(tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "clip"}))
    with pytest.raises(ModelUnavailable, match="'clip'"):
        load_qwen2_vl(other, CPU)
    (other / "config.json").write_text(json.dumps({**config, "image_token_id": 3}))
    with pytest.raises(ModelUnavailable, match="do not belong together"):
        load_qwen2_vl(other, CPU)
    (other / "config.json").write_text(json.dumps(config))
    (other / "tokenizer.json").unlink()
    with pytest.raises(ModelUnavailable, match="no tokenizer"):
        load_qwen2_vl(other, CPU)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"num_hidden_layers": 1}),
        ("config.json", {"rope_scaling": {"type": "yarn", "factor": 4.0, "mrope_section": [1, 1, 2]}}),
        ("config.json", {"num_attention_heads": 2, "num_key_value_heads": 1, "rope_scaling": HALVED}),
        ("tokenizer_config.json", {"add_prefix_space": True}),
    ],
)
def test_settings_that_change_outputs_are_told_apart(
    file: str, change: dict[str, object], loaded: LoadedQwen2VL, tmp_path: Path
) -> None:
    changed = write_tiny_qwen2_vl(tmp_path / "changed")
    content = json.loads((changed / file).read_text(encoding="utf-8"))
    (changed / file).write_text(json.dumps({**content, **change}), encoding="utf-8")
    assert load_qwen2_vl(changed, CPU).architecture != loaded.architecture
    same = write_tiny_qwen2_vl(tmp_path / "same")
    assert load_qwen2_vl(same, CPU).architecture == loaded.architecture


def test_a_tokenizer_that_spells_out_the_place_of_the_picture_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_qwen2_vl(tmp_path / "spelling")
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["split_special_tokens"] = True
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ModelUnavailable, match="no place for pictures"):
        load_qwen2_vl(folder, CPU)


def test_a_picture_has_the_same_tokens_alone_and_in_company(loaded: LoadedQwen2VL) -> None:
    with torch.inference_mode():
        together = vision_features(loaded.visual, pictures(), 10_000)
        alone = vision_features(loaded.visual, pictures(), 1)
    assert [tuple(tokens.shape) for tokens in together] == [(6, HIDDEN), (8, HIDDEN), (6, HIDDEN)]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_pictures_that_do_not_fit_the_memory_together_go_in_halves(
    loaded: LoadedQwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loaded.visual.forward
    passes: list[int] = []

    def scarce(patches: torch.Tensor, grid_thw: torch.Tensor) -> object:
        passes.append(len(grid_thw))
        if len(grid_thw) > 1:
            raise torch.OutOfMemoryError("too many pictures")
        return whole(patches, grid_thw=grid_thw)

    with torch.inference_mode():
        expected = vision_features(loaded.visual, pictures(), 10_000)
        monkeypatch.setattr(loaded.visual, "forward", scarce)
        found = vision_features(loaded.visual, pictures(), 10_000)
    assert passes == [3, 1, 2, 1, 1]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def embeds_and_positions(length: int, rows: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    embeds = torch.randn(rows, length, HIDDEN, generator=torch.Generator().manual_seed(length))
    return embeds, torch.arange(length).expand(3, rows, -1)


@pytest.mark.parametrize("causal", [True, False])
def test_a_mask_of_ones_is_no_mask(loaded: LoadedQwen2VL, causal: bool) -> None:
    embeds, positions = embeds_and_positions(9, rows=2)
    with torch.inference_mode():
        unmasked = run_language_model(loaded.language_model, embeds, positions, causal=causal)
        masked = run_language_model(loaded.language_model, embeds, positions, torch.ones(2, 9), causal=causal)
    torch.testing.assert_close(unmasked, masked, atol=1e-5, rtol=0)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_token(loaded: LoadedQwen2VL, causal: bool, side: str) -> None:
    embeds, positions = embeds_and_positions(7)
    pad = (3, 0) if side == "left" else (0, 3)
    mask = torch.nn.functional.pad(torch.ones(1, 7), pad)
    padded = torch.nn.functional.pad(embeds, (0, 0, *pad), value=5.0)
    shifted = torch.nn.functional.pad(positions.contiguous(), pad, value=1)
    with torch.inference_mode():
        alone = run_language_model(loaded.language_model, embeds, positions, causal=causal)
        beside = run_language_model(loaded.language_model, padded, shifted, mask, causal=causal)
    assert torch.isfinite(beside).all()
    torch.testing.assert_close(beside[mask.bool()], alone[0], atol=1e-5, rtol=0)


def test_only_full_attention_lets_a_token_see_what_follows(loaded: LoadedQwen2VL) -> None:
    embeds, positions = embeds_and_positions(6)
    changed = embeds.clone()
    changed[:, -1] += 1
    with torch.inference_mode():
        for causal, moved in ((True, False), (False, True)):
            first, second = (
                run_language_model(loaded.language_model, given, positions, causal=causal)[0, 0]
                for given in (embeds, changed)
            )
            assert (not torch.allclose(first, second, atol=1e-4)) == moved


def test_gradients_flow_to_what_is_put_in(loaded: LoadedQwen2VL) -> None:
    embeds, positions = embeds_and_positions(5)
    embeds.requires_grad_(True)
    run_language_model(loaded.language_model, embeds, positions)[:, -1].sum().backward()
    assert embeds.grad is not None
    assert (embeds.grad.abs().amax(dim=2) > 0).all()
