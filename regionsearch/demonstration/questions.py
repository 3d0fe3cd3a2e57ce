"""Questions about a collection, derived from what is in it, with the right answer where one is known.

A picture to ask with is never an indexed file itself: it is another view of one (mirrored, smaller, a
little brighter), so that the vectors differ, and which entity of which photo is meant is still known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from regionsearch.images import Image
from regionsearch.regions import Box, Mask, Point, RegionPrompt, box_iou, mask_iou

Kind = Literal["words", "box", "point", "mask", "box + words", "two boxes", "more like this"]

VIEW_SCALE = 0.8
"""Sides of a view over those of its photo."""
VIEW_BRIGHTNESS = 1.06

SMALLEST_AREA, LARGEST_AREA = 0.02, 0.5
"""Entities between these fractions of their image make good questions: neither a speck nor the scene."""

FULL_CONTRAST = 80.0
"""Difference of mean colours, of 255, from which on a thing is taken to stand out fully."""

ALIKE_COLOUR = 25.0
"""Difference of mean colours, of 255, below which two things of a photo look alike."""

THINGS_CONSIDERED = 6
"""Things of a photo that a question may be about."""

NEUTRAL_WORDS = ("an animal", "a vehicle", "something to eat")
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
    region: in the picture's pixels; further: more of them, each matched to an entity of its own.
    image_id, entity: the indexed entity that is meant instead.
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
    further: tuple[RegionPrompt, ...] = ()


def plan_questions(
    photos: Sequence[IndexedPhoto],
    words: Sequence[str] = NEUTRAL_WORDS,
    added_words: str = ADDED_WORDS,
) -> list[Question]:
    """A question of every kind but `more like this`, about different photos as far as there are enough;
    about two things at once when a photo has two that lie apart.

    photos: 1 at least, each with an entity at least.
    """
    by_id = {photo.image_id: photo for photo in photos}
    things = things_worth_asking(photos)

    def another(turn: int) -> tuple[Thing, Image]:
        thing = things[turn % len(things)]
        return thing, by_id[thing.image_id].image

    def about_region(turn: int, kind: Kind, sentence: str, text: str | None = None) -> Question:
        thing, photo = another(turn)
        mask = mask_in_view(thing.mask)
        shapes = {
            "point": lambda: RegionPrompt(points=(deepest_point(mask),)),
            "mask": lambda: RegionPrompt(mask=mask),
        }
        region = shapes.get(kind, lambda: RegionPrompt(box=mask.box()))()
        return Question(kind, sentence, view_of(photo), region, text, expected=thing)

    return [
        about_region(0, "box", "What is in this box?"),
        about_region(1, "point", "What did I click on?"),
        *(Question("words", f"“{text}”", text=text) for text in words),
        about_region(2, "box + words", f"This, and “{added_words}”", added_words),
        about_region(3, "mask", "Where is the thing with this outline?"),
        *about_two_things(photos),
    ]


def about_two_things(photos: Sequence[IndexedPhoto]) -> list[Question]:
    """The photo with this thing and that one: the two best things that lie apart, of all photos; none when
    no photo has two."""
    pairs = [
        (min(first[0], second[0]), photo, first[1], second[1])
        for photo in photos
        for first, second in combinations(_best_things(photo), 2)
        if first[0][0] and second[0][0] and _apart(first[1], second[1])
    ]
    if not pairs:
        return []
    _, photo, first, second = max(pairs, key=lambda pair: (pair[0], pair[1].image_id))
    shapes = [RegionPrompt(box=mask_in_view(thing.mask).box()) for thing in (first, second)]
    return [
        Question(
            "two boxes",
            "Where are both of these together?",
            view_of(photo.image),
            shapes[0],
            expected=first,
            further=tuple(shapes[1:]),
        )
    ]


def _apart(first: Thing, second: Thing) -> bool:
    """Whether the two boxes share nothing: of things within each other nobody could tell which is meant."""
    return box_iou(first.box, second.box) == 0


def more_like_this(photos: Sequence[IndexedPhoto], most: int) -> list[Question]:
    """The same question about up to `most` things; none when there is no other photo to find.

    Which thing has anything like it elsewhere, only the answers can tell.
    """
    if len(photos) < 2:
        return []
    by_id = {photo.image_id: photo for photo in photos}
    return [
        Question(
            "more like this",
            f"Other photos with something like entity {thing.index} of {thing.image_id}",
            by_id[thing.image_id].image,
            image_id=thing.image_id,
            entity=thing.index,
            outline=thing.mask,
        )
        for thing in things_worth_asking(photos)[:most]
    ]


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


def mask_from_view(mask: Mask, height: int, width: int) -> Mask:
    """Where a mask of `view_of(photo)` lies in the photo of height × width pixels."""
    upright = mask.resized(height, width).to_array()
    return Mask.from_array(np.asfortranarray(upright[:, ::-1]))


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


def things_worth_asking(photos: Sequence[IndexedPhoto]) -> list[Thing]:
    """The best thing of every photo, best first, then the second best of every photo, and so on."""
    ranked = [_best_things(photo) for photo in photos]
    return [
        thing
        for place in range(THINGS_CONSIDERED)
        for _, thing in sorted(
            (things[place] for things in ranked if place < len(things)),
            key=lambda pair: (pair[0], pair[1].image_id),
            reverse=True,
        )
    ]


def _best_things(photo: IndexedPhoto) -> list[tuple[tuple[bool, float], Thing]]:
    """A photo's best things with their worth, best first: those of a fitting size before all others.

    Things with many like them in the same photo come late: which of them was meant, nobody could tell.
    """
    shapely = sorted(photo.things, key=_shape_worth, reverse=True)[:THINGS_CONSIDERED]
    judged = []
    for thing in shapely:
        fitting, worth = _shape_worth(thing)
        worth *= 0.2 + contrast(photo.image, thing.mask)
        judged.append(((fitting, worth / (1 + lookalikes(photo, thing))), thing))
    return sorted(judged, key=lambda pair: pair[0], reverse=True)


def _shape_worth(thing: Thing) -> tuple[bool, float]:
    """Compact things that look like things of their own, whole within the photo.

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
    return fitting, thing.objectness * fill * (1 - 0.2 * touched)


