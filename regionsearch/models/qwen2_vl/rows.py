"""Inputs as the network sees them: token ids, places of the picture, rotary positions, embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from regionsearch.images import Image
from regionsearch.models.batching import batches_of_equal_size, run_halving
from regionsearch.models.qwen2_vl.loading import LoadedQwen2VL
from regionsearch.models.qwen2_vl.pictures import PicturePlan, PixelBounds
from regionsearch.models.qwen2_vl.preprocessing import MERGE, PATCH, QwenPixels

Positions = Literal["later", "first"]
"""`later`: 0, 1, 2, … for every token. `first`: Qwen2-VL's own two-dimensional positions inside the
picture. (Published programs number the first batch of a process differently from all later ones.)"""
Extent = tuple[int, int, int, int]
"""(x0, y0, x1, y1), pixels, half open."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What of a picture an input shows: the part within `extent`.

    start: the first of its places in the row. plan: how it will be resized.
    """

    image: Image
    extent: Extent
    plan: PicturePlan
    start: int

    def read(self) -> QwenPixels:
        """Its pixels, cut out and resized only now, so that many rows can wait for their turn."""
        x0, y0, x1, y1 = self.extent
        return self.plan.read(Image(self.image.pixels[y0:y1, x0:x1]))


@dataclass(frozen=True, slots=True)
class Row:
    """One input. ids: of its tokens, the picture's places filled. instructed: whether it is a picture
    with words."""

    ids: Sequence[int]
    shown: Shown | None = None
    instructed: bool = False

    def __len__(self) -> int:
        return len(self.ids)


class RowMaker:
    """Makes rows with a model's tokenizer. Nothing is computed, and no pixel is read."""

    def __init__(self, tokenizer: Any, image_token: int, bounds: PixelBounds) -> None:
        self._tokenizer = tokenizer
        self._image_token = image_token
        self._bounds = bounds

    def text_row(self, string: str) -> Row:
        """Of words alone."""
        ids: list[int] = self._tokenizer(string)["input_ids"]
        return Row(ids)

    def image_row(
        self, string: str, image: Image, extent: Extent | None = None, *, instructed: bool = False
    ) -> Row:
        """Of a string with the picture's token in it once, and the picture or the part within `extent`."""
        ids: list[int] = self._tokenizer(string)["input_ids"]
        x0, y0, x1, y1 = extent or (0, 0, image.width, image.height)
        plan = self._bounds.plan(y1 - y0, x1 - x0)
        start = ids.index(self._image_token)
        filled = [*ids[:start], *[self._image_token] * plan.tokens, *ids[start + 1 :]]
        return Row(filled, Shown(image, (x0, y0, x1, y1), plan, start), instructed)


def embed_by_length(
    rows: Sequence[Row],
    embed: Callable[[Sequence[Row]], Sequence[NDArray[np.float32]]],
    dimension: int,
    budget: int,
) -> NDArray[np.float32]:
    """(n, d) float32: rows of one length share a pass of at most `budget` tokens; nothing is padded."""
    vectors = np.empty((len(rows), dimension), dtype=np.float32)
    for batch in batches_of_equal_size([len(row) for row in rows], budget):
        vectors[batch] = run_halving([rows[place] for place in batch], embed)
    return vectors


def token_ids(rows: Sequence[Row], device: torch.device) -> torch.Tensor:
    """(rows, length) int64, for rows of one length."""
    return torch.tensor([list(row.ids) for row in rows], device=device)


def inputs_embeds(base: LoadedQwen2VL, rows: Sequence[Row], images: Sequence[torch.Tensor]) -> torch.Tensor:
    """(rows, length, hidden): words looked up, pictures put in place.

    images: what the vision tower made of the pictures of those rows that have one, in their order.
    """
    embedded: torch.Tensor = base.language_model.embed_tokens(token_ids(rows, base.device))
    waiting = iter(images)
    for place, row in enumerate(rows):
        if row.shown is not None:
            image = next(waiting)
            embedded[place, row.shown.start : row.shown.start + len(image)] = image
    return embedded


def rotary_positions(row: Row, mode: Positions) -> torch.Tensor:
    """(3, length) int64: positions in time, height and width of every token."""
    plain = torch.arange(len(row)).expand(3, -1)
    if mode == "later" or row.shown is None:
        return plain
    height, width = (side // (PATCH * MERGE) for side in row.shown.plan.second)
    before = row.shown.start
    cells = torch.stack(
        [
            torch.zeros(height, width, dtype=torch.int64),
            torch.arange(height)[:, None].expand(height, width),
            torch.arange(width)[None, :].expand(height, width),
        ]
    ).reshape(3, height * width)
    # The text goes on where the longer side of the picture ends (Qwen2-VL's M-RoPE).
    after = plain[:, : len(row) - before - height * width] + before + max(height, width)
    return torch.cat([plain[:, :before], cells + before, after], dim=1)
