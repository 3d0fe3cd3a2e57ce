"""SAM 2's prompt encoder and mask decoder: prompts in, masks of 256 × 256 cells out."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional

from regionsearch.models.sam2.architecture import SIDE
from regionsearch.models.sam2.image_features import SamImageFeatures
from regionsearch.models.sam2.loading import LoadedSam2
from regionsearch.regions import Mask

MASK_SIDE = 256
"""Cells along each side of the decoder's masks; each is 4 × 4 of SAM's 1024 × 1024 pixels."""
MASK_LOGIT = 10.0
"""What the pixels in a mask that is handed to the decoder are worth, and those outside its negative: SAM 2
feeds masks to itself as 20 × mask - 10."""


@dataclass(frozen=True, eq=False)
class DecodedMasks:
    """Masks of n prompts, m each, best not first: in the decoder's order.

    logits: (n, m, 256, 256) float32. predicted_iou: (n, m) float32, 0 to 1.
    """

    logits: torch.Tensor
    predicted_iou: torch.Tensor


class PromptDecoder:
    """Asks about pictures whose features are already there. Safe to use from several threads."""

    def __init__(self, loaded: LoadedSam2) -> None:
        self._loaded = loaded
        # In float32 whatever the model computes in: a coordinate in bfloat16 is good to 4 of 1024 pixels.
        self._prompts = loaded.model.prompt_encoder
        self._positions = loaded.model.shared_image_embedding
        if loaded.dtype != torch.float32:
            self._prompts = copy.deepcopy(self._prompts).float()
            self._positions = copy.deepcopy(self._positions).float()
        self._image_positions = self._positions_of_cells().to(loaded.dtype)

    def decode(
        self,
        features: SamImageFeatures,
        *,
        points: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        boxes: torch.Tensor | None = None,
        masks: torch.Tensor | None = None,
        multimask: bool,
    ) -> DecodedMasks:
        """One decoder pass over n prompts about one picture.

        points: (n, k, 2) float32 [x, y], in pixels of SAM's 1024 × 1024 square. labels: (n, k) integers,
        1 on the thing, 0 not. boxes: (n, 4) float32 [x0, y0, x1, y1] of the same square. masks: (1, 1, 256,
        256) float32 logits, one for all prompts; `mask_prompt`. multimask: three masks a prompt; else one,
        which falls back to the best of the three where it is not stable, as Meta's predictor does.
        Raises torch's OutOfMemoryError: the caller halves the prompts.
        """
        if features.high_res is None:
            raise ValueError("masks need features whose high-resolution maps were kept")
        device, dtype = self._loaded.device, self._loaded.dtype
        with torch.inference_mode():
            sparse, dense = self._prompts(
                input_points=None if points is None else points.to(device)[None],
                input_labels=None if labels is None else labels.to(device)[None],
                input_boxes=None if boxes is None else boxes.to(device)[None],
                input_masks=None if masks is None else masks.to(device),
            )
            logits, predicted_iou, _, _ = self._loaded.model.mask_decoder(
                image_embeddings=features.embedding[None],
                image_positional_embeddings=self._image_positions,
                sparse_prompt_embeddings=sparse.to(dtype),
                dense_prompt_embeddings=dense.to(dtype),
                multimask_output=multimask,
                high_resolution_features=[level[None] for level in features.high_res],
            )
        return DecodedMasks(logits[0].float(), predicted_iou[0].float())

    def _positions_of_cells(self) -> torch.Tensor:
        """(1, 256, 64, 64) float32: the encoded middle of every cell of the image embedding."""
        rows, columns = self._prompts.image_embedding_size
        y = (torch.arange(rows, dtype=torch.float32, device=self._loaded.device) + 0.5) / rows
        x = (torch.arange(columns, dtype=torch.float32, device=self._loaded.device) + 0.5) / columns
        with torch.inference_mode():
            grid = torch.stack([x[None, :].expand(rows, -1), y[:, None].expand(-1, columns)], dim=-1)
            encoded: torch.Tensor = self._positions(grid)
            return encoded.permute(2, 0, 1)[None]


def to_square(x: float, y: float, height: int, width: int) -> tuple[float, float]:
    """A position in a picture of height × width pixels, in SAM's 1024 × 1024 square."""
    return x * (SIDE / width), y * (SIDE / height)


def mask_prompt(mask: Mask) -> torch.Tensor:
    """(1, 1, 256, 256) float32 logits: a mask of the picture as the decoder takes it, averaged over each
    cell."""
    dense = torch.from_numpy(np.ascontiguousarray(mask.to_array(), dtype=np.float32))[None, None]
    cells = torch.nn.functional.interpolate(
        dense, size=(MASK_SIDE, MASK_SIDE), mode="bilinear", antialias=True, align_corners=False
    )
    logits: torch.Tensor = 2 * MASK_LOGIT * cells - MASK_LOGIT
    return logits


def full_size(logits: torch.Tensor, height: int, width: int, threshold: float) -> Mask:
    """One mask's logits, (256, 256) float32, enlarged to the picture as transformers' processor does it
    (bilinear), and cut at the threshold. May be empty."""
    enlarged = torch.nn.functional.interpolate(
        logits[None, None], size=(height, width), mode="bilinear", align_corners=False
    )[0, 0]
    return Mask.from_array((enlarged > threshold).cpu().numpy())
