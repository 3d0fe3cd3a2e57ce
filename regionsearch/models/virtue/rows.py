"""Inputs on their way through the language model: words as numbers, and which go together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from regionsearch.errors import InvalidRequest
from regionsearch.models.batching import batches_of_equal_size
from regionsearch.models.embedder import check_visible
from regionsearch.models.qwen2_vl.words import IMAGE_PAD
from regionsearch.models.transfer import to_device
from regionsearch.models.virtue.features import VirtueFeatures
from regionsearch.models.virtue.network import VirtueBatch
from regionsearch.models.virtue.prompts import SamPrompt

_tokenizing = threading.Lock()
"""Tokenizers keep settings that a call can change, and are used from several threads."""


@dataclass(frozen=True, eq=False)
class Row:
    """One input. ids: with `<|image_pad|>` once for every token of the picture. prompt: None for words
    alone, which have no picture either. features: of the picture; None to plan without computing."""

    ids: tuple[int, ...]
    prompt: SamPrompt | None = None
    features: VirtueFeatures | None = None

    def length(self, segment_tokens: int) -> int:
        """Tokens in the language model."""
        return len(self.ids) + (0 if self.prompt is None else segment_tokens)


def text_row(tokenizer: Any, text: str) -> Row:
    """Raises InvalidRequest for a text without a visible character, or one that holds `<|image_pad|>`:
    there is no picture to put there."""
    check_visible(text)
    if IMAGE_PAD in text:
        raise InvalidRequest(f"a text cannot contain {IMAGE_PAD}, which stands for a picture", field="text")
    return Row(tuple(_ids(tokenizer, text)))


def image_row(
    tokenizer: Any, text: str, image_tokens: int, prompt: SamPrompt, features: VirtueFeatures | None
) -> Row:
    """text holds `<|image_pad|>` once, where the picture's tokens go. Raises InvalidRequest otherwise."""
    if text.count(IMAGE_PAD) != 1:
        raise InvalidRequest(
            f"words beside one image hold {IMAGE_PAD} once, and not {text.count(IMAGE_PAD)} times",
            field="text",
        )
    ids = _ids(tokenizer, text)
    place = ids.index(tokenizer.convert_tokens_to_ids(IMAGE_PAD))
    ids[place : place + 1] = [ids[place]] * image_tokens
    return Row(tuple(ids), prompt, features)


def _ids(tokenizer: Any, text: str) -> list[int]:
    with _tokenizing:
        return list(tokenizer(text, add_special_tokens=False).input_ids)


def batches(rows: Sequence[Row], segment_tokens: int, budget: int) -> list[list[int]]:
    """Places of rows that go through together: of one kind of prompt (or none), of one length, and of at
    most `budget` tokens. Nothing is padded, and words alone are never beside a picture: the published
    code spoils them there."""
    by_kind: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        by_kind.setdefault("text" if row.prompt is None else row.prompt.kind, []).append(place)
    together: list[list[int]] = []
    for kind in sorted(by_kind):
        places = by_kind[kind]
        sizes = [rows[place].length(segment_tokens) for place in places]
        together.extend([places[i] for i in batch] for batch in batches_of_equal_size(sizes, budget))
    return together


def collate(rows: Sequence[Row], device: torch.device) -> VirtueBatch:
    """Rows of one of `batches`, as the network takes them."""
    ids = to_device(torch.tensor([row.ids for row in rows]), device)
    mask = torch.ones_like(ids)
    pictures = [row.features for row in rows if row.features is not None]
    prompts = [row.prompt for row in rows if row.prompt is not None]
    if not prompts:
        return VirtueBatch(ids, mask)
    return VirtueBatch(
        input_ids=ids,
        mask=mask,
        image_tokens=torch.cat([picture.tokens for picture in pictures]),
        sam_embedding=torch.stack([picture.sam.embedding for picture in pictures]),
        prompts=prompts,
    )
