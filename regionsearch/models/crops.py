"""Regions for models that know none: a region is the picture around it."""

from __future__ import annotations

import math

from regionsearch.errors import NotAccepted
from regionsearch.images import Image
from regionsearch.regions import Box, Mask, RegionPrompt, validate_within

DEFAULT_CONTEXT = 0.25
"""Margin on each side of a box, as a share of the box's side there: the crop has 1.5 times its sides.
Chosen, not measured: enough to show what a thing lies on or in, while it still fills most of the crop
(4/9 of its area)."""
MAX_CONTEXT = 10.0
"""Largest setting: a margin of ten sides is the whole image for most things."""
MAX_ELONGATION = 20.0
"""Longer over shorter side of a crop. A line one pixel thin is shown with what is beside it: networks
that keep the aspect ratio refuse much thinner pictures, and those that do not would see only smear."""


def crop_with_context(image: Image, box: Box, context: float) -> Image:
    """The part of a picture around a box: see `context_extent`."""
    x0, y0, x1, y1 = context_extent(image.height, image.width, box, context)
    return Image(image.pixels[y0:y1, x0:x1])


def context_extent(height: int, width: int, box: Box, context: float) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1), pixels, half open: what is shown of a box in an image of height × width pixels.

    context: margin added on each side, a share of the box's width left and right and of its height above
    and below; 0 is the box itself. The extent ends at whole pixels, rounded outwards, and at the border
    of the image, nothing is padded; it is made thicker up to MAX_ELONGATION, as far as the image goes.
    Raises InvalidRegion if the box lies outside the image.
    """
    box = box.clip(height, width)
    across, down = (box.x1 - box.x0) * context, (box.y1 - box.y0) * context
    x0, x1 = max(0.0, box.x0 - across), min(float(width), box.x1 + across)
    y0, y1 = max(0.0, box.y0 - down), min(float(height), box.y1 + down)
    least = max(x1 - x0, y1 - y0) / MAX_ELONGATION
    x0, x1 = _at_least(least, x0, x1, width)
    y0, y1 = _at_least(least, y0, y1, height)
    return math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)


def _at_least(length: float, start: float, end: float, limit: int) -> tuple[float, float]:
    """The interval, grown to a length around its middle, moved to stay within [0, limit]."""
    if end - start >= length:
        return start, end
    start = min(max(0.0, (start + end - length) / 2), max(0.0, limit - length))
    return start, min(float(limit), start + length)


def box_of_region(image: Image, mask: Mask | None, prompt: RegionPrompt | None, model: str) -> Box | None:
    """The box of a region of an image, by its mask where there is one; None without a region.

    model: what errors call the model that reads regions so.
    Raises NotAccepted for points alone, which only a segmenter can turn into an outline; InvalidRegion
    for a region that does not fit the image.
    """
    if mask is not None:
        prompt = RegionPrompt(mask=mask)
    if prompt is None:
        return None
    prompt = validate_within(prompt, image.height, image.width)
    if prompt.mask is not None:
        return prompt.mask.box()
    if prompt.box is not None:
        return prompt.box
    if prompt.polygon is not None:
        return Mask.from_polygon(prompt.polygon, image.height, image.width).box()
    raise NotAccepted(f"{model} reads regions as boxes or masks, not as points", field="region")
