"""A VIRTUE of tiny widths with random weights, in the files that the published ones come in."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import tokenizers
import torch
from safetensors.torch import save_file
from tiny_sam2 import WIDTH, write_tiny_sam2
from transformers import Qwen2VLConfig, Qwen2VLModel

from regionsearch.models.qwen2_vl.loading import published_name

HIDDEN = 32
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
BYTES = 256
VOCABULARY = BYTES + len(SPECIAL_TOKENS)
IMAGE_TOKEN_ID = BYTES + SPECIAL_TOKENS.index("<|image_pad|>")
POINTS_PER_SIDE = 3

Weights = Literal["safetensors", "bin"]


def write_tiny_virtue(
    folder: Path,
    *,
    weights: Weights = "safetensors",
    sam: Literal["transformers", "official"] = "transformers",
    shards: int = 1,
    seed: int = 0,
) -> Path:
    """A folder that `ModelRegistry().embedder(str(folder))` reads: merged weights under Qwen2-VL's first
    names, the tokenizer, the connector, and SAM 2 below `sam2` (which the published ones do not hold)."""
    write_tiny_qwen2_vl(folder, weights=weights, shards=shards, seed=seed)
    config = json.loads((folder / "config.json").read_text())
    config["virtue_sam"] = {
        "enabled": True,
        "config_path": "configs/sam2.1/sam2.1_hiera_b+.yaml",
        "checkpoint": "checkpoints/sam2.1_hiera_base_plus.pt",
        "points_per_side": POINTS_PER_SIDE,
        "feature_levels": 2,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    random = torch.Generator().manual_seed(seed + 1)
    connector = {
        "sam2_reducer": _random({"weight": (WIDTH, WIDTH, 4, 4), "bias": (WIDTH,)}, random),
        "sam2vlm_layer": _random(
            {
                "0.weight": (WIDTH, WIDTH),
                "0.bias": (WIDTH,),
                "2.weight": (HIDDEN, WIDTH),
                "2.bias": (HIDDEN,),
            },
            random,
        ),
    }
    torch.save(connector, folder / "sam2_reducer_and_vlm_layer.pth")
    write_tiny_sam2(folder / "sam2", naming=sam, seed=seed)
    return folder


def write_tiny_qwen2_vl(
    folder: Path, *, weights: Weights = "safetensors", shards: int = 1, seed: int = 0
) -> Path:
    """Qwen2-VL alone, without `lm_head`, which no embedder needs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_CONFIG), encoding="utf-8")
    write_byte_tokenizer(folder)
    # Qwen2VLConfig writes into the dicts that it is given.
    config = Qwen2VLConfig(**copy.deepcopy(_CONFIG))
    with torch.device("meta"):
        expected = Qwen2VLModel(config).state_dict()
    shapes = {published_name(name): tuple(tensor.shape) for name, tensor in expected.items()}
    write_weights(folder, _random(shapes, torch.Generator().manual_seed(seed)), weights, shards)
    return folder


def write_weights(folder: Path, tensors: Mapping[str, torch.Tensor], kind: Weights, shards: int) -> None:
    """As `save_pretrained` does: one file, or several with an index beside them."""
    stem, suffix = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    names = sorted(tensors)
    parts = [names[shard::shards] for shard in range(shards)]
    placed = {}
    for number, part in enumerate(parts, start=1):
        file = f"{stem}.{suffix}" if shards == 1 else f"{stem}-{number:05d}-of-{shards:05d}.{suffix}"
        held = {name: tensors[name] for name in part}
        if kind == "safetensors":
            save_file(held, folder / file, metadata={"format": "pt"})
        else:
            torch.save(held, folder / file)
        placed |= dict.fromkeys(part, file)
    if shards > 1:
        size = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": size}, "weight_map": placed}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index), encoding="utf-8")


def write_byte_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer without merges, with Qwen's special tokens after the 256 bytes."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: place for place, character in enumerate(alphabet)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "padding_side": "left",
        "pad_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _random(shapes: Mapping[str, tuple[int, ...]], random: torch.Generator) -> dict[str, torch.Tensor]:
    """Far enough from nothing that two inputs never look alike."""
    tensors = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=random)
        if len(shape) > 1:
            fan_in = 1 if name.endswith("embed_tokens.weight") else torch.Size(shape[1:]).numel()
            tensors[name] = values / fan_in**0.5
        else:
            tensors[name] = 0.1 * values + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return tensors


_CONFIG = {
    "architectures": ["Qwen2VLForConditionalGeneration"],
    "model_type": "qwen2_vl",
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "bos_token_id": BYTES,
    "eos_token_id": BYTES + 2,
    "vision_start_token_id": BYTES + 3,
    "vision_end_token_id": BYTES + 4,
    "image_token_id": IMAGE_TOKEN_ID,
    "video_token_id": BYTES + 6,
    "vision_config": {
        "model_type": "qwen2_vl",
        "depth": 1,
        "embed_dim": 32,
        "hidden_size": HIDDEN,
        "num_heads": 2,
        "mlp_ratio": 2,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "in_channels": 3,
    },
}
