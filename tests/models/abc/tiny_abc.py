"""A tiny ABC with random weights, in the layout of the published ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from regionsearch.models.low_rank import linear_modules
from regionsearch.models.qwen2_vl.loading import published_name

HIDDEN = 64
RANK = 4
LANGUAGE_TARGETS = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
VISION_TARGETS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_BYTES = 256
_CONFIG = {
    "architectures": ["Qwen2VLForConditionalGeneration"],
    "model_type": "qwen2_vl",
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "max_window_layers": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    "sliding_window": 32768,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "vocab_size": 272,
    "bos_token_id": _BYTES + SPECIAL_TOKENS.index("<|endoftext|>"),
    "eos_token_id": _BYTES + SPECIAL_TOKENS.index("<|im_end|>"),
    "vision_start_token_id": _BYTES + SPECIAL_TOKENS.index("<|vision_start|>"),
    "vision_end_token_id": _BYTES + SPECIAL_TOKENS.index("<|vision_end|>"),
    "vision_token_id": _BYTES + SPECIAL_TOKENS.index("<|vision_pad|>"),
    "image_token_id": _BYTES + SPECIAL_TOKENS.index("<|image_pad|>"),
    "video_token_id": _BYTES + SPECIAL_TOKENS.index("<|video_pad|>"),
    "vision_config": {
        "depth": 2,
        "embed_dim": 32,
        "mlp_ratio": 2,
        "num_heads": 2,
        "in_chans": 3,
        "hidden_size": HIDDEN,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "temporal_patch_size": 2,
    },
}


def write_tiny_abc(folder: Path, seed: int = 0) -> Path:
    """A base of two layers with the keys of published Qwen2-VL checkpoints, a tokenizer of bytes (`!` is
    token 0, as in the real one), and both adapters below `adapters`, as peft writes them."""
    model = write_tiny_qwen2_vl(folder, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    modules = linear_modules(model)
    head = {
        "mlp_head.linear_layer1.weight": _random(generator, 48, HIDDEN),
        "mlp_head.linear_layer1.bias": _random(generator, 48),
        "mlp_head.linear_layer2.weight": _random(generator, HIDDEN, 48),
        "mlp_head.linear_layer2.bias": _random(generator, HIDDEN),
        "temperature.temp": torch.tensor(0.03),
    }
    targets = (*LANGUAGE_TARGETS, *VISION_TARGETS)
    write_adapter(folder / "adapters" / "pretrain", modules, targets, generator, head)
    write_adapter(folder / "adapters" / "instruct", modules, LANGUAGE_TARGETS, generator)
    return folder


def write_tiny_qwen2_vl(folder: Path, seed: int = 0) -> Any:
    """The base alone; returns the `Qwen2VLModel` that was written."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_CONFIG))
    config = transformers.Qwen2VLConfig.from_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.Qwen2VLModel(config).eval().requires_grad_(False)
        # Fresh weights are so small that all pictures and words look alike.
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.8 / parameter[0].numel() ** 0.5)
        nn.init.normal_(model.language_model.embed_tokens.weight, std=0.5)
    weights = {published_name(name): tensor.contiguous() for name, tensor in model.state_dict().items()}
    weights["lm_head.weight"] = torch.zeros(config.text_config.vocab_size, HIDDEN)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write_tokenizer(folder)
    return model


def write_adapter(
    folder: Path,
    modules: Mapping[str, nn.Linear],
    targets: tuple[str, ...],
    generator: torch.Generator,
    saved: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """An adapter of rank 4, alpha 8, for the modules whose names end with a target."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"base_model.model.{name}": tensor for name, tensor in (saved or {}).items()}
    for name, module in modules.items():
        if name.endswith(targets):
            outputs, inputs = module.weight.shape
            key = f"base_model.model.{name}"
            tensors[f"{key}.lora_A.weight"] = _random(generator, RANK, inputs)
            tensors[f"{key}.lora_B.weight"] = _random(generator, outputs, RANK)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "lora_dropout": 0.05,
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": sorted({name.partition(".")[0] for name in saved}) if saved else None,
        "target_modules": list(targets),
        "task_type": None,
        "use_dora": False,
        "use_rslora": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


def _random(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator) * 0.5 / shape[-1] ** 0.5


def _write_tokenizer(folder: Path) -> None:
    """The 256 bytes in the order of Qwen's own vocabulary, printable ones first, then special tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(byte) for byte in printable]
    characters += [chr(256 + place) for place in range(_BYTES - len(printable))]
    (folder / "vocab.json").write_text(json.dumps({char: place for place, char in enumerate(characters)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    added = {
        str(_BYTES + place): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for place, token in enumerate(SPECIAL_TOKENS)
    }
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": added,
        "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "errors": "replace",
        "model_max_length": 32768,
        "split_special_tokens": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
