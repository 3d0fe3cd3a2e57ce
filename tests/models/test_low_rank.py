"""Low-rank adapters do here what they do in peft, whose files they come in."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tiny_abc import LANGUAGE_TARGETS, VISION_TARGETS, write_adapter, write_tiny_qwen2_vl
from torch import nn

from regionsearch.errors import ModelUnavailable
from regionsearch.models.low_rank import Adapter, attach, linear_modules, merge, read_adapter
from regionsearch.models.qwen2_vl.loading import load_qwen2_vl
from regionsearch.models.runtime import Runtime

CPU = Runtime(device="cpu", dtype="fp32")
PAIR = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    write_tiny_qwen2_vl(folder)
    return folder


@pytest.fixture(scope="module")
def written(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter with the keys of peft 0.13 on transformers 4.47."""
    folder = tmp_path_factory.mktemp("adapters") / "by-hand"
    modules = linear_modules(load_qwen2_vl(base, CPU).model)
    saved = {"mlp_head.linear_layer1.bias": torch.ones(3), "temperature.temp": torch.tensor(0.03)}
    generator = torch.Generator().manual_seed(3)
    write_adapter(folder, modules, (*LANGUAGE_TARGETS, *VISION_TARGETS), generator, saved)
    return folder


def _copy(
    written: Path, folder: Path, tensors: Mapping[str, torch.Tensor] | None = None, **changed: object
) -> Path:
    shutil.copytree(written, folder)
    if tensors is not None:
        safetensors.torch.save_file(dict(tensors), folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changed}))
    return folder


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return dict(safetensors.torch.load_file(folder / "adapter_model.safetensors"))


def _equal(a: Adapter, b: Adapter) -> bool:
    return (
        a.updates.keys() == b.updates.keys()
        and all(torch.equal(a.updates[name].delta(), b.updates[name].delta()) for name in a.updates)
        and a.saved.keys() == b.saved.keys()
        and all(torch.equal(a.saved[name], b.saved[name]) for name in a.saved)
    )


