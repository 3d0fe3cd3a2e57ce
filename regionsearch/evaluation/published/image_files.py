"""The pictures that a benchmark names: which are there, what bytes they hold, their pixels when asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from regionsearch.errors import InvalidImage, InvalidRequest
from regionsearch.evaluation.published.benchmark_inputs import BenchmarkInput, BoxNumbers
from regionsearch.images import Image, content_hash, image_size, load_image, read_image_file
from regionsearch.models.embedder import ModelInput
from regionsearch.regions import Box, RegionPrompt

DECODED_KEPT = 4
"""Inputs come ordered by picture; a decoded one is some megabytes."""
NAMED_MISSING = 5


class ImageFiles:
    """Pictures below `folder`, by the paths that the benchmark names.

    `unreadable`: why, by path, for those that are not there or cannot be decoded. Without `skip` the first
    of them is an error.
    """

    def __init__(self, folder: Path, *, skip: bool = False) -> None:
        """Raises InvalidRequest when there is no such folder."""
        if not folder.is_dir():
            raise InvalidRequest(f"there is no folder {folder}", field="images")
        self.folder = folder
        self.unreadable: dict[str, str] = {}
        self._skip = skip
        self._known: dict[str, tuple[str, int, int]] = {}
        self.load = lru_cache(maxsize=DECODED_KEPT)(lambda path: load_image(folder / path))

    def scan(self, paths: Iterable[str], step: Callable[[], object] = lambda: None) -> None:
        """Reads the bytes and the header of each picture, once. `step` is called after each.

        Raises InvalidRequest, with their number and the first few, when pictures are not there or are
        none, unless they are to be skipped.
        """
        asked = [path for path in dict.fromkeys(paths) if path not in self._known]
        missing = []
        for path in asked:
            if path not in self.unreadable:
                try:
                    data = read_image_file(self.folder / path)
                    self._known[path] = (content_hash(data), *image_size(data, path))
                except InvalidImage as error:
                    self.unreadable[path] = error.message
            if path in self.unreadable:
                missing.append(path)
            step()
        if missing and not self._skip:
            named = "; ".join(self.unreadable[path] for path in missing[:NAMED_MISSING])
            more = f"; and {len(missing) - NAMED_MISSING} more" if len(missing) > NAMED_MISSING else ""
            raise InvalidRequest(
                f"{len(missing)} of {len(asked)} pictures cannot be read from {self.folder} "
                f"(--skip-missing goes on without them): {named}{more}",
                field="images",
            )

    def digest(self, path: str) -> str:
        """sha256 of a scanned picture's bytes, hex."""
        return self._known[path][0]

    def size(self, path: str) -> tuple[int, int]:
        """(height, width), pixels, of a scanned picture when upright."""
        return self._known[path][1:]

    def model_input(self, given: BenchmarkInput) -> ModelInput | None:
        """The input with its picture; None when the picture turns out not to decode and is to be
        skipped. Raises InvalidImage then otherwise."""
        if given.image is None:
            return ModelInput(text=given.text)
        try:
            image = self.load(given.image)
        except InvalidImage as error:
            if not self._skip:
                raise
            self.unreadable[given.image] = error.message
            return None
        if given.box is None:
            return ModelInput(image=image, text=given.text)
        box = box_within(given.box, image.height, image.width)
        if given.crop:
            return ModelInput(image=cropped(image, box), text=given.text)
        return ModelInput(image=image, text=given.text, region=RegionPrompt(box=box))


def box_within(numbers: BoxNumbers, height: int, width: int) -> Box:
    """The box's part within the picture, at least one pixel wide and high: annotated boxes overhang by
    rounding, and a few hold nothing."""
    x0, x1 = _span(numbers[0], numbers[2], width)
    y0, y1 = _span(numbers[1], numbers[3], height)
    return Box(x0, y0, x1, y1)


def _span(low: float, high: float, size: int) -> tuple[float, float]:
    low, high = min(max(low, 0.0), size), min(max(high, 0.0), size)
    if high - low >= 1.0:
        return low, high
    start = min(max(math.floor((low + high) / 2), 0), size - 1)
    return float(start), float(start + 1)


def cropped(image: Image, box: Box) -> Image:
    """The pixels that the box touches."""
    rows = slice(math.floor(box.y0), math.ceil(box.y1))
    columns = slice(math.floor(box.x0), math.ceil(box.x1))
    return Image(np.ascontiguousarray(image.pixels[rows, columns]))
