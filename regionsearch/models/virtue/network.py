"""VIRTUE's network: what SAM makes of a prompt goes before the picture and the words.

After the published code of VIRTUE (Sony, 2025): the image side of SAM 2's mask decoder is reduced to
16 × 16 places, each a token of the language model, put before everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from regionsearch.models.qwen2_vl.language import run_language_model
from regionsearch.models.virtue.positions import PositionMode, position_ids
from regionsearch.models.virtue.prompts import FRAME, SamPrompt

REDUCTION = 4
"""Places of SAM's 64 × 64 map along each side that become one token."""
MASK_LOGIT = 10.0
"""SAM 2 reads masks as logits, and turns given ones into ±10."""


@dataclass(frozen=True, eq=False)
class VirtueBatch:
    """Rows that all have a picture and a prompt of one kind, or that all have words only.

    input_ids: (batch, length) int64, `<|image_pad|>` repeated to as many as the picture has tokens.
    mask: (batch, length), 1 on tokens and 0 on padding, which is on the left.
    image_tokens: (all tokens of all pictures, hidden), in the order of the rows.
    sam_embedding: (batch, c, 64, 64), the features that SAM's decoder starts from.
    prompts: one a row.
    """

    input_ids: torch.Tensor
    mask: torch.Tensor
    image_tokens: torch.Tensor | None = None
    sam_embedding: torch.Tensor | None = None
    prompts: Sequence[SamPrompt] = ()


