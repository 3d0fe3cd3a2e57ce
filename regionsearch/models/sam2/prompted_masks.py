"""What a pointed-at region means: SAM's mask for points, an outline itself, or SAM's mask for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from regionsearch.errors import InvalidRegion
from regionsearch.models.sam2.image_features import SamImageFeatures
from regionsearch.models.sam2.options import MaskOptions
from regionsearch.models.sam2.prompt_decoder import (
    MASK_SIDE,
    PromptDecoder,
    full_size,
    mask_prompt,
    to_square,
)
from regionsearch.regions import Box, Mask, Point, RegionPrompt


def needs_features(region: RegionPrompt, *, refine_boxes: bool) -> bool:
    """Whether SAM has to look at the picture at all: an outline alone mostly means itself."""
    return bool(region.points) or (region.box is not None and refine_boxes)


def outline_of(region: RegionPrompt, height: int, width: int) -> Mask | None:
    """The region's own outline in an image of height × width pixels; None when it is points alone."""
    if region.box is not None:
        return Mask.from_box(region.box, height, width)
    if region.polygon is not None:
        return Mask.from_polygon(region.polygon, height, width)
    return region.mask


def prompted_mask(
    decoder: PromptDecoder, features: SamImageFeatures, region: RegionPrompt, options: MaskOptions
) -> Mask:
    """The mask that SAM makes of a region with points, or of a box, which lies within the image.

    * One point: of SAM's three masks the one with the highest predicted IoU; the next one when that does
      not hold the point. Several: its single mask, and the three after it.
    * A box: its single mask; the box itself where its masks are empty.
    * An outline with points: SAM is told both (a polygon or mask as its low-resolution mask), and
      the answer is clipped to the outline.

    Raises InvalidRegion, naming the point, when no mask holds the positive points and none of the negative.
    A positive point is held by a mask that comes within one of the decoder's 256 × 256 cells of it.
    Masks are not cleaned: what was pointed at may be the small part.
    """
    height, width = features.height, features.width
    outline = outline_of(region, height, width)
    if outline is not None:
        for point in region.points:
            if point.positive and not outline.contains_point(point.x, point.y):
                raise InvalidRegion(f"point {point} lies outside the region's own outline")
    told = _told(region, outline, height, width)
    seen: list[Mask] = []
    for mask in _answers(decoder, features, told, options):
        pixels = mask.to_array()
        if outline is not None and region.points:
            pixels = pixels & outline.to_array()
        if pixels.any() and _unmet(region.points, pixels) is None:
            return Mask.from_array(pixels)
        seen.append(Mask.from_array(pixels))
    if outline is not None and not region.points:
        return outline
    raise _nothing_there(region, seen)


def _told(region: RegionPrompt, outline: Mask | None, height: int, width: int) -> dict[str, torch.Tensor]:
    """The region in the decoder's words."""
    told: dict[str, torch.Tensor] = {}
    if region.points:
        places = [to_square(point.x, point.y, height, width) for point in region.points]
        told["points"] = torch.tensor([places], dtype=torch.float32)
        told["labels"] = torch.tensor([[int(point.positive) for point in region.points]])
    if region.box is not None:
        told["boxes"] = _box_in_square(region.box, height, width)
    elif outline is not None:
        told["masks"] = mask_prompt(outline)
    return told


def _box_in_square(box: Box, height: int, width: int) -> torch.Tensor:
    corners = (*to_square(box.x0, box.y0, height, width), *to_square(box.x1, box.y1, height, width))
    return torch.tensor([corners], dtype=torch.float32)


def _answers(
    decoder: PromptDecoder, features: SamImageFeatures, told: dict[str, torch.Tensor], options: MaskOptions
) -> Iterator[Mask]:
    """SAM's masks for one prompt, in the order in which they are tried."""
    single_point = set(told) == {"points", "labels"} and told["points"].shape[1] == 1
    for multimask in (True,) if single_point else (False, True):
        decoded = decoder.decode(features, **told, multimask=multimask)
        scores = decoded.predicted_iou[0].cpu().numpy()
        for place in np.argsort(-scores, kind="stable"):
            logits = decoded.logits[0, int(place)]
            yield full_size(logits, features.height, features.width, options.mask_threshold)


def _unmet(points: Sequence[Point], pixels: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> Point | None:
    """The first point that a mask does not do justice to."""
    height, width = pixels.shape
    reach_y, reach_x = height / MASK_SIDE, width / MASK_SIDE
    for point in points:
        if point.positive:
            rows = slice(max(0, int(point.y - reach_y)), int(point.y + reach_y) + 1)
            columns = slice(max(0, int(point.x - reach_x)), int(point.x + reach_x) + 1)
            if not pixels[rows, columns].any():
                return point
        elif pixels[int(point.y), int(point.x)]:
            return point
    return None


def _nothing_there(region: RegionPrompt, seen: Sequence[Mask]) -> InvalidRegion:
    """Says which point was left out by every mask, or that there was none at all."""
    positive = [point for point in region.points if point.positive]
    dense = [mask.to_array() for mask in seen]
    for point in positive:
        if all(_unmet([point], pixels) is not None for pixels in dense):
            return InvalidRegion(f"nothing lies at point {point}: no mask holds it")
    named = ", ".join(str(point) for point in positive)
    negative = ", ".join(str(point) for point in region.points if not point.positive)
    if not positive:
        return InvalidRegion(f"nothing of the region is left without what lies at negative {negative}")
    if not negative:
        return InvalidRegion(f"no one thing holds points {named}")
    return InvalidRegion(f"nothing at {named} can be told apart from what lies at negative {negative}")
