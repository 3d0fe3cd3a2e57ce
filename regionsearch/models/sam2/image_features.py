"""What one pass of SAM 2's image encoder leaves for everyone who asks about the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from regionsearch.models.sam2.loading import LoadedSam2

PixelsRead = Literal["sam", "virtue"]
"""How a picture came to its 1024 × 1024 pixels: as SAM was trained, or as VIRTUE hands them to it
(resized and normalised for its language model first, then once more for SAM)."""
TOKENS_PER_IMAGE = 64 * 64
"""Of the encoder's third stage, where nearly all its work is done: what a token budget counts."""


@dataclass(frozen=True, eq=False)
class SamImageFeatures:
    """Features of one picture, on the model's device and in its precision.

    source: which weights and which pixels made them (`source_of`).
    height, width: of the picture itself, pixels; the whole of it is squeezed into 1024 × 1024.
    embedding: (256, 64, 64), level 2 of the feature pyramid plus the embedding for "no memory".
    high_res: what the mask decoder adds while it enlarges masks: (32, 256, 256) and (64, 128, 128);
        None when they were not kept.
    """

    source: str
    height: int
    width: int
    embedding: torch.Tensor
    high_res: tuple[torch.Tensor, torch.Tensor] | None

    def part(self, source: str) -> SamImageFeatures | None:
        return self if source == self.source else None


def source_of(loaded: LoadedSam2, pixels: PixelsRead) -> str:
    """The name of features that these weights make of pixels of this kind."""
    return f"sam2:{loaded.weights}:{pixels}"


def encode_pixels(
    loaded: LoadedSam2,
    pixels: torch.Tensor,
    sizes: Sequence[tuple[int, int]],
    source: str,
    keep_high_res: bool,
) -> list[SamImageFeatures]:
    """One pass of the image encoder.

    pixels: (n, 3, 1024, 1024), normalised, on any device and in any precision. sizes: (height, width) of
    the n pictures that they come from. keep_high_res: needed for masks; 3.1 million numbers a picture.
    Raises torch's OutOfMemoryError: the caller halves the batch.
    """
    model = loaded.model
    # Not inference_mode: whoever trains a connector on these features needs tensors that autograd can keep.
    with torch.no_grad():
        levels = model.vision_encoder(pixels.to(loaded.device, loaded.dtype)).fpn_hidden_states
        embeddings = levels[2] + model.no_memory_embedding.reshape(1, -1, 1, 1)
        high_res = None
        if keep_high_res:
            high_res = (model.mask_decoder.conv_s0(levels[0]), model.mask_decoder.conv_s1(levels[1]))
    return [
        SamImageFeatures(
            source=source,
            height=height,
            width=width,
            embedding=embeddings[place],
            high_res=None if high_res is None else (high_res[0][place], high_res[1][place]),
        )
        for place, (height, width) in enumerate(sizes)
    ]
