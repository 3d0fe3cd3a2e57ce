"""The language model's adapters: low-rank updates with DoRA, through peft."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from peft import LoraModel

ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "down_proj")
"""The layers of VIRTUE's published list that Qwen2-VL's language model has. Its gate and up projections
and the vision tower are in none of that list's names and stay as they are."""

_NAME = "default"


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """rank: of the update, 1 or more. alpha: the update is scaled by alpha / rank. dropout: 0 to below 1,
    of what enters the update. The defaults are those of the published checkpoints."""

    rank: int = 8
    alpha: int = 64
    dropout: float = 0.1


class LanguageAdapters:
    """DoRA (Liu et al. 2024: the update turns the weights' directions, a vector learns their lengths)
    put into a language model's layers, in place; all its other parameters are frozen.

    A new adapter changes nothing: its second factor is zero (the first is drawn from a normal
    distribution with torch's random state).
    """

    def __init__(self, language_model: nn.Module, settings: AdapterSettings) -> None:
        from peft import LoraConfig, LoraModel

        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            init_lora_weights="gaussian",
            use_dora=True,
            target_modules=list(ADAPTED),
            bias="none",
        )
        # The tuner itself and not peft's `get_peft_model`, whose wrapper adds generation and hub cards.
        self._adapted: LoraModel = LoraModel(language_model, {_NAME: config}, _NAME)
        # In the precision of small updates: peft leaves DoRA's lengths in that of the layer's weights.
        for parameter in language_model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()

    def state(self) -> dict[str, torch.Tensor]:
        from peft import get_peft_model_state_dict

        state: dict[str, torch.Tensor] = get_peft_model_state_dict(self._adapted, save_embedding_layers=False)
        return state

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(self._adapted, dict(state))

    def merge(self) -> None:
        """Adds the updates into the layers' own weights and takes the adapters out, in place."""
        self._adapted.merge_and_unload()
