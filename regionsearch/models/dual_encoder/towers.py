"""The image networks: one vector for the image, and features of its patches that regions are pooled from.

All computation is transformers' own modules; what is ours is how a region is read from the patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - as torch's own documentation calls it

from regionsearch.models.dual_encoder.settings import Family


class ImageTower(Protocol):
    def encode(
        self, pixels: torch.Tensor, grids: Sequence[tuple[int, int]], *, patches: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A batch of views with one number of patches: image vectors (b, d), not of unit length, in the
        model's precision, and features (b, p, c) of the patches when they are asked for."""

    def pool(self, patches: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Features (p, c) of one image's patches and shares (n, p) of each patch in each region, every row
        with a value above 0, to region vectors (n, d), not of unit length."""


def tower_of(model: Any, family: Family) -> ImageTower:
    if family == "clip":
        return ClipTower(model)
    return SiglipTower(model.vision_model, flexible=family == "siglip2")


class ClipTower:
    """Patches as MaskCLIP reads them (Zhou, Loy and Dai 2022, "Extract Free Dense Labels from CLIP",
    section 3.2): in the last attention layer queries and keys are left out, so that a patch keeps its own
    value projection, followed by that layer's output projection, the final layer norm and the projection
    to the shared space.

    The layer's residual and its feed-forward block are left out as well, as the paper's equation does for
    the attention pooling of a ResNet; the authors' code for transformers keeps both. ClearCLIP (Lan et al.
    2024) finds them to be what makes such features noisy.

    A patch's vector is brought to unit length, so that the cosine of a region with a text is, up to a
    factor, the mean of the cosines that MaskCLIP would give its patches.
    """

    def __init__(self, model: Any) -> None:
        self._vision = model.vision_model
        self._projection = model.visual_projection

    def encode(
        self, pixels: torch.Tensor, grids: Sequence[tuple[int, int]], *, patches: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        vision = self._vision
        other_side = pixels.shape[-1] != vision.embeddings.image_size
        hidden = vision.embeddings(pixels, interpolate_pos_encoding=other_side)
        hidden = vision.pre_layrnorm(hidden)
        *earlier, last = vision.encoder.layers
        for layer in earlier:
            hidden = layer(hidden, None)
        images = self._projection(vision.post_layernorm(last(hidden, None)[:, 0]))
        if not patches:
            return images, None
        values = last.self_attn.v_proj(last.layer_norm1(hidden[:, 1:]))
        dense = self._projection(vision.post_layernorm(last.self_attn.out_proj(values)))
        return images, F.normalize(dense.float(), dim=-1)

    def pool(self, patches: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        return (shares / shares.sum(dim=1, keepdim=True)) @ patches


class SiglipTower:
    """The image's vector is what one learnt query reads from all patches (an attention pooling head). A
    region's is what the same head reads when each patch's attention weight is multiplied by the share of
    the patch that lies in the region, then brought to sum 1 again: log shares are added to the attention's
    logits. So the whole frame gives the image's own vector, and nothing outside the region is read by the
    head (the patches themselves have looked around).

    That pooling tokens look only at what a mask covers is the idea of Ding et al. 2023 ("Open-Vocabulary
    Universal Image Segmentation with MaskCLIP", mask class tokens); weighting by shares is ours.
    """

    def __init__(self, vision: Any, *, flexible: bool) -> None:
        self._vision = vision
        self._flexible = flexible

    def encode(
        self, pixels: torch.Tensor, grids: Sequence[tuple[int, int]], *, patches: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self._flexible:
            shapes = torch.tensor(grids, dtype=torch.long, device=pixels.device)
            # Every patch is one of the image: there is no padding to mask.
            given = self._vision(pixels, pixel_attention_mask=None, spatial_shapes=shapes)
        else:
            other_side = pixels.shape[-1] != self._vision.embeddings.image_size
            given = self._vision(pixels, interpolate_pos_encoding=other_side)
        return given.pooler_output, given.last_hidden_state if patches else None

    def pool(self, patches: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        head = self._vision.head
        attention = head.attention
        heads, width = attention.num_heads, attention.embed_dim
        of_query, of_key, of_value = attention.in_proj_weight.chunk(3)
        query_bias, key_bias, value_bias = attention.in_proj_bias.chunk(3)
        query = F.linear(head.probe[0], of_query, query_bias).view(heads, 1, -1)
        keys = F.linear(patches, of_key, key_bias).view(len(patches), heads, -1)
        values = F.linear(patches, of_value, value_bias).view(len(patches), heads, -1)
        logits = (query.float() @ keys.permute(1, 2, 0).float()) / (width // heads) ** 0.5
        # (n, heads, p): log 0 is -inf, which no patch of the region's own can be drowned by.
        weights = torch.softmax(logits.transpose(0, 1) + shares.log()[:, None], dim=-1)
        read = torch.einsum("nhp,phc->nhc", weights, values.float()).reshape(-1, width)
        read = attention.out_proj(read.to(patches.dtype))
        return read + head.mlp(head.layernorm(read))
