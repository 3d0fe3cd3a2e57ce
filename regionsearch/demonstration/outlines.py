"""Photos with the outline of a thing drawn in, at the size in which they are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFilter

from regionsearch.images import Image
from regionsearch.regions import Box, Mask, Point, RegionPrompt

Colour = tuple[int, int, int]

ASKED: Colour = (255, 176, 0)
"""Outlines of what was pointed at: amber."""
FOUND: Colour = (0, 214, 180)
"""Outlines of what was found: turquoise; the two differ for colour-blind eyes too, in lightness."""
ASKED_FURTHER: Colour = (255, 110, 90)
"""Of a second region that was pointed at: coral."""
FOUND_FURTHER: Colour = (214, 120, 255)
"""Of what that one was matched to: violet."""

_SIGMA = 1.5
_MARGIN = 6
_DIMMED = 0.55
_DARK: Colour = (10, 14, 20)
_BESIDE: Colour = (245, 245, 245)

# A blurred straight edge is the normal distribution's integral over the distance from it, so its
# inverse turns the blurred mask into distances, and distances into a line with soft edges.
_DISTANCE = np.array(
    [_SIGMA * NormalDist().inv_cdf(min(max(level / 255, 1e-4), 1 - 1e-4)) for level in range(256)],
    dtype=np.float32,
)


def fitted_size(width: int, height: int, within: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a picture enlarged or shrunk to fit, its proportions kept; 1 at least each."""
    scale = min(within[0] / width, within[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def photo_with_outline(
    photo: Image,
    within: tuple[int, int],
    mask: Mask | None,
    colour: Colour,
    *,
    pixel_ratio: float = 1.0,
) -> Pillow.Image:
    """The photo fitted into `within` (width, height), everything but the mask dimmed, the mask outlined.

    pixel_ratio: how many pixels of the result are one unit of line width.
    """
    outlines = [] if mask is None else [(mask, colour)]
    return photo_with_outlines(photo, within, outlines, pixel_ratio=pixel_ratio)


def photo_with_outlines(
    photo: Image,
    within: tuple[int, int],
    outlines: Sequence[tuple[Mask, Colour]],
    *,
    beside: Sequence[Mask] = (),
    pixel_ratio: float = 1.0,
) -> Pillow.Image:
    """As `photo_with_outline`, for any number of masks of the photo's proportions, each in its colour.

    beside: masks that get a thin white outline below those, and stay as dim as the rest.
    """
    size = fitted_size(photo.width, photo.height, within)
    shown = Pillow.fromarray(photo.pixels).resize(size, Pillow.Resampling.LANCZOS)
    if not outlines:
        return shown
    drawn = [(*_distances(mask, size, pixel_ratio), colour) for mask, colour in outlines]
    bright = np.max([inside for _, inside, _ in drawn], axis=0)
    pixels = np.asarray(shown, dtype=np.float32) * (_DIMMED + (1 - _DIMMED) * bright[..., None])
    lines = [(_distances(mask, size, pixel_ratio)[0], _BESIDE, 0.5) for mask in beside]
    lines += [(distance, colour, 1.5) for distance, _, colour in drawn]
    for distance, colour, width in lines:
        for half_width, ink, strength in ((width + 1.1, _DARK, 0.55), (width, colour, 1.0)):
            line = np.clip(half_width + 0.5 / pixel_ratio - np.abs(distance), 0, 1) * strength
            pixels += (np.array(ink, dtype=np.float32) - pixels) * line[..., None]
    return Pillow.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


def photo_with_prompt(
    photo: Image,
    within: tuple[int, int],
    region: RegionPrompt,
    used: Mask | None,
    *,
    pixel_ratio: float = 1.0,
) -> Pillow.Image:
    """The query picture with what was pointed at: the region used as an outline, and over it the box or
    the points as they were given. A box is its own outline."""
    outline = None if region.box is not None else (region.mask or used)
    shown = photo_with_outline(photo, within, outline, ASKED, pixel_ratio=pixel_ratio)
    scale = (shown.width / photo.width, shown.height / photo.height)
    return with_prompt(shown, region, scale, ASKED, pixel_ratio=pixel_ratio)


def with_prompt(
    shown: Pillow.Image,
    region: RegionPrompt,
    scale: tuple[float, float],
    colour: Colour,
    *,
    pixel_ratio: float = 1.0,
) -> Pillow.Image:
    """The box and the points of a region drawn over a picture; scale: its pixels for each of the region's,
    across and down."""
    if region.box is not None:
        _draw_box(shown, region.box, scale, colour, pixel_ratio)
    for point in region.points:
        shown = _with_point(shown, point, scale, colour, pixel_ratio)
    return shown


def _distances(
    mask: Mask, size: tuple[int, int], pixel_ratio: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(signed distance from the mask's edge in units of line width, how far inside: 0 to 1), both of the
    shown size. The frame counts as an edge, so that an outline closes where the mask leaves the photo."""
    width, height = size
    plane = Pillow.fromarray(np.ascontiguousarray(mask.to_array()).astype(np.uint8) * 255)
    plane = plane.resize(size, Pillow.Resampling.BILINEAR)
    framed = Pillow.new("L", (width + 2 * _MARGIN, height + 2 * _MARGIN))
    framed.paste(plane, (_MARGIN, _MARGIN))
    blurred = framed.filter(ImageFilter.GaussianBlur(_SIGMA * pixel_ratio))
    levels = np.asarray(blurred)[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width]
    return _DISTANCE[levels], np.asarray(plane, dtype=np.float32) / np.float32(255)


def _draw_box(
    shown: Pillow.Image, box: Box, scale: tuple[float, float], colour: Colour, pixel_ratio: float
) -> None:
    draw = ImageDraw.Draw(shown)
    line = max(2, round(3 * pixel_ratio))
    corners = (
        max(0, round(box.x0 * scale[0])),
        max(0, round(box.y0 * scale[1])),
        min(shown.width, round(box.x1 * scale[0])) - 1,
        min(shown.height, round(box.y1 * scale[1])) - 1,
    )
    x0, y0, x1, y1 = corners
    x1, y1 = max(x1, x0 + line), max(y1, y0 + line)
    draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=(10, 14, 20), width=line + 2)
    draw.rectangle((x0, y0, x1, y1), outline=colour, width=line)


def _with_point(
    shown: Pillow.Image, point: Point, scale: tuple[float, float], colour: Colour, pixel_ratio: float
) -> Pillow.Image:
    """A disc at the point, drawn by distance so that its edge is soft; a negative point is white, with a
    wider dark ring and a dark minus in it, to be seen on snow."""
    rows, columns = np.mgrid[0 : shown.height, 0 : shown.width].astype(np.float32)
    right = (columns + 0.5 - point.x * scale[0]) / pixel_ratio
    down = (rows + 0.5 - point.y * scale[1]) / pixel_ratio
    away = np.hypot(right, down)
    pixels = np.asarray(shown, dtype=np.float32)
    white: Colour = (255, 255, 255)
    layers: list[tuple[NDArray[np.float32], Colour]]
    if point.positive:
        layers = [(9.0 - away, _DARK), (8.0 - away, white), (5.5 - away, colour)]
    else:
        minus = np.minimum(4.5 - np.abs(right), 1.5 - np.abs(down))
        layers = [(10.0 - away, _DARK), (7.5 - away, white), (minus, _DARK)]
    for inside, ink in layers:
        cover = np.clip(inside * math.sqrt(pixel_ratio) + 0.5, 0, 1)[..., None]
        pixels = pixels + (np.array(ink, dtype=np.float32) - pixels) * cover
    return Pillow.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))
