"""The language model over embeddings that the caller has put together."""

from __future__ import annotations

from typing import Any

import torch


def run_language_model(
    language_model: Any,
    inputs_embeds: torch.Tensor,
    position_ids: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    causal: bool = True,
) -> torch.Tensor:
    """The last hidden state after the final norm, (batch, length, hidden); gradients flow through.

    inputs_embeds: (batch, length, hidden). position_ids: (3, batch, length) int64, the rotary positions
    of time, height and width: always given, since transformers' own rule differs from the embedders'.
    mask: (batch, length) bool or int, 1 on tokens and 0 on padding; None: no padding anywhere.
    causal: a token attends to itself and those before it, or with False to all.

    Padding is never attended to. A padded place attends to itself (and to what it otherwise may), so
    that its value is finite; it means nothing.
    """
    passed: dict[str, Any] = {}
    if mask is None and causal:
        attention: Any = None  # transformers' own causal attention, which needs no mask
    elif mask is None and language_model.config._attn_implementation == "sdpa":
        attention = {"full_attention": None}
        passed["is_causal"] = False  # no mask and not causal: the quickest kernels
    else:
        if mask is None:
            mask = torch.ones(inputs_embeds.shape[:2], dtype=torch.bool, device=inputs_embeds.device)
        attention = {"full_attention": additive_mask(mask.bool(), inputs_embeds.dtype, causal=causal)}
    output = language_model(
        inputs_embeds=inputs_embeds,
        attention_mask=attention,
        position_ids=position_ids,
        use_cache=False,
        **passed,
    )
    return output.last_hidden_state


def additive_mask(mask: torch.Tensor, dtype: torch.dtype, *, causal: bool) -> torch.Tensor:
    """(batch, length) bool → (batch, 1, length, length): 0 where the row may attend to the column, the
    least number of `dtype` elsewhere."""
    length = mask.shape[1]
    allowed = mask[:, None, None, :].expand(-1, 1, length, -1)
    square = torch.ones(length, length, dtype=torch.bool, device=mask.device)
    if causal:
        allowed = allowed & square.tril()
    allowed = allowed | torch.eye(length, dtype=torch.bool, device=mask.device)
    forbidden = torch.zeros(allowed.shape, dtype=dtype, device=mask.device)
    return forbidden.masked_fill(~allowed, torch.finfo(dtype).min)
