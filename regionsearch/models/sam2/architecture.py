"""The shape of a SAM 2 model: read from a configuration, or told from Meta's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regionsearch.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch
    from transformers import Sam2Config

SIDE = 1024
"""Pixels along each side of the square that SAM 2 sees."""
MODEL_TYPES = ("sam2", "sam2_video")

_OF_ANOTHER_TRAINING = ("transformers_version", "_name_or_path", "initializer_range", "dtype", "torch_dtype")


@dataclass(frozen=True, slots=True)
class _Trunk:
    """What the weights' shapes do not tell of a Hiera trunk, as Meta's configurations have it."""

    heads: tuple[int, ...]
    windows: tuple[int, ...]
    global_attention_blocks: tuple[int, ...]


_PUBLISHED: Mapping[tuple[int, tuple[int, ...]], _Trunk] = {
    (96, (1, 2, 7, 2)): _Trunk((1, 2, 4, 8), (8, 4, 14, 7), (5, 7, 9)),
    (96, (1, 2, 11, 2)): _Trunk((1, 2, 4, 8), (8, 4, 14, 7), (7, 10, 13)),
    (112, (2, 3, 16, 3)): _Trunk((2, 4, 8, 16), (8, 4, 14, 7), (12, 16, 20)),
    (144, (2, 6, 36, 4)): _Trunk((2, 4, 8, 16), (8, 4, 16, 8), (23, 33, 43)),
}
"""Tiny, small, base-plus and large, of SAM 2 and 2.1 alike, by width and blocks per stage."""


def config_from_json(content: Mapping[str, Any], where: str) -> Sam2Config:
    """The configuration of the image part, out of a `config.json` of type sam2 or sam2_video.

    Raises ModelUnavailable, naming `where`, for another type or an input that is not 1024 pixels square.
    """
    from transformers import Sam2Config

    model_type = content.get("model_type")
    if model_type not in MODEL_TYPES:
        raise ModelUnavailable(f"{where} describes a model of type {model_type!r}, not SAM 2")
    parts = {
        name: dict(content.get(name) or {})
        for name in ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    }
    # The video model's parts have model types of their own for the same fields.
    for part in (parts["prompt_encoder_config"], parts["mask_decoder_config"]):
        part.pop("model_type", None)
    config = Sam2Config(**parts)
    if config.prompt_encoder_config.image_size != SIDE:
        raise ModelUnavailable(
            f"{where} describes a SAM 2 for pictures of {config.prompt_encoder_config.image_size} pixels; "
            f"those of {SIDE} are read here"
        )
    return config


def config_from_official(tensors: Mapping[str, torch.Tensor], where: str) -> Sam2Config:
    """The configuration of one of the published sizes, told from the shapes of Meta's weights.

    Raises ModelUnavailable for another size: its heads, windows and global blocks leave no trace in shapes.
    """
    from transformers import Sam2Config, Sam2HieraDetConfig, Sam2VisionConfig

    trunk = "image_encoder.trunk."
    width = int(_tensor(tensors, f"{trunk}patch_embed.proj.weight", where).shape[0])
    stages: list[list[int]] = []
    for block in range(sum(1 for name in tensors if _is_block(name))):
        out = int(_tensor(tensors, f"{trunk}blocks.{block}.attn.proj.weight", where).shape[0])
        # Only the first block of a later stage changes the width, and so has a projection of its own.
        if not stages or f"{trunk}blocks.{block}.proj.weight" in tensors:
            stages.append([])
        stages[-1].append(out)
    blocks = tuple(len(stage) for stage in stages)
    published = _PUBLISHED.get((width, blocks))
    if published is None:
        raise ModelUnavailable(
            f"{where} holds a SAM 2 of width {width} with {blocks} blocks a stage, which is none of the "
            "published sizes; put the config.json of its transformers form beside it"
        )
    dims = [stage[0] for stage in stages]
    backbone = Sam2HieraDetConfig(
        hidden_size=width,
        num_attention_heads=published.heads[0],
        blocks_per_stage=list(blocks),
        embed_dim_per_stage=dims,
        num_attention_heads_per_stage=list(published.heads),
        window_size_per_stage=list(published.windows),
        global_attention_blocks=list(published.global_attention_blocks),
        window_positional_embedding_background_size=list(
            _tensor(tensors, f"{trunk}pos_embed", where).shape[-2:]
        ),
    )
    return Sam2Config(
        vision_config=Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=dims[::-1])
    )


def settings_of(config: Sam2Config) -> dict[str, Any]:
    """All of a configuration that changes what the model gives, as plain values for a hash."""
    plain: dict[str, Any] = _without(config.to_dict())
    return plain


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(each) for name, each in value.items() if name not in _OF_ANOTHER_TRAINING}
    if isinstance(value, list | tuple):
        return [_without(each) for each in value]
    return value


def _is_block(name: str) -> bool:
    return name.startswith("image_encoder.trunk.blocks.") and name.endswith(".attn.qkv.weight")


def _tensor(tensors: Mapping[str, torch.Tensor], name: str, where: str) -> torch.Tensor:
    if name not in tensors:
        raise ModelUnavailable(f"{where} lacks {name!r}")
    return tensors[name]
