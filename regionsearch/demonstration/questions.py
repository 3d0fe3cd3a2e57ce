"""Questions about a collection, derived from what is in it, with the right answer where one is known.

A picture to ask with is never an indexed file itself: it is another view of one (mirrored, smaller, a
little brighter), so that the vectors differ, and which entity of which photo is meant is still known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from regionsearch.images import Image
from regionsearch.regions import Box, Mask, Point, RegionPrompt

Kind = Literal["words", "box", "point", "mask", "box + words", "more like this"]

VIEW_SCALE = 0.8
"""Sides of a view over those of its photo."""
VIEW_BRIGHTNESS = 1.06

SMALLEST_AREA, LARGEST_AREA = 0.02, 0.5
"""Entities between these fractions of their image make good questions: neither a speck nor the scene."""

NEUTRAL_WORDS = ("a person", "an animal", "a vehicle")
"""Asked of photos that nothing is known about."""
ADDED_WORDS = "outdoors"
"""What a region question adds in words when nothing is known about the photos."""


@dataclass(frozen=True, eq=False)
class Thing:
    """An indexed entity: its photo, ordinal, mask and box in the photo's pixels, area (0 to 1 of the
    photo) and objectness (0 to 1)."""

    image_id: str
    index: int
    mask: Mask
    box: Box
    area: float
    objectness: float


@dataclass(frozen=True, eq=False)
class IndexedPhoto:
    """A photo of the collection with its entities."""

    image_id: str
    image: Image
    things: tuple[Thing, ...]


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked, as it is sent and as it is shown.

    picture: the query picture; for `more like this` the indexed photo, shown but not sent.
    region: in the picture's pixels. image_id, entity: the indexed entity that is meant instead.
    outline: what the picture is shown with when the answer names no region of its own.
    expected: the thing that the question was made from; None where nobody knows the right answer.
    """

    kind: Kind
    sentence: str
    picture: Image | None = None
    region: RegionPrompt | None = None
    text: str | None = None
    image_id: str | None = None
    entity: int | None = None
    outline: Mask | None = None
    expected: Thing | None = None


def plan_questions(
    photos: Sequence[IndexedPhoto],
    words: Sequence[str] = NEUTRAL_WORDS,
    added_words: str = ADDED_WORDS,
) -> list[Question]:
    """Every kind of question, about different photos as far as there are enough.

    photos: 1 at least, each with an entity at least.
    """
    by_id = {photo.image_id: photo for photo in photos}
    things = _things_worth_asking(photos)

    def another(turn: int) -> tuple[Thing, Image]:
        thing = things[turn % len(things)]
        return thing, by_id[thing.image_id].image

    asked = [Question("words", f"“{text}”", text=text) for text in words]

    thing, photo = another(0)
    asked.append(
        Question(
            "box",
            "What is in this box?",
            picture=view_of(photo),
            region=RegionPrompt(box=mask_in_view(thing.mask).box()),
            expected=thing,
        )
    )
    thing, photo = another(1)
    asked.append(
        Question(
            "point",
            "What did I click on?",
            picture=view_of(photo),
            region=RegionPrompt(points=(deepest_point(mask_in_view(thing.mask)),)),
            expected=thing,
        )
    )
    thing, photo = another(2)
    asked.append(
        Question(
            "mask",
            "Where is the thing with this outline?",
            picture=view_of(photo),
            region=RegionPrompt(mask=mask_in_view(thing.mask)),
            expected=thing,
        )
    )
    thing, photo = another(3)
    asked.append(
        Question(
            "box + words",
            f"This, and “{added_words}”",
            picture=view_of(photo),
            region=RegionPrompt(box=mask_in_view(thing.mask).box()),
            text=added_words,
            expected=thing,
        )
    )
    if len(photos) > 1:
        thing, photo = another(4)
        asked.append(
            Question(
                "more like this",
                f"Other photos with something like entity {thing.index} of {thing.image_id}",
                picture=photo,
                image_id=thing.image_id,
                entity=thing.index,
                outline=thing.mask,
            )
        )
    return asked


def view_of(photo: Image) -> Image:
    """The photo mirrored, at VIEW_SCALE of its size, a little brighter."""
    width, height = _view_size(photo.width, photo.height)
    mirrored = Pillow.fromarray(photo.pixels).transpose(Pillow.Transpose.FLIP_LEFT_RIGHT)
    smaller = np.asarray(mirrored.resize((width, height), Pillow.Resampling.LANCZOS), dtype=np.float32)
    return Image(np.clip(smaller * VIEW_BRIGHTNESS, 0, 255).astype(np.uint8))


def mask_in_view(mask: Mask) -> Mask:
    """Where a mask of a photo lies in `view_of(photo)`; never empty."""
    width, height = _view_size(mask.width, mask.height)
    view = Mask.from_array(np.asfortranarray(mask.to_array()[:, ::-1])).resized(height, width)
    if view.pixels:
        return view
    # So thin that no pixel's middle lay on it: its box stands for it.
    box = mask.box()
    sx, sy = width / mask.width, height / mask.height
    mirrored = Box((mask.width - box.x1) * sx, box.y0 * sy, (mask.width - box.x0) * sx, box.y1 * sy)
    return Mask.from_box(mirrored, height, width)


def deepest_point(mask: Mask) -> Point:
    """The middle of the mask's pixel that is farthest from its edge: where one would click.

    Found by eroding; of several survivors the one nearest to their mean.
    """
    left: NDArray[np.bool_] = mask.to_array()
    while True:
        padded = np.pad(left, 1)
        core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        core &= left
        if not core.any():
            break
        left = core
    rows, columns = np.nonzero(left)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return Point(float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5)


def _view_size(width: int, height: int) -> tuple[int, int]:
    return max(1, round(width * VIEW_SCALE)), max(1, round(height * VIEW_SCALE))


def _things_worth_asking(photos: Sequence[IndexedPhoto]) -> list[Thing]:
    """The best thing of every photo, best first, then the second best of every photo, and so on."""
    ranked = [sorted(photo.things, key=_worth, reverse=True) for photo in photos]
    rounds = max(len(things) for things in ranked)
    return [
        thing
        for place in range(rounds)
        for thing in sorted(
            (things[place] for things in ranked if place < len(things)), key=_worth, reverse=True
        )
    ]


def _worth(thing: Thing) -> tuple[bool, float, str, int]:
    """Things of a fitting size first; then compact ones that look like things of their own.

    How much of its box a thing fills tells a thing from a frame-like strip of background.
    """
    fitting = SMALLEST_AREA <= thing.area <= LARGEST_AREA
    fill = thing.mask.pixels / thing.box.area
    touched = sum(
        (
            thing.box.x0 <= 0,
            thing.box.y0 <= 0,
            thing.box.x1 >= thing.mask.width,
            thing.box.y1 >= thing.mask.height,
        )
    )
    return fitting, thing.objectness * fill * (1 - 0.2 * touched), thing.image_id, thing.index
