"""The rotary positions that VIRTUE's published code gives its tokens."""

from __future__ import annotations

from typing import Literal

import torch

PositionMode = Literal["later", "first"]
POSITION_MODES: tuple[PositionMode, ...] = ("later", "first")
"""The published code keeps a state, so that the first forward pass of a process numbers tokens otherwise
than all that follow. The checkpoints were trained, and the tables made, almost wholly in the later mode."""


def position_ids(mask: torch.Tensor, segment_tokens: int, mode: PositionMode) -> torch.Tensor:
    """(3, batch, segment_tokens + length) int64, the three axes alike (there is no 2-D numbering, since
    the strings have no `<|vision_start|>`).

    mask: (batch, length), 1 on tokens and 0 on padding, without the segment tokens, which come first
    and are all at 0. later: a token is at its place in the whole row, padding counted. first: tokens
    count from 0 again, and padding is at 1.
    """
    batch, length = mask.shape
    if mode == "later":
        places = torch.arange(segment_tokens, segment_tokens + length, device=mask.device).expand(batch, -1)
    else:
        counted = mask.long().cumsum(dim=1) - 1
        places = torch.where(mask.bool(), counted, torch.ones_like(counted))
    first = torch.zeros(batch, segment_tokens, dtype=torch.int64, device=mask.device)
    return torch.cat([first, places], dim=1).expand(3, -1, -1)