def _peft_adapter(base: Path, folder: Path) -> tuple[Any, Any]:
    """What peft makes of the base, and the folder that it wrote."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peft and its own dependencies
        import peft

        config = peft.LoraConfig(
            r=4, lora_alpha=8, target_modules=[*LANGUAGE_TARGETS, *VISION_TARGETS], lora_dropout=0.0
        )
        wrapped = peft.get_peft_model(load_qwen2_vl(base, CPU).model, config).eval()
        generator = torch.Generator().manual_seed(5)
        for name, parameter in wrapped.named_parameters():
            if ".lora_" in name:
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        wrapped.save_pretrained(folder)
    return wrapped, folder


def _as_in_a_whole_model(folder: Path) -> Path:
    """peft wrapped the model below `lm_head` alone; published adapters were made on all of it."""
    tensors = {
        f"base_model.model.model.{name.removeprefix('base_model.model.')}": tensor
        for name, tensor in _tensors(folder).items()
    }
    safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def test_merged_and_switched_on_it_computes_what_peft_computes(base: Path, tmp_path: Path) -> None:
    theirs, folder = _peft_adapter(base, tmp_path / "by-peft")
    adapter = read_adapter(_as_in_a_whole_model(folder))
    merged, switched = (load_qwen2_vl(base, CPU).model for _ in range(2))
    merge(adapter, linear_modules(merged))
    switch = attach(adapter, linear_modules(switched))
    ids = torch.arange(12)[None]
    patches = torch.randn(16, 1176, generator=torch.Generator().manual_seed(1))
    grid = torch.tensor([[1, 4, 4]])
    with torch.inference_mode():
        untouched = load_qwen2_vl(base, CPU).model.language_model(ids).last_hidden_state
        expected = theirs.base_model.model.language_model(ids).last_hidden_state
        pictures = theirs.base_model.model.visual(patches, grid_thw=grid).pooler_output
        assert torch.equal(switched.language_model(ids).last_hidden_state, untouched)
        assert float((expected - untouched).abs().max()) > 0.01
        with switch.set(True):
            torch.testing.assert_close(switched.language_model(ids).last_hidden_state, expected)
            torch.testing.assert_close(switched.visual(patches, grid_thw=grid).pooler_output, pictures)
        assert torch.equal(switched.language_model(ids).last_hidden_state, untouched)
        torch.testing.assert_close(
            merged.language_model(ids).last_hidden_state, expected, atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(
            merged.visual(patches, grid_thw=grid).pooler_output, pictures, atol=1e-4, rtol=1e-4
        )
    whole = theirs.merge_and_unload()
    for name, module in linear_modules(merged).items():
        assert torch.equal(module.weight, linear_modules(whole)[name].weight), name


def test_merging_into_half_precision_rounds_once(base: Path, written: Path) -> None:
    half = load_qwen2_vl(base, Runtime(device="cpu", dtype="bf16")).model
    before = {name: module.weight.float() for name, module in linear_modules(half).items()}
    adapter = read_adapter(written)
    merge(adapter, linear_modules(half))
    for name, update in adapter.updates.items():
        exact = before[name] + (update.b @ update.a) * 2.0
        assert torch.equal(linear_modules(half)[name].weight, exact.to(torch.bfloat16))


@pytest.mark.parametrize("spelling", ["adapter named", "saved named", "later transformers", "pickled"])
def test_other_spellings_of_the_same_adapter_are_read(written: Path, tmp_path: Path, spelling: str) -> None:
    tensors = _tensors(written)
    if spelling == "adapter named":
        tensors = {
            name.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default."): tensor
            for name, tensor in tensors.items()
        }
    elif spelling == "saved named":
        tensors = {
            name.replace("mlp_head.", "mlp_head.modules_to_save.default.").replace(
                "temperature.", "temperature.modules_to_save.default."
            ): tensor
            for name, tensor in tensors.items()
        }
    elif spelling == "later transformers":
        tensors = {
            name.replace("model.model.layers", "model.model.language_model.layers").replace(
                "base_model.model.visual.", "base_model.model.model.visual."
            ): tensor
            for name, tensor in tensors.items()
        }
    folder = _copy(written, tmp_path / "copy", tensors)
    if spelling == "pickled":
        (folder / "adapter_model.safetensors").unlink()
        torch.save(tensors, folder / "adapter_model.bin")
    assert _equal(read_adapter(folder), read_adapter(written))


def test_a_pattern_can_name_what_an_adapter_is_for(base: Path, written: Path, tmp_path: Path) -> None:
    pattern = r"model\.layers\.\d+\.(self_attn|mlp)\..+_proj|visual\.blocks\..+"
    adapter = read_adapter(_copy(written, tmp_path / "copy", target_modules=pattern))
    adapter.check(linear_modules(load_qwen2_vl(base, CPU).model))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "use_dora = True"),
        ({"use_rslora": True}, "use_rslora = True"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"r": 0}, "r = 0"),
        ({"r": 8}, "its config says r = 8"),
        ({"target_modules": "all-linear"}, "target_modules"),
        ({"target_modules": None}, "target_modules"),
    ],
)
def test_an_adapter_of_another_kind_is_refused_by_what_it_has(
    written: Path, tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelUnavailable, match=message):
        read_adapter(_copy(written, tmp_path / "copy", **changed))


@pytest.mark.parametrize(
    "key",
    [
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        "base_model.model.lm_head.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
    ],
)
def test_an_unknown_key_is_refused_by_name(written: Path, tmp_path: Path, key: str) -> None:
    tensors = {**_tensors(written), key: torch.zeros(4, 64)}
    with pytest.raises(ModelUnavailable, match=f"unknown keys: {key}"):
        read_adapter(_copy(written, tmp_path / "copy", tensors))


def test_half_a_pair_is_refused_by_name(written: Path, tmp_path: Path) -> None:
    tensors = _tensors(written)
    del tensors[f"{PAIR}.lora_B.weight"]
    with pytest.raises(ModelUnavailable, match=r"lacks lora_B of model\.layers\.0\.self_attn\.q_proj"):
        read_adapter(_copy(written, tmp_path / "copy", tensors))


def test_two_adapters_in_one_file_are_refused(written: Path, tmp_path: Path) -> None:
    tensors = _tensors(written)
    for part in "AB":
        tensors[f"{PAIR}.lora_{part}.second.weight"] = tensors.pop(f"{PAIR}.lora_{part}.weight")
    with pytest.raises(ModelUnavailable, match="several adapters"):
        read_adapter(_copy(written, tmp_path / "copy", tensors))


def test_an_adapter_that_lacks_a_target_is_refused_by_name(base: Path, written: Path, tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in _tensors(written).items() if not name.startswith(PAIR)}
    adapter = read_adapter(_copy(written, tmp_path / "copy", tensors))
    with pytest.raises(ModelUnavailable, match=r"lacks what it targets: model\.layers\.0\.self_attn\.q_proj"):
        merge(adapter, linear_modules(load_qwen2_vl(base, CPU).model))


@pytest.mark.parametrize("module", ["model.layers.7.self_attn.q_proj", "visual.merger.mlp.0"])
def test_an_adapter_that_changes_more_than_its_targets_is_refused_by_name(
    base: Path, written: Path, tmp_path: Path, module: str
) -> None:
    tensors = _tensors(written)
    for part in "AB":
        tensors[f"base_model.model.{module}.lora_{part}.weight"] = tensors[
            f"{PAIR}.lora_{part}.weight"
        ].clone()
    adapter = read_adapter(_copy(written, tmp_path / "copy", tensors))
    with pytest.raises(ModelUnavailable, match=f"this model lacks: {module}"):
        attach(adapter, linear_modules(load_qwen2_vl(base, CPU).model))


def test_an_adapter_for_a_model_of_another_size_is_refused(written: Path) -> None:
    modules = {name: nn.Linear(8, 8) for name in read_adapter(written).updates}
    with pytest.raises(ModelUnavailable, match="it is for another model"):
        merge(read_adapter(written), modules)


def test_a_folder_without_weights_is_refused(written: Path, tmp_path: Path) -> None:
    folder = _copy(written, tmp_path / "copy")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match=r"neither adapter_model\.safetensors nor adapter_model\.bin"):
        read_adapter(folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"adapter_config\.json"):
        read_adapter(folder)
