"""Captions and pictures of the Karpathy split, each found by the other: R@1, 5, 10.

The file is `dataset_coco.json` or `dataset_flickr30k.json` of Karpathy and Li 2015. A picture counts as
found by any of its captions, and every caption of every picture is a candidate.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.published.benchmark_inputs import BenchmarkInput, Retrieval
from regionsearch.evaluation.published.wording import Wording, tight, with_image

RANKS = (1, 5, 10)
FORM = (
    "wanted is an object whose `images` are objects with `split`, `filename` and `sentences`, each of these "
    "with its caption as `raw`, such as dataset_coco.json or dataset_flickr30k.json"
)
SPLITS = ("test", "val", "train", "restval")
IMAGE_INSTRUCTION = "\nRepresent the given image."
"""For models whose strings place the picture: the words of VIRTUE's demonstration for a gallery."""


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """image: path below the images folder."""

    image: str
    captions: tuple[str, ...]


def read_split(
    file: Path, images: Path, split: str = "test", limit: int | None = None
) -> list[CaptionedImage]:
    """The pictures of a split in the file's order, `limit` at most.

    images: where they lie: `FOLDER/FILENAME`, or as the file's `filepath` says, `FOLDER/val2014/FILENAME`.
    Raises InvalidRequest for a file of another form and for a split without pictures.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(f"cannot read {file}: {error.strerror}", field="annotations") from error
    except ValueError as error:
        raise InvalidRequest(f"{file} is not JSON: {error}", field="annotations") from error
    try:
        entries = [entry for entry in content["images"] if entry["split"] == split]
        found = [_captioned(entry, images) for entry in entries[:limit]]
    except (KeyError, TypeError) as error:
        wrong = f"there is no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
        raise InvalidRequest(
            f"{file} is not a Karpathy split ({wrong}): {FORM}", field="annotations"
        ) from error
    if not found:
        raise InvalidRequest(f"{file} has no picture in the split {split!r}", field="split")
    return found


def _captioned(entry: dict[str, Any], images: Path) -> CaptionedImage:
    path = str(entry["filename"])
    below = entry.get("filepath")
    if below and not (images / path).is_file():
        path = f"{below}/{path}"
    captions = tuple(str(sentence["raw"]).strip() for sentence in entry["sentences"])
    if not captions or not all(captions):
        raise KeyError(f"caption of {path}")
    return CaptionedImage(path, captions)


def retrievals_of(split: Sequence[CaptionedImage], wording: Wording) -> tuple[Retrieval, Retrieval]:
    """Picture to caption, and caption to picture; both over the same inputs."""
    words = tight(with_image(IMAGE_INSTRUCTION)) + "\n" if wording.style == "image_pad" else None
    pictures = [BenchmarkInput(words, one.image) for one in split]
    captions = [BenchmarkInput(text) for one in split for text in one.captions]
    owner = np.repeat(np.arange(len(split)), [len(one.captions) for one in split])
    ends = np.cumsum([len(one.captions) for one in split])
    starts = np.concatenate([[0], ends[:-1]])
    of_picture = [np.arange(start, end) for start, end in zip(starts, ends, strict=True)]
    return (
        Retrieval("i2t", pictures, captions, None, of_picture),
        Retrieval("t2i", captions, pictures, None, [owner[n : n + 1] for n in range(len(owner))]),
    )
