"""Low-rank adapters as the peft package writes them: read, checked, merged, or switched on and off.

LoRA (Hu et al. 2021, eq. 3): a matrix W becomes W + (alpha / r) B A. Nothing here needs peft.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regionsearch.errors import ModelUnavailable
from regionsearch.models.checkpoints import read_json, read_tensors
from regionsearch.models.quoting import some_of
from regionsearch.models.qwen2_vl.loading import published_name

WEIGHT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
HUB_PATTERNS = ("adapter_config.json", "adapter_model.*")
"""The files of an adapter, for `checkpoints.locate`."""
_PREFIX = "base_model.model."
_LOW_RANK = re.compile(r"(?P<module>.+)\.lora_(?P<part>[AB])(?:\.(?P<adapter>\w+))?\.weight")
_PLAIN_ONLY = (
    "alora_invocation_tokens",
    "alpha_pattern",
    "exclude_modules",
    "fan_in_fan_out",
    "layer_replication",
    "layers_to_transform",
    "lora_bias",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "use_rslora",
)
"""Settings of peft that make an adapter something else than plain LoRA, or change what it is for."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """What is added to one matrix: a (r, inputs), b (outputs, r); scale is alpha / r."""

    a: torch.Tensor
    b: torch.Tensor
    scale: float

    def delta(self) -> torch.Tensor:
        """(outputs, inputs) float32."""
        return (self.b.float() @ self.a.float()) * self.scale


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter in memory.

    updates: by the name of the module in published Qwen2-VL checkpoints, without `.weight`
    (`model.layers.0.self_attn.q_proj`, `visual.blocks.0.attn.qkv`).
    saved: whole modules that were trained and saved beside, tensors by name (`mlp_head.linear_layer1.bias`).
    targets: which modules it is for: the ends of their names, or one pattern for the whole name.
    scale: alpha / r, the same for all. file: the weights.
    """

    updates: Mapping[str, LowRank]
    saved: Mapping[str, torch.Tensor]
    targets: Sequence[str] | str
    scale: float
    file: Path

    def check(self, modules: Mapping[str, nn.Linear]) -> None:
        """Raises ModelUnavailable, by name, unless there is an update of the right shape for exactly
        those modules that the adapter says it is for.

        modules: all linear modules of the model, by their published names.
        """
        expected = {name for name in modules if _is_target(name, self.targets)}
        if not expected:
            raise ModelUnavailable(f"adapter {self.file} is for no module of this model: {self.targets}")
        unknown = sorted(set(self.updates) - expected)
        if unknown:
            raise ModelUnavailable(
                f"adapter {self.file} changes what it does not target or this model lacks: {some_of(unknown)}"
            )
        missing = sorted(expected - set(self.updates))
        if missing:
            raise ModelUnavailable(f"adapter {self.file} lacks what it targets: {some_of(missing)}")
        for name, update in self.updates.items():
            shape = (update.b.shape[0], update.a.shape[1])
            if shape != tuple(modules[name].weight.shape):
                raise ModelUnavailable(
                    f"adapter {self.file} changes {name} as a matrix of {shape}, but this model's has "
                    f"{tuple(modules[name].weight.shape)}: it is for another model"
                )


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a folder with `adapter_config.json` and `adapter_model.safetensors` (or `.bin`).

    Keys may have the adapter's name in them (`lora_A.default.weight`) and `modules_to_save` likewise, as
    some versions of peft write them, and the module names of any transformers version.
    Raises ModelUnavailable, by name, for a missing or unreadable file, a kind of adapter other than plain
    LoRA, an unknown key, or one half of a pair.
    """
    config = read_json(folder / "adapter_config.json")
    rank, scale = _check_settings(config, folder / "adapter_config.json")
    file = next((folder / name for name in WEIGHT_FILES if (folder / name).exists()), None)
    if file is None:
        raise ModelUnavailable(f"{folder} has no weights: neither {' nor '.join(WEIGHT_FILES)}")
    halves: dict[str, dict[str, torch.Tensor]] = {}
    saved: dict[str, torch.Tensor] = {}
    unknown: list[str] = []
    adapters: set[str | None] = set()
    for key, tensor in read_tensors(file).items():
        name = _published(key)
        if name is None:
            unknown.append(key)
        elif match := _LOW_RANK.fullmatch(name):
            halves.setdefault(match["module"], {})[match["part"]] = tensor
            adapters.add(match["adapter"])
        elif (weight := _saved_name(name, config.get("modules_to_save") or ())) is not None:
            saved[weight] = tensor
        else:
            unknown.append(key)
    if unknown:
        raise ModelUnavailable(f"adapter {file} holds unknown keys: {some_of(sorted(unknown))}")
    if len(adapters) > 1:
        raise ModelUnavailable(f"{file} holds several adapters: {sorted(map(str, adapters))}")
    for module, pair in halves.items():
        lacking = {"A", "B"} - set(pair)
        if lacking:
            raise ModelUnavailable(f"adapter {file} lacks lora_{lacking.pop()} of {module}")
        if pair["A"].ndim != 2 or pair["B"].ndim != 2 or {len(pair["A"]), pair["B"].shape[1]} != {rank}:
            raise ModelUnavailable(
                f"adapter {file} has shapes {tuple(pair['A'].shape)} and {tuple(pair['B'].shape)} for "
                f"{module}, but its config says r = {rank}"
            )
    updates = {module: LowRank(pair["A"], pair["B"], scale) for module, pair in halves.items()}
    return Adapter(updates, saved, config["target_modules"], scale, file)


def merge(adapter: Adapter, modules: Mapping[str, nn.Linear]) -> None:
    """Adds the adapter to the matrices for good: the sum in float32, then one rounding to their own
    precision, as peft does. Raises as `Adapter.check` does."""
    adapter.check(modules)
    for name, update in adapter.updates.items():
        weight = modules[name].weight
        on_device = LowRank(update.a.to(weight.device), update.b.to(weight.device), update.scale)
        weight.data = (weight.data.float() + on_device.delta()).to(weight.dtype)


class AdapterSwitch(threading.local):
    """Whether an attached adapter takes part: each thread has its own answer, at first no."""

    def __init__(self) -> None:
        self.is_on = False

    @contextmanager
    def set(self, is_on: bool) -> Iterator[None]:
        before, self.is_on = self.is_on, is_on
        try:
            yield
        finally:
            self.is_on = before


def attach(adapter: Adapter, modules: Mapping[str, nn.Linear]) -> AdapterSwitch:
    """Puts the adapter beside the matrices, switched off. Raises as `Adapter.check` does."""
    adapter.check(modules)
    switch = AdapterSwitch()
    for name, update in adapter.updates.items():
        modules[name].register_forward_hook(_added_by(update, modules[name].weight, switch))
    return switch


def _added_by(
    update: LowRank, weight: torch.Tensor, switch: AdapterSwitch
) -> Callable[[nn.Linear, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor]:
    a, b = (half.to(weight.device, weight.dtype) for half in (update.a, update.b))

    def add(module: nn.Linear, inputs: tuple[torch.Tensor, ...], result: torch.Tensor) -> torch.Tensor:
        del module
        if not switch.is_on:
            return result
        # Not through W + (alpha / r) B A: the rounding of W must not swallow the small update.
        low = nn.functional.linear(inputs[0], a)
        return result + nn.functional.linear(low, b) * update.scale

    return add


def linear_modules(model: nn.Module) -> dict[str, nn.Linear]:
    """Every linear module of a `Qwen2VLModel`, by its name in published checkpoints."""
    return {
        published_name(name): module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }


def _check_settings(config: Mapping[str, Any], file: Path) -> tuple[int, float]:
    """The rank and alpha / r."""
    if config.get("peft_type") != "LORA":
        raise ModelUnavailable(f"{file} is for a {config.get('peft_type')} adapter; only LORA is read")
    for name in _PLAIN_ONLY:
        if config.get(name):
            raise ModelUnavailable(f"{file} has {name} = {config[name]!r}; only plain LoRA is read")
    if config.get("bias", "none") != "none":
        raise ModelUnavailable(f"{file} has bias = {config['bias']!r}; only adapters without are read")
    rank, alpha, targets = config.get("r"), config.get("lora_alpha"), config.get("target_modules")
    if (
        not isinstance(rank, int)
        or rank < 1
        or not isinstance(alpha, int | float)
        or not math.isfinite(alpha)
    ):
        raise ModelUnavailable(f"{file} has r = {rank!r} and lora_alpha = {alpha!r}; numbers are needed")
    if not isinstance(targets, str | list) or not targets or targets == "all-linear":
        raise ModelUnavailable(f"{file} has target_modules = {targets!r}; names or a pattern are needed")
    if isinstance(targets, str):
        try:
            re.compile(targets)
        except re.error as error:
            raise ModelUnavailable(f"{file} has target_modules = {targets!r}: {error}") from error
    return rank, alpha / rank


def _published(key: str) -> str | None:
    """The key of a module as published checkpoints spell it; None for one that peft does not write."""
    if not key.startswith(_PREFIX):
        return None
    name = key.removeprefix(_PREFIX)
    for later, published in (("model.language_model.", "model."), ("model.visual.", "visual.")):
        if name.startswith(later):
            return published + name.removeprefix(later)
    return name


def _saved_name(name: str, modules: Sequence[str]) -> str | None:
    for module in modules:
        match = re.fullmatch(rf"{re.escape(module)}\.(?:modules_to_save\.\w+\.)?(?P<weight>.+)", name)
        if match:
            return f"{module}.{match['weight']}"
    return None


def _is_target(name: str, targets: Sequence[str] | str) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)
