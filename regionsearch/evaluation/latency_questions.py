"""What a load test asks: options of the client's `search`, by kind."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from regionsearch.errors import InvalidRequest
from regionsearch.images import load_image

KINDS = ("text", "box", "point", "similar", "mix")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MAX_PICTURES = 64
"""Read and kept in memory, so that a request costs no disk."""
QUESTIONS = 100
SEED = 0


@dataclass(frozen=True, eq=False)
class Picture:
    """An encoded picture, and the size in pixels that it has when upright."""

    data: bytes
    width: int
    height: int


def phrases() -> list[str]:
    """100 short English phrases that ship with the package, none of them a background phrase of search."""
    file = resources.files("regionsearch.evaluation") / "latency_phrases.txt"
    return file.read_text(encoding="utf-8").split("\n")[:-1]


def read_pictures(folder: Path, seed: int = SEED) -> list[Picture]:
    """At most 64 pictures below `folder`, seeded. Raises InvalidRequest when there is none, InvalidImage
    for one that cannot be decoded."""
    found = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()
    )
    if not found:
        raise InvalidRequest(f"there is no picture in {folder}", field="images")
    chosen = random.Random(seed).sample(found, min(MAX_PICTURES, len(found)))
    pictures = []
    for path in chosen:
        image = load_image(path)
        pictures.append(Picture(path.read_bytes(), image.width, image.height))
    return pictures


def questions(
    kind: str, pictures: Sequence[Picture] = (), image_ids: Sequence[str] = (), seed: int = SEED
) -> list[Mapping[str, Any]]:
    """Options for `search`, the same for the same arguments.

    kind: one of `KINDS`. pictures: for boxes and points. image_ids: of the collection, for `similar`.
    """
    rng = random.Random(seed)
    if kind == "text":
        return [{"text": phrase} for phrase in phrases()]
    if kind == "box":
        return [_box(pictures[n % len(pictures)], rng) for n in range(QUESTIONS)]
    if kind == "point":
        return [_point(pictures[n % len(pictures)], rng) for n in range(QUESTIONS)]
    if kind == "similar":
        if not image_ids:
            raise InvalidRequest("the collection has no image to ask with")
        return [{"image_id": image_id} for image_id in rng.choices(image_ids, k=QUESTIONS)]
    parts = [questions(part, pictures, image_ids, seed) for part in ("text", "box", "point", "similar")]
    return [question for turn in zip(*parts, strict=True) for question in turn]


def _box(picture: Picture, rng: random.Random) -> Mapping[str, Any]:
    """20 to 60% of each side, anywhere in the picture."""
    width, height = (side * rng.uniform(0.2, 0.6) for side in (picture.width, picture.height))
    x0, y0 = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
    return {"image": picture.data, "box": (x0, y0, x0 + width, y0 + height)}


def _point(picture: Picture, rng: random.Random) -> Mapping[str, Any]:
    """Anywhere but in the outer tenth of the picture."""
    x, y = (side * rng.uniform(0.1, 0.9) for side in (picture.width, picture.height))
    return {"image": picture.data, "points": [(x, y)]}
