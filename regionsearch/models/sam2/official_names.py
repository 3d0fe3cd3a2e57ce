"""Meta's own names of SAM 2's weights, beside those of transformers. The numbers are the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from regionsearch.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch

VIDEO_PREFIXES = (
    "mask_downsample.",
    "maskmem_tpos_enc",
    "memory_attention.",
    "memory_encoder.",
    "no_mem_pos_enc",
    "no_obj_embed_spatial",
    "no_obj_ptr",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
)
"""What only tracking through a video needs, in Meta's names."""

_POINT_EMBEDDINGS = "prompt_encoder.point_embed.weight"
_OFFICIAL_POINT_EMBEDDINGS = tuple(f"sam_prompt_encoder.point_embeddings.{kind}.weight" for kind in range(4))
"""Negative point, positive point, top left corner, bottom right corner: one row of 4 in transformers."""

_FROM_TRANSFORMERS = [
    (re.compile(pattern), official)
    for pattern, official in (
        (r"^no_memory_embedding$", "no_mem_embed"),
        (
            r"^(shared_image_embedding|prompt_encoder\.shared_embedding)\.positional_embedding$",
            "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        ),
        (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
        (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
        (r"^prompt_encoder\.", "sam_prompt_encoder."),
        (r"^mask_decoder\.", "sam_mask_decoder."),
        (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
        (r"\.layer_norm(_final_attn|\d)\.", r".norm\1."),
        (r"\.mlp\.proj_in\.", ".mlp.layers.0."),
        (r"\.mlp\.proj_out\.", ".mlp.layers.1."),
        (r"\.mask_embed\.conv1\.", ".mask_downscaling.0."),
        (r"\.mask_embed\.norm1\.", ".mask_downscaling.1."),
        (r"\.mask_embed\.conv2\.", ".mask_downscaling.3."),
        (r"\.mask_embed\.norm2\.", ".mask_downscaling.4."),
        (r"\.mask_embed\.conv3\.", ".mask_downscaling.6."),
        (r"\.o_proj\.", ".out_proj."),
        (r"\.upscale_conv1\.", ".output_upscaling.0."),
        (r"\.upscale_layer_norm\.", ".output_upscaling.1."),
        (r"\.upscale_conv2\.", ".output_upscaling.3."),
        # What is left with `proj_in` are the decoder's three-layer heads; their middle layer is `layers.0`.
        (r"_(head|mlps\.\d+)\.layers\.0\.", r"_\1.layers.1."),
        (r"\.proj_in\.", ".layers.0."),
        (r"\.proj_out\.", ".layers.2."),
    )
]


def official_name(name: str) -> str:
    """Meta's name of a weight of transformers' Sam2Model. The four point embeddings, one tensor there and
    four at Meta's, have no single one."""
    for pattern, official in _FROM_TRANSFORMERS:
        name = pattern.sub(official, name)
    return name


def is_official(names: Iterable[str]) -> bool:
    """Whether these are Meta's names rather than those of transformers."""
    return any(name.startswith("image_encoder.") for name in names)


def from_official(tensors: Mapping[str, torch.Tensor], names: Iterable[str]) -> dict[str, torch.Tensor]:
    """The weights that transformers' model of these names needs, out of Meta's; those that only video
    needs are left out.

    Raises ModelUnavailable, naming the key, for one that is missing and one that nobody expected.
    """
    import torch

    renamed: dict[str, torch.Tensor] = {}
    used: set[str] = set()
    for name in names:
        official = _OFFICIAL_POINT_EMBEDDINGS if name == _POINT_EMBEDDINGS else (official_name(name),)
        missing = [each for each in official if each not in tensors]
        if missing:
            raise ModelUnavailable(f"SAM 2 weights lack {missing[0]!r}")
        used.update(official)
        renamed[name] = (
            torch.cat([tensors[each] for each in official]) if len(official) > 1 else tensors[official[0]]
        )
    for name in tensors:
        if name not in used and not name.startswith(VIDEO_PREFIXES):
            raise ModelUnavailable(f"SAM 2 weights hold an unexpected {name!r}")
    return renamed


def to_official(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of transformers' Sam2Model under Meta's names."""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if name == _POINT_EMBEDDINGS:
            rows = (row.clone() for row in tensor.split(1))
            renamed.update(zip(_OFFICIAL_POINT_EMBEDDINGS, rows, strict=True))
        else:
            renamed[official_name(name)] = tensor
    return renamed
