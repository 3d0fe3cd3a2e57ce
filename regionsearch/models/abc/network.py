"""The network: language model in both directions, mean over the row, residual head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from regionsearch.errors import ModelUnavailable
from regionsearch.models.low_rank import Adapter, AdapterSwitch
from regionsearch.models.qwen2_vl.language import run_language_model
from regionsearch.models.qwen2_vl.loading import LoadedQwen2VL
from regionsearch.models.qwen2_vl.position_modes import Positions
from regionsearch.models.qwen2_vl.preprocessing import QwenPixels
from regionsearch.models.qwen2_vl.rows import (
    ReadRow,
    Row,
    embed_by_length,
    inputs_embeds,
    rotary_positions,
    token_ids,
)
from regionsearch.models.qwen2_vl.vision import vision_features

LEFT_OUT_ID = 0
"""The official pooling takes id 0 for padding and leaves it out of the sum (not out of the count). In
Qwen2's vocabulary it is the token `!`, and the published weights learnt with that."""
HEAD = "mlp_head"
TEMPERATURE = "temperature.temp"


@dataclass(frozen=True, eq=False)
class ResidualHead:
    """x + W₂ selu(W₁ x + b₁) + b₂. weight1 (width, hidden), weight2 (hidden, width), and their biases."""

    weight1: torch.Tensor
    bias1: torch.Tensor
    weight2: torch.Tensor
    bias2: torch.Tensor

    @staticmethod
    def from_adapter(adapter: Adapter, base: LoadedQwen2VL) -> ResidualHead:
        """What the pretrain adapter saved, on the device and in the precision of the base.

        Raises ModelUnavailable, by name, unless the adapter saved exactly the head and the temperature.
        """
        names = [f"{HEAD}.linear_layer{number}.{kind}" for number in (1, 2) for kind in ("weight", "bias")]
        expected = {*names, TEMPERATURE}
        if set(adapter.saved) != expected:
            raise ModelUnavailable(
                f"adapter {adapter.file} has saved modules {sorted(adapter.saved)}; "
                f"{sorted(expected)} are needed"
            )
        width, hidden = len(adapter.saved[names[1]]), base.hidden_size
        for name, shape in zip(names, ((width, hidden), (width,), (hidden, width), (hidden,)), strict=True):
            found = tuple(adapter.saved[name].shape)
            if found != shape:
                raise ModelUnavailable(f"adapter {adapter.file} has {name} of shape {found}, not {shape}")
        temperature = tuple(adapter.saved[TEMPERATURE].shape)
        if temperature not in ((), (1,)):
            raise ModelUnavailable(f"adapter {adapter.file} has {TEMPERATURE} of shape {temperature}, not ()")
        return ResidualHead(*(adapter.saved[name].to(base.device, base.dtype) for name in names))

    def __call__(self, pooled: torch.Tensor) -> torch.Tensor:
        """(n, hidden) → (n, hidden)."""
        widened = functional.selu(functional.linear(pooled, self.weight1, self.bias1))
        return pooled + functional.linear(widened, self.weight2, self.bias2)


class AbcNetwork:
    """Rows to unit vectors. Safe to use from several threads.

    base: Qwen2-VL with the pretrain adapter merged and the instruct adapter attached to `switch`.
    budget: tokens of a forward pass, and patches of one of the vision tower.
    temperature: that similarities were divided by in training; vectors do not depend on it.
    """

    def __init__(
        self,
        base: LoadedQwen2VL,
        head: ResidualHead,
        switch: AdapterSwitch,
        positions: Positions,
        budget: int,
        temperature: float,
    ) -> None:
        self.base = base
        self.positions = positions
        self.budget = budget
        self.temperature = temperature
        self.head = head
        self._switch = switch

    def embed(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors. Rows of one length share a pass, as far as the budget goes;
        nothing is padded, since the mean of a padded row depends on its padding."""
        vectors = np.empty((len(rows), self.base.hidden_size), dtype=np.float32)
        for instructed in (False, True):
            places = [place for place, row in enumerate(rows) if row.instructed == instructed]
            chosen = [rows[place] for place in places]
            vectors[places] = embed_by_length(chosen, self._embed_batch, self.base, self.budget)
        return vectors

    def _embed_batch(self, batch: Sequence[ReadRow]) -> list[NDArray[np.float32]]:
        rows = [one.row for one in batch]
        pixels = [one.pixels for one in batch if one.pixels is not None]
        with torch.inference_mode():
            hidden = self.last_hidden_state(rows, inputs_embeds(self.base, rows, self.image_embeds(pixels)))
            projected = self.head(self.pooled(rows, hidden))
            return list(functional.normalize(projected.float(), dim=-1).cpu().numpy())

    def image_embeds(self, pixels: Sequence[QwenPixels]) -> list[torch.Tensor]:
        """What the vision tower makes of each picture: (tokens, hidden)."""
        return vision_features(self.base.visual, pixels, self.budget)

    def last_hidden_state(self, rows: Sequence[Row], embedded: torch.Tensor) -> torch.Tensor:
        """(rows, length, hidden) after the final norm; the rows are all instructed or all not."""
        positions = torch.stack([rotary_positions(row, self.positions) for row in rows], dim=1)
        with self._switch.set(rows[0].instructed):
            return run_language_model(
                self.base.language_model, embedded, positions.to(self.base.device), causal=False
            )

    def pooled(self, rows: Sequence[Row], hidden: torch.Tensor) -> torch.Tensor:
        """(rows, hidden): the mean over the row, with LEFT_OUT_ID as zeros."""
        counted = (token_ids(rows, self.base.device) != LEFT_OUT_ID).unsqueeze(-1)
        return (counted * hidden).mean(dim=1)
