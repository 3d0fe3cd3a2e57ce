"""Pictures with captions, of the whole picture or of boxes in it, as a connector learns from them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from regionsearch.errors import InvalidRegion, InvalidRequest
from regionsearch.regions import Box
from regionsearch.training.region_caption_data import read_sources

LEAST_EXAMPLES = 2
"""Learning by contrast needs another example to be told from."""


@dataclass(frozen=True, slots=True)
class CaptionedRegion:
    """box: pixels of the upright picture, None for the whole of it. captions: one or more."""

    box: Box | None
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CaptionedPicture:
    """regions: one or more, each an example of its own; the captions of equal boxes are together."""

    path: Path
    regions: tuple[CaptionedRegion, ...]


def read_captioned(images: Path, annotations: Path) -> list[CaptionedPicture]:
    """The pictures of a COCO `captions.json` (`*.json`) or of SCaR's training Parquet (anything else), in
    the order in which the file first names them.

    Raises InvalidRequest, naming the file, for one that cannot be read, holds fewer than two examples,
    an empty box, or pictures that are not below `images`.
    """
    (source,) = read_sources([annotations], [images], sys.maxsize, seed=0)
    found: dict[Path, dict[Box | None, list[str]]] = {}
    for pair in source.pairs:
        try:
            box = None if pair.box is None else Box(*pair.box)
        except InvalidRegion as error:
            raise InvalidRequest(f"{annotations}: {pair.image.name}: {error.message}") from error
        found.setdefault(pair.image, {}).setdefault(box, []).append(pair.target)
    pictures = [
        CaptionedPicture(path, tuple(CaptionedRegion(box, tuple(texts)) for box, texts in regions.items()))
        for path, regions in found.items()
    ]
    examples = sum(len(picture.regions) for picture in pictures)
    if examples < LEAST_EXAMPLES:
        raise InvalidRequest(
            f"{annotations} captions {examples} picture or region; there must be {LEAST_EXAMPLES} or more",
            field="annotations",
        )
    return pictures
