"""Qwen2-VL checkpoints, read from a folder into transformers' own classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from regionsearch.errors import ModelUnavailable
from regionsearch.models.checkpoints import read_json, weight_files
from regionsearch.models.quiet_transformers import quiet_transformers
from regionsearch.models.quoting import first_line, some_of
from regionsearch.models.qwen2_vl.words import IMAGE_PAD
from regionsearch.models.runtime import Runtime

HUB_PATTERNS = ("*.json", "*.txt", "*.safetensors", "*.bin", "*.jinja")
"""The files of such a checkpoint, for `checkpoints.locate`."""
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")
_TOKENIZER_PROBE = f"  A caf\u00e9\n<|im_start|>{IMAGE_PAD} x1<|im_end|>"
"""Whatever settings of a tokenizer change: a leading space, letters beyond ASCII, special tokens."""
_OLD_AND_NEW = (("language_model.", "model."),)


@dataclass(frozen=True, eq=False)
class LoadedQwen2VL:
    """A checkpoint in memory, in eval mode on its device.

    model: `Qwen2VLModel`, which has no `lm_head`; its parts are `visual` and `language_model`.
    tokenizer: transformers' own, padding on the left.
    files: the weights and what the tokenizer is made of, in a fixed order, for `weights_hash`.
    architecture: the numbers of the configuration that change outputs but no shape of a weight, and what
        the tokenizer, with its own settings, makes of a fixed string.
    """

    model: Any
    tokenizer: Any
    files: Sequence[Path]
    architecture: Mapping[str, object]
    device: torch.device
    dtype: torch.dtype

    @property
    def visual(self) -> Any:
        return self.model.visual

    @property
    def language_model(self) -> Any:
        return self.model.language_model

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.text_config.hidden_size)

    @property
    def image_token_id(self) -> int:
        return int(self.model.config.image_token_id)


def load_qwen2_vl(folder: Path, runtime: Runtime, *, attention: str = "sdpa") -> LoadedQwen2VL:
    """The model and tokenizer in a folder, as `save_pretrained` wrote them: weights in safetensors or
    `.bin`, sharded or not, under the names of any transformers version; pickles with `weights_only`.

    attention: `sdpa`, or `eager` to compare with it.
    Raises ModelUnavailable when files are missing or damaged, when the weights lack anything but the
    `lm_head` (nothing is left at random), or when the model wants sliding windows.
    """
    config = read_json(folder / "config.json")
    if config.get("model_type") != "qwen2_vl":
        raise ModelUnavailable(
            f"{folder} holds a model of type {config.get('model_type')!r}, and not 'qwen2_vl'"
        )
    files = weight_files(folder)
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    device, dtype = runtime.torch_device(), runtime.torch_dtype()
    model = _load_model(folder, dtype, attention)
    if "sliding_attention" in model.config.text_config.layer_types:
        raise ModelUnavailable(f"{folder} has layers with sliding windows, which no published Qwen2-VL has")
    tokenizer, tokenizer_files = load_tokenizer(folder)
    found = tokenizer.convert_tokens_to_ids(IMAGE_PAD)
    if found != model.config.image_token_id:
        raise ModelUnavailable(
            f"in {folder} the tokenizer has {IMAGE_PAD} as {found}, the model as "
            f"{model.config.image_token_id}: they do not belong together"
        )
    probe = list(tokenizer(_TOKENIZER_PROBE).input_ids)
    if found not in probe:
        raise ModelUnavailable(
            f"the tokenizer in {folder} reads {IMAGE_PAD} as letters: there would be no place for pictures"
        )
    return LoadedQwen2VL(
        model=model.eval().requires_grad_(False).to(device),
        tokenizer=tokenizer,
        files=[*files, *tokenizer_files],
        architecture={**_architecture(model.config), "tokenizer": probe},
        device=device,
        dtype=dtype,
    )


def load_tokenizer(folder: Path) -> tuple[Any, list[Path]]:
    """The tokenizer of a folder, padding on the left, and the files that it is made of.

    Raises ModelUnavailable when there are none, or when they cannot be read.
    """
    files = [folder / name for name in _TOKENIZER_FILES if (folder / name).exists()]
    if not files:
        raise ModelUnavailable(f"{folder} has no tokenizer: none of {', '.join(_TOKENIZER_FILES)}")
    with quiet_transformers():
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, padding_side="left"
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelUnavailable(f"the tokenizer in {folder} cannot be read: {error}") from error
    return tokenizer, files


def published_name(name: str) -> str:
    """The name that a weight of `Qwen2VLModel` has in published checkpoints: `language_model.norm.weight`
    is `model.norm.weight` there; names below `visual.` are the same."""
    for ours, theirs in _OLD_AND_NEW:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _load_model(folder: Path, dtype: torch.dtype, attention: str) -> Any:
    import safetensors

    with quiet_transformers():
        try:
            model, report = transformers.Qwen2VLModel.from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation=attention,
                local_files_only=True,
                weights_only=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, EOFError, safetensors.SafetensorError) as error:
            raise ModelUnavailable(f"weights in {folder} cannot be read: {first_line(error)}") from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("lm_head"))
    if missing:
        raise ModelUnavailable(f"weights in {folder} lack {some_of(missing)}")
    return model


def _architecture(config: Any) -> dict[str, object]:
    text, vision = config.text_config, config.vision_config
    return {
        "layers": text.num_hidden_layers,  # fewer than the file has would be read without a word
        "heads": text.num_attention_heads,
        "key_value_heads": text.num_key_value_heads,
        "rope": _rope(text.rope_parameters),
        "rms_norm_eps": text.rms_norm_eps,
        "activation": text.hidden_act,
        "vision_layers": vision.depth,
        "vision_heads": vision.num_heads,
        "vision_activation": vision.hidden_act,
        "image_token": config.image_token_id,
    }


def _rope(parameters: Mapping[str, object]) -> dict[str, object]:
    """With the scaling of contexts beyond those of training (YaRN and its like), where there is one."""
    plain = parameters.get("rope_type", "default") == "default"
    names = ("rope_theta", "mrope_section") if plain else sorted(parameters)
    return {name: parameters[name] for name in names}
