"""Inputs as the network sees them: token ids, places of the picture, rotary positions, embeddings."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regionsearch.images import Image
from regionsearch.models.batching import batches_of_equal_size, run_halving
from regionsearch.models.qwen2_vl.loading import LoadedQwen2VL
from regionsearch.models.qwen2_vl.pictures import PicturePlan, PixelBounds
from regionsearch.models.qwen2_vl.position_modes import Positions
from regionsearch.models.qwen2_vl.preprocessing import MERGE, PATCH, QwenPixels

Extent = tuple[int, int, int, int]
"""(x0, y0, x1, y1), pixels, half open."""
READERS = 4
"""Threads that cut out and resize pictures for a GPU. Chosen, not measured."""


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
        # Tokenizers keep settings that a call can change, and are used from several threads.
        self._tokenizing = threading.Lock()

    def text_row(self, string: str) -> Row:
        """Of words alone."""
        return Row(self._ids(string))

    def image_row(
        self, string: str, image: Image, extent: Extent | None = None, *, instructed: bool = False
    ) -> Row:
        """Of a string with the picture's token in it once, and the picture or the part within `extent`."""
        ids = self._ids(string)
        x0, y0, x1, y1 = extent or (0, 0, image.width, image.height)
        plan = self._bounds.plan(y1 - y0, x1 - x0)
        start = ids.index(self._image_token)
        filled = [*ids[:start], *[self._image_token] * plan.tokens, *ids[start + 1 :]]
        return Row(filled, Shown(image, (x0, y0, x1, y1), plan, start), instructed)

    def _ids(self, string: str) -> list[int]:
        with self._tokenizing:
            ids: list[int] = self._tokenizer(string)["input_ids"]
            return ids


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A row whose turn has come, with the pixels that it shows."""

    row: Row
    pixels: QwenPixels | None

    @staticmethod
    def of(row: Row) -> ReadRow:
        return ReadRow(row, None if row.shown is None else row.shown.read())


def embed_by_length(
    rows: Sequence[Row],
    embed: Callable[[Sequence[ReadRow]], Sequence[NDArray[np.float32]]],
    base: LoadedQwen2VL,
    budget: int,
) -> NDArray[np.float32]:
    """(n, d) float32: rows of one length share a pass of at most `budget` tokens; nothing is padded.

    While a GPU computes a pass, threads read the pixels of the next one.
    """
    vectors = np.empty((len(rows), base.hidden_size), dtype=np.float32)
    batches = batches_of_equal_size([len(row) for row in rows], budget)
    for batch, read in read_batches(rows, batches, ahead=base.device.type == "cuda"):
        vectors[batch] = run_halving(read, embed)
    return vectors


def read_batches(
    rows: Sequence[Row], batches: Sequence[Sequence[int]], *, ahead: bool
) -> Iterator[tuple[Sequence[int], list[ReadRow]]]:
    """Each batch of places with its rows, in order. ahead: the next one is being read meanwhile, in
    threads of its own; a CPU that computes has no use for them."""
    if not ahead:
        for batch in batches:
            yield batch, [ReadRow.of(rows[place]) for place in batch]
        return
    with ThreadPoolExecutor(READERS, thread_name_prefix="read-pixels") as pool:
        waiting: deque[tuple[Sequence[int], list[Future[ReadRow]]]] = deque()
        for batch in batches:
            waiting.append((batch, [pool.submit(ReadRow.of, rows[place]) for place in batch]))
            if len(waiting) > 1:
                first, reading = waiting.popleft()
                yield first, [one.result() for one in reading]
        for first, reading in waiting:
            yield first, [one.result() for one in reading]


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
