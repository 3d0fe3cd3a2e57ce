"""Words to unit vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from regionsearch.models.batching import batches_of_equal_size, run_halving
from regionsearch.models.dual_encoder.tokens import WordTokens


class TextNetwork:
    """The text side of a dual encoder. Safe to use from several threads.

    encode: token numbers (n, length) int64 to vectors (n, d), not of unit length.
    budget: tokens of one forward pass.
    """

    def __init__(
        self,
        encode: Callable[[torch.Tensor], torch.Tensor],
        tokens: WordTokens,
        *,
        dimension: int,
        device: torch.device,
        budget: int,
    ) -> None:
        self._encode = encode
        self._tokens = tokens
        self._dimension = dimension
        self._device = device
        self._budget = budget

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors; what exceeds the model's context is cut off.

        Raises InvalidRequest for a text without a single visible character.
        """
        rows = self._tokens.encode(texts)
        vectors = np.empty((len(rows), self._dimension), dtype=np.float32)
        for places in batches_of_equal_size([len(row) for row in rows], self._budget):
            vectors[places] = run_halving([rows[place] for place in places], self._run)
        return vectors

    def _run(self, rows: Sequence[list[int]]) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            exact = self._encode(torch.tensor(rows, device=self._device)).double()
            unit: NDArray[np.float32] = (exact / exact.norm(dim=-1, keepdim=True)).float().cpu().numpy()
        return list(unit)
