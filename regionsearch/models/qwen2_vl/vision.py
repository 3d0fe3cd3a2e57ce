"""The vision tower over several pictures at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from regionsearch.models.batching import run_halving
from regionsearch.models.qwen2_vl.preprocessing import QwenPixels
from regionsearch.models.transfer import to_device


def vision_features(visual: Any, pictures: Sequence[QwenPixels], budget: int) -> list[torch.Tensor]:
    """One tensor (tokens, hidden size of the language model) a picture, on the tower's device.

    Pictures of any sizes share a pass, one after the other and each attending to itself alone, as long
    as they have at most `budget` patches together (but always one picture); nothing is padded. A pass
    that does not fit the memory is halved.
    """
    features: list[torch.Tensor] = []
    for batch in _packed(pictures, budget):
        features.extend(run_halving(batch, lambda some: _one_pass(visual, some)))
    return features


def _one_pass(visual: Any, pictures: Sequence[QwenPixels]) -> list[torch.Tensor]:
    weight = visual.patch_embed.proj.weight
    patches = torch.cat([torch.from_numpy(picture.patches) for picture in pictures])
    grid = torch.tensor([picture.grid for picture in pictures], device=weight.device)
    tokens = visual(to_device(patches, weight.device, weight.dtype), grid_thw=grid).pooler_output
    return list(tokens.split([picture.tokens for picture in pictures]))


def _packed(pictures: Sequence[QwenPixels], budget: int) -> list[list[QwenPixels]]:
    """In their order, as many together as the budget holds."""
    batches: list[list[QwenPixels]] = []
    free = 0
    for picture in pictures:
        if not batches or len(picture.patches) > free:
            batches.append([])
            free = budget
        batches[-1].append(picture)
        free -= len(picture.patches)
    return batches