def contrast(photo: Image, mask: Mask) -> float:
    """How far the mean colour on the mask is from that of the rest, 0 to 1: patches of a texture, which
    nobody would ask for, are near 0. Judged on a small copy; 1 for a mask that vanishes in it or fills it."""
    small = _small_copy(photo)
    inside = mask.resized(*small.shape[:2]).to_array()
    if inside.all() or not inside.any():
        return 1.0
    apart = small[inside].mean(axis=0) - small[~inside].mean(axis=0)
    return min(1.0, float(np.abs(apart).mean()) / FULL_CONTRAST)


def lookalikes(photo: IndexedPhoto, thing: Thing) -> int:
    """How many other things of the photo have about the same area and mean colour, and lie elsewhere."""
    small = _small_copy(photo.image)

    def mean_colour(of: Thing) -> NDArray[np.float32]:
        inside = of.mask.resized(*small.shape[:2]).to_array()
        colour: NDArray[np.float32] = small[inside].mean(axis=0) if inside.any() else np.zeros(3, np.float32)
        return colour

    similar = (
        other
        for other in photo.things
        if other.index != thing.index
        and 1 / 1.6 < other.area / thing.area < 1.6
        and mask_iou(other.mask, thing.mask) < 0.3
    )
    own = mean_colour(thing)
    return sum(float(np.abs(mean_colour(other) - own).mean()) < ALIKE_COLOUR for other in similar)


def _small_copy(photo: Image) -> NDArray[np.float32]:
    """(height, width, 3) float32, 0 to 255, the longest side at most 128 pixels."""
    scale = min(1.0, 128 / max(photo.width, photo.height))
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    return np.asarray(Pillow.fromarray(photo.pixels).resize(size, Pillow.Resampling.BOX), dtype=np.float32)
