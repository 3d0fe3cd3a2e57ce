"""Which of the decoder's masks are worth keeping: predicted IoU and stability."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from regionsearch.models.sam2.architecture import SIDE
from regionsearch.models.sam2.options import MaskOptions
from regionsearch.models.sam2.prompt_decoder import DecodedMasks


@dataclass(frozen=True, eq=False)
class FoundMasks:
    """The k masks of one prompt that passed; all on the model's device.

    logits: (k, 256, 256) float32. predicted_iou, stability: (k,) float32, 0 to 1.
    places: (k,) int64, which of the prompt's masks they are.
    """

    logits: torch.Tensor
    predicted_iou: torch.Tensor
    stability: torch.Tensor
    places: torch.Tensor


def point_grid(per_side: int) -> torch.Tensor:
    """(per_side², 1, 2) float32 [x, y]: the middles of equal cells of SAM's square, row by row."""
    side = (torch.arange(per_side, dtype=torch.float32) + 0.5) * (SIDE / per_side)
    y, x = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 1, 2)


def stability_scores(logits: torch.Tensor, threshold: float, offset: float) -> torch.Tensor:
    """(..., h, w) logits → (...) float32, 0 to 1: IoU of the masks cut `offset` above and below the threshold
    (Kirillov et al., Segment Anything, appendix B). 0 where nothing is above the lower cut.

    One mask lies within the other, so that the IoU is the quotient of their pixels.
    """
    inner = (logits > threshold + offset).flatten(-2).sum(-1)
    outer = (logits > threshold - offset).flatten(-2).sum(-1)
    return inner / outer.clamp(min=1)


def passing(decoded: DecodedMasks, options: MaskOptions) -> list[FoundMasks]:
    """For each prompt the masks that are not empty, above `pred_iou_thresh` and stable enough.

    Both are judged on the decoder's own 256 × 256 cells: at full size the masks of a single batch would
    fill gigabytes.
    """
    logits, predicted_iou = decoded.logits, decoded.predicted_iou
    stability = stability_scores(logits, options.mask_threshold, options.stability_score_offset)
    keep = (logits > options.mask_threshold).flatten(-2).any(-1)
    if options.pred_iou_thresh > 0:
        keep &= predicted_iou > options.pred_iou_thresh
    if options.stability_score_thresh > 0:
        keep &= stability >= options.stability_score_thresh
    found = []
    for prompt in range(len(logits)):
        places = keep[prompt].nonzero()[:, 0]
        # Indexing copies: the batch that they come from can go.
        found.append(
            FoundMasks(
                logits[prompt][places], predicted_iou[prompt][places], stability[prompt][places], places
            )
        )
    return found
