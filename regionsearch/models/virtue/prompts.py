"""A region in the words of SAM's prompt encoder: what VIRTUE takes, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from regionsearch.errors import NotAccepted
from regionsearch.regions import Box, Mask, Polygon, RegionPrompt

FRAME = 1024
"""Pixels along each side of the picture that SAM sees: squashed, the aspect is not kept."""
PromptKind = Literal["grid", "point", "box", "mask"]


@dataclass(frozen=True, eq=False)
class SamPrompt:
    """One prompt. Only prompts of one kind share a batch: kinds differ in how many tokens they are.

    coordinates: in SAM's frame, 0 to 1024 on each axis: none for the grid (nothing is pointed at), x and
    y of a point, x0, y0, x1, y1 of a box; a mask has its box, and itself in pixels of its image.
    """

    kind: PromptKind
    coordinates: tuple[float, ...] = ()
    mask: Mask | None = None


GRID = SamPrompt("grid")
"""Nothing is pointed at: VIRTUE then asks SAM for a grid of points over the whole picture."""


def sam_prompt(region: RegionPrompt, height: int, width: int, *, boxes_unscaled: bool = False) -> SamPrompt:
    """The prompt that a region of an image of height × width pixels is.

    boxes_unscaled: hand the box over in pixels of the image, as the published tables did, although SAM
    reads it in its own frame.
    A mask or polygon goes in as its box and as SAM's dense prompt. VIRTUE was not trained on those.
    Raises NotAccepted for a second point, a negative one, or points beside an outline: the model reads
    one point or one box, and leaving the rest out would answer another question. Raises InvalidRegion
    when a polygon covers no pixel.
    """
    outline = region.box or region.mask or region.polygon
    if outline is None:
        if len(region.points) > 1:
            raise NotAccepted(
                f"virtue reads one point, and {len(region.points)} are given; draw a box instead",
                field="region",
            )
        point = region.points[0]
        return SamPrompt("point", (point.x / width * FRAME, point.y / height * FRAME))
    if region.points:
        raise NotAccepted(
            f"virtue reads one point or one outline, not {len(region.points)} points beside an outline",
            field="region",
        )
    if isinstance(outline, Box):
        coordinates = outline.as_tuple() if boxes_unscaled else _scaled(outline, height, width)
        return SamPrompt("box", coordinates)
    mask = Mask.from_polygon(outline, height, width) if isinstance(outline, Polygon) else outline
    return SamPrompt("mask", _scaled(mask.box(), height, width), mask)


def _scaled(box: Box, height: int, width: int) -> tuple[float, float, float, float]:
    across, down = FRAME / width, FRAME / height
    return (box.x0 * across, box.y0 * down, box.x1 * across, box.y1 * down)
