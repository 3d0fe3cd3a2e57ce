"""An input as the network sees it: token ids, places of the picture, rotary positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from regionsearch.images import Image
from regionsearch.models.abc.pictures import PicturePlan, PixelBounds, read_picture
from regionsearch.models.abc.settings import Positions
from regionsearch.models.abc.templates import prompt
from regionsearch.models.qwen2_vl.preprocessing import MERGE, PATCH, QwenPixels


@dataclass(frozen=True, slots=True)
class Shown:
    """What of a picture an input shows: the part within `extent`, (x0, y0, x1, y1) in pixels.

    start: the first of its places in the row. plan: how it will be resized.
    """

    image: Image
    extent: tuple[int, int, int, int]
    plan: PicturePlan
    start: int

    def read(self) -> QwenPixels:
        """Its pixels, cut out and resized only now, so that many rows can wait for their turn."""
        x0, y0, x1, y1 = self.extent
        return read_picture(Image(self.image.pixels[y0:y1, x0:x1]), self.plan)


@dataclass(frozen=True, slots=True)
class Row:
    """One input. ids: of its tokens, the picture's places filled. instructed: whether the instruct
    adapter takes part."""

    ids: Sequence[int]
    shown: Shown | None = None
    instructed: bool = False

    def __len__(self) -> int:
        return len(self.ids)


class RowMaker:
    """Makes rows with a model's tokenizer."""

    def __init__(self, tokenizer: Any, image_token: int, bounds: PixelBounds) -> None:
        self._tokenizer = tokenizer
        self._image_token = image_token
        self._bounds = bounds

    def row(
        self,
        text: str | None = None,
        image: Image | None = None,
        extent: tuple[int, int, int, int] | None = None,
    ) -> Row:
        """Of a text, an image (or the part of it that `extent` names), or both.

        Raises InvalidRequest for a text that contains the place of a picture.
        """
        ids: list[int] = self._tokenizer(prompt(text, image is not None))["input_ids"]
        if image is None:
            return Row(ids)
        x0, y0, x1, y1 = extent or (0, 0, image.width, image.height)
        plan = self._bounds.plan(y1 - y0, x1 - x0)
        start = ids.index(self._image_token)
        filled = [*ids[:start], *[self._image_token] * plan.tokens, *ids[start + 1 :]]
        return Row(filled, Shown(image, (x0, y0, x1, y1), plan, start), instructed=text is not None)


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