class VirtueNetwork(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """The parts and how they are joined. Gradients flow, except through SAM, which is frozen.

    qwen: transformers' `Qwen2VLModel`. sam: its `Sam2Model`. points_per_side: of the grid that stands
    for no prompt. `forward` and the stages before it are for training as for inference; whoever calls
    decides about gradients.
    """

    def __init__(self, qwen: Any, sam: Any, points_per_side: int, positions: PositionMode) -> None:
        super().__init__()
        self.visual = qwen.visual
        self.language_model = qwen.language_model
        self.sam = sam
        channels = sam.prompt_encoder.hidden_size
        hidden = qwen.config.text_config.hidden_size
        self.reducer = nn.Conv2d(channels, channels, kernel_size=REDUCTION, stride=REDUCTION)
        self.connector = nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, hidden))
        self.image_token_id = int(qwen.config.image_token_id)
        self.points_per_side = points_per_side
        self.positions: PositionMode = positions
        side = sam.prompt_encoder.image_embedding_size[0] // REDUCTION
        self.segment_token_count = side * side

    def forward(self, batch: VirtueBatch) -> torch.Tensor:
        """(batch, hidden) float32 unit vectors."""
        segment = None
        if batch.sam_embedding is not None:
            segment = self.segment_tokens(self.decoder_keys(batch.sam_embedding, batch.prompts))
        embeds, mask = self.inputs_embeds(batch, segment)
        prefix = 0 if segment is None else segment.shape[1]
        positions = position_ids(batch.mask, prefix, self.positions)
        unpadded = bool(batch.mask.all())
        hidden = run_language_model(self.language_model, embeds, positions, None if unpadded else mask)
        # Padding is on the left: the last place is a token in every row.
        return nn.functional.normalize(hidden[:, -1].float(), dim=-1)

    def decoder_keys(self, sam_embedding: torch.Tensor, prompts: Sequence[SamPrompt]) -> torch.Tensor:
        """(batch, c, 64, 64): the image side of SAM's decoder after its last block, one prompt a row."""
        with torch.no_grad():
            sparse, dense = self.prompt_embeddings(prompts)
            decoder = self.sam.mask_decoder
            output = torch.cat(
                [decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight]
            )
            tokens = torch.cat([output.expand(len(prompts), 1, -1, -1), sparse], dim=2)
            places = self.sam.get_image_wide_positional_embeddings()
            _, keys = decoder.transformer(
                point_embeddings=tokens.to(output.dtype),
                image_embeddings=sam_embedding + dense,
                image_positional_embeddings=places.expand(len(prompts), -1, -1, -1),
                attention_similarity=None,
            )
            return keys.squeeze(1).transpose(1, 2).reshape(sam_embedding.shape)

    def prompt_embeddings(self, prompts: Sequence[SamPrompt]) -> tuple[torch.Tensor, torch.Tensor]:
        """Sparse (batch, 1, n, c) and dense (batch, c, 64, 64) of prompts of one kind. One padding point
        is always among the sparse ones, also beside a box: the published code has it so."""
        kinds = {prompt.kind for prompt in prompts}
        if len(kinds) != 1:
            raise ValueError(f"prompts of one batch are of one kind, not {sorted(kinds)}")
        kind = kinds.pop()
        encoder = self.sam.prompt_encoder
        device = encoder.no_mask_embed.weight.device
        points = boxes = labels = masks = None
        if kind in ("box", "mask"):
            boxes = torch.tensor([prompt.coordinates for prompt in prompts], device=device)[:, None]
        else:
            rows = self._grid(len(prompts)) if kind == "grid" else _single_points(prompts)
            points = rows[:, None].to(device)
            labels = torch.ones(points.shape[:3], dtype=torch.int64, device=device)
        if kind == "mask":
            masks = _mask_logits(prompts, encoder.mask_input_size).to(device, self.dtype)
        sparse, dense = encoder(points, labels, boxes, masks)
        return sparse, dense

    def segment_tokens(self, keys: torch.Tensor) -> torch.Tensor:
        """(batch, c, 64, 64) → (batch, 256, hidden), places row by row."""
        reduced = self.reducer(keys.to(self.reducer.weight.dtype))
        return self.connector(reduced.flatten(2).transpose(1, 2))

    def inputs_embeds(
        self, batch: VirtueBatch, segment: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What enters the language model: (batch, 256 + length, hidden), and its mask (batch, 256 + length);
        without a picture, neither has the 256."""
        embeds = self.language_model.get_input_embeddings()(batch.input_ids)
        pads = batch.input_ids == self.image_token_id
        given = 0 if batch.image_tokens is None else len(batch.image_tokens)
        if int(pads.sum()) != given:
            raise ValueError(
                f"the rows have places for {int(pads.sum())} image tokens, and {given} are given"
            )
        if batch.image_tokens is not None:
            tokens = batch.image_tokens.to(embeds.dtype)
            embeds = embeds.masked_scatter(pads[..., None].expand_as(embeds), tokens)
        if segment is None:
            return embeds, batch.mask
        ones = torch.ones(segment.shape[:2], dtype=batch.mask.dtype, device=batch.mask.device)
        return torch.cat([segment.to(embeds.dtype), embeds], dim=1), torch.cat([ones, batch.mask], dim=1)

    @property
    def dtype(self) -> torch.dtype:
        """Of SAM, and so of its prompts."""
        return self.sam.prompt_encoder.no_mask_embed.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.reducer.weight.device

    def _grid(self, rows: int) -> torch.Tensor:
        """(rows, points, 2) in SAM's frame: the middles of equal cells, x fastest."""
        middles = (torch.arange(self.points_per_side, dtype=torch.float64) + 0.5) / self.points_per_side
        y, x = torch.meshgrid(middles, middles, indexing="ij")
        grid = (torch.stack([x, y], dim=-1).reshape(-1, 2) * FRAME).float()
        return grid.expand(rows, -1, -1)


def _single_points(prompts: Sequence[SamPrompt]) -> torch.Tensor:
    return torch.tensor([prompt.coordinates for prompt in prompts])[:, None]


def _mask_logits(prompts: Sequence[SamPrompt], size: tuple[int, int]) -> torch.Tensor:
    """(batch, 1, 256, 256): how much of each cell the mask covers, from -10 (nothing) to 10 (all)."""
    rows = []
    for prompt in prompts:
        if prompt.mask is None:
            raise ValueError("a prompt of kind 'mask' has a mask")
        pixels = torch.from_numpy(prompt.mask.to_array().astype("float32"))[None, None]
        rows.append(
            nn.functional.interpolate(pixels, size=size, mode="bilinear", antialias=True, align_corners=False)
        )
    return (torch.cat(rows) * 2 - 1) * MASK_LOGIT
