"""The network: a causal language model whose last token is the vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from regionsearch.models.qwen2_vl.language import run_language_model
from regionsearch.models.qwen2_vl.loading import LoadedQwen2VL
from regionsearch.models.qwen2_vl.rows import ReadRow, Row, embed_by_length, inputs_embeds, rotary_positions
from regionsearch.models.qwen2_vl.vision import vision_features


class LastTokenNetwork:
    """Safe to use from several threads. budget: tokens of a pass, patches of one of the vision tower."""

    def __init__(self, base: LoadedQwen2VL, budget: int) -> None:
        self.base = base
        self._budget = budget

    def embed(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors."""
        return embed_by_length(rows, self._embed_batch, self.base, self._budget)

    def _embed_batch(self, batch: Sequence[ReadRow]) -> list[NDArray[np.float32]]:
        rows = [one.row for one in batch]
        pixels = [one.pixels for one in batch if one.pixels is not None]
        # Both programs call the text model without position ids, or in a way that comes to the same:
        # every token counts one, also within the picture.
        positions = torch.stack([rotary_positions(row, "later") for row in rows], dim=1)
        with torch.inference_mode():
            images = vision_features(self.base.visual, pixels, self._budget)
            hidden = run_language_model(
                self.base.language_model,
                inputs_embeds(self.base, rows, images),
                positions.to(self.base.device),
            )
            return list(functional.normalize(hidden[:, -1].float(), dim=-1).cpu().numpy())
