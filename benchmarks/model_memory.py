"""What memory each published model takes, computed from the shapes of its published configuration.

    python -m benchmarks.model_memory [--token-budget N] [--json]

Nothing is downloaded and nothing is run: the modules are built on torch's meta device, whose tensors
have shapes and no contents. Weights are exact; the activations of one forward pass are an estimate from
shapes: what one layer holds at once (attention in fused kernels keeps no score matrix).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    Qwen2VLConfig,
    Qwen2VLModel,
    Sam2Config,
    Sam2Model,
    SiglipConfig,
    SiglipModel,
)

from regionsearch.models.runtime import DEFAULT_TOKEN_BUDGET

GIB = 1024**3
HALF = 2
FULL = 4


@dataclass(frozen=True, slots=True)
class Memory:
    """parameters: count. half_gib, full_gib: weights in bf16 or fp16, and in fp32. pass_gib: one
    forward pass of `token_budget` tokens in half precision, on top of the weights."""

    name: str
    parameters: int
    half_gib: float
    full_gib: float
    pass_gib: float


def qwen2_vl(
    hidden: int, layers: int, heads: int, kv_heads: int, mlp: int, vocabulary: int
) -> torch.nn.Module:
    """Qwen2-VL-2B and 7B share their vision tower; the unused output head is not built."""
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "intermediate_size": mlp,
            "vocab_size": vocabulary,
            "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
        },
        vision_config={
            "depth": 32,
            "embed_dim": 1280,
            "num_heads": 16,
            "mlp_ratio": 4,
            "hidden_size": hidden,
        },
    )
    return Qwen2VLModel(config)


def sam2_base_plus() -> torch.nn.Module:
    config = Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 112,
                "num_attention_heads": 2,
                "blocks_per_stage": [2, 3, 16, 3],
                "embed_dim_per_stage": [112, 224, 448, 896],
                "num_attention_heads_per_stage": [2, 4, 8, 16],
                "window_size_per_stage": [8, 4, 14, 7],
                "global_attention_blocks": [12, 16, 20],
                "window_positional_embedding_background_size": [14, 14],
            },
            "backbone_channel_list": [896, 448, 224, 112],
        }
    )
    return Sam2Model(config)


def clip_large() -> torch.nn.Module:
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "image_size": 336,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=768))


def siglip2_so400m() -> torch.nn.Module:
    shape = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
    }
    text = {**shape, "vocab_size": 256_000, "max_position_embeddings": 64, "projection_size": 1152}
    vision = {**shape, "patch_size": 14, "image_size": 384}
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))


def virtue_additions(hidden: int) -> int:
    """Parameters of reducer and connector."""
    return 256 * 256 * 16 + 256 + 256 * 256 + 256 + hidden * 256 + hidden


def abc_additions(hidden: int = 3584, within: int = 4096, rank: int = 16, layers: int = 28) -> int:
    """Parameters of the head, and of the instruct adapter, which stays beside the weights."""
    kv, mlp = 512, 18944
    sides = [(hidden, hidden), (hidden, kv), (hidden, kv), (hidden, hidden)]
    sides += [(hidden, mlp), (hidden, mlp), (mlp, hidden)]
    adapter = layers * sum(rank * (inner + outer) for inner, outer in sides)
    return hidden * within + within + within * hidden + hidden + adapter


def parameters(build: Callable[[], torch.nn.Module]) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())


def layer_bytes(tokens: int, hidden: int, mlp: int) -> int:
    """One transformer layer in half precision: residual, normed, q, k, v and output of `hidden`, and
    gate, up and their product of `mlp`."""
    return HALF * tokens * (6 * hidden + 3 * mlp)


def memories(token_budget: int) -> list[Memory]:
    small = parameters(lambda: qwen2_vl(1536, 28, 12, 2, 8960, 151_936))
    large = parameters(lambda: qwen2_vl(3584, 28, 28, 4, 18_944, 152_064))
    sam = parameters(sam2_base_plus)
    # Hiera's first stage holds most: 256 × 256 places of 112 channels and an MLP of 4 × 112.
    sam_pass = layer_bytes(256 * 256, 112, 448)
    return [
        _memory(
            "virtue, VIRTUE-2B", small + sam + virtue_additions(1536), layer_bytes(token_budget, 1536, 8960)
        ),
        _memory(
            "virtue, VIRTUE-7B", large + sam + virtue_additions(3584), layer_bytes(token_budget, 3584, 18_944)
        ),
        _memory("abc", large + abc_additions(), layer_bytes(token_budget, 3584, 18_944)),
        _memory("vlm, a Qwen2-VL-2B", small, layer_bytes(token_budget, 1536, 8960)),
        _memory("vlm, a Qwen2-VL-7B", large, layer_bytes(token_budget, 3584, 18_944)),
        _memory(
            "dual_encoder, CLIP ViT-L/14@336", parameters(clip_large), layer_bytes(token_budget, 1024, 4096)
        ),
        _memory(
            "dual_encoder, SigLIP 2 so400m/14@384",
            parameters(siglip2_so400m),
            layer_bytes(token_budget, 1152, 4304),
        ),
        _memory("sam2, SAM 2.1 base plus (alone)", sam, sam_pass),
    ]


def _memory(name: str, count: int, of_pass: int) -> Memory:
    return Memory(name, count, HALF * count / GIB, FULL * count / GIB, of_pass / GIB)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--token-budget", type=int, default=DEFAULT_TOKEN_BUDGET)
    parser.add_argument("--json", action="store_true")
    parsed = parser.parse_args(arguments)
    rows = memories(parsed.token_budget)
    if parsed.json:
        json.dump([asdict(row) for row in rows], sys.stdout)
        print()
        return 0
    print(f"{'model':<38}{'parameters':>14}{'bf16 GiB':>10}{'fp32 GiB':>10}{'pass GiB':>10}")
    for row in rows:
        print(
            f"{row.name:<38}{row.parameters:>14,}{row.half_gib:>10.1f}{row.full_gib:>10.1f}{row.pass_gib:>10.1f}"
        )
    print(
        f"pass: activations of a pass of {parsed.token_budget:,} tokens (SAM: of an image), bf16, estimated"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
