"""A SAM 2 of tiny widths with random weights, in the files that the published ones come in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig

from regionsearch.models.sam2.official_names import to_official

WIDTH = 32


def tiny_config() -> Sam2Config:
    """The widths of the golden tensors; the input stays 1024 pixels square."""
    backbone = Sam2HieraDetConfig(
        hidden_size=16,
        num_attention_heads=1,
        blocks_per_stage=[1, 2, 3, 2],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 14, 7],
        global_attention_blocks=[4],
        window_positional_embedding_background_size=[7, 7],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[128, 64, 32, 16], fpn_hidden_size=WIDTH
    )
    return Sam2Config(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": WIDTH},
        mask_decoder_config={"hidden_size": WIDTH},
    )


def tiny_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights under transformers' names. Position matrices are equal, as in every SAM."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        expected = Sam2Model(tiny_config()).state_dict()
    tensors = {}
    for name, tensor in expected.items():
        random = torch.randn(tensor.shape, generator=generator)
        if name.endswith("positional_embedding"):
            tensors[name] = random
        elif "layer_norm" in name or ".norm" in name:
            tensors[name] = 0.05 * random + (1.0 if name.endswith("weight") else 0.0)
        else:
            # Far from nothing, so that two inputs never look alike.
            fan_in = max(1, tensor[0].numel()) if tensor.ndim > 1 else 100
            tensors[name] = random / fan_in**0.5
    shared = tensors["shared_image_embedding.positional_embedding"]
    tensors["prompt_encoder.shared_embedding.positional_embedding"] = shared.clone()
    return tensors


def write_tiny_sam2(
    folder: Path, *, naming: Literal["transformers", "official"] = "transformers", seed: int = 0
) -> Path:
    """A folder that `ModelRegistry().segmenter(str(folder))` and `load_sam2(str(folder), ...)` read.

    official: Meta's `.pt` with memory weights besides, and a config.json, since no published size is this
    tiny. transformers: a sam2_video folder with memory weights, as facebook/sam2.1-hiera-* are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = tiny_weights(seed)
    content: dict[str, Any] = json.loads(tiny_config().to_json_string(use_diff=False))
    content["model_type"] = "sam2_video" if naming == "transformers" else "sam2"
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    if naming == "official":
        official = to_official(tensors)
        official["maskmem_tpos_enc"] = torch.zeros(7, 1, 1, 8)
        official["memory_encoder.out_proj.weight"] = torch.zeros(8, WIDTH, 1, 1)
        torch.save({"model": official}, folder / "sam2.1_hiera_tiny_random.pt")
    else:
        tensors["memory_encoder.projection.weight"] = torch.zeros(8, WIDTH, 1, 1)
        tensors["memory_temporal_positional_encoding"] = torch.zeros(7, 1, 1, 8)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
