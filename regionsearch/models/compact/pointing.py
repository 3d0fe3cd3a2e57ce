"""What a pointed-at region means: the region of the merge tree under some points, or an outline itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import InvalidRegion
from regionsearch.models.compact.merge_tree import Array, MergeTree
from regionsearch.models.compact.proposal_features import Candidates
from regionsearch.models.compact.region_masks import RegionMasks
from regionsearch.regions import Box, Mask, Point, RegionPrompt, box_iou_matrix

WHOLE_FRAME = 0.95
"""Share of the picture from which a region's box counts as the whole frame: nothing of its own."""

SIZE_EXPONENT = 0.3
"""A region that is pointed at counts its score over its size to this power: whoever points at a thing
means the thing at that place rather than the scene around it, which many points would hold alike."""

REGION_BOX_IOU = 0.7
"""Box IoU from which a region of the tree is taken for what a box was drawn around."""
RANK_SHARE = 0.3
"""What a region's score, 0 to 1, counts beside that IoU when several agree."""
PIECES_BOX_IOU = 0.5
"""The same for pieces within the box together, where no single region agrees."""
PIECE_COSTS = (-3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
"""Costs of the flat partitions that are tried."""
MOSTLY_WITHIN = 0.7
"""Share of a piece that has to lie within the box."""


@dataclass(frozen=True, eq=False)
class PointedTree:
    """The regions of a picture that can be pointed at. scores: (c,) float32, 0 to 1.
    pixels: of the working picture."""

    masks: RegionMasks
    tree: MergeTree
    candidates: Candidates
    scores: Array
    pixels: int

    def best(self, points: Sequence[Point], preference: Array | None = None) -> int | None:
        """The candidate of the highest score for its size that holds all positive points and no negative
        one, None if none does.

        preference: (c,) factors of the scores. Of equal ones the smaller region wins.
        """
        boxes = self.candidates.boxes
        box_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        fits = box_areas < WHOLE_FRAME * self.pixels
        for point in points:
            holds = self.candidates.members[:, self.masks.superpixel_at(point.x, point.y)] > 0
            fits &= holds == point.positive
        if not fits.any():
            return None
        scores = self.scores * self.candidates.sizes ** np.float32(-SIZE_EXPONENT)
        if preference is not None:
            scores = scores * preference
        order = np.lexsort((self.candidates.sizes, -scores))
        return int(order[fits[order]][0])

    def within(self, box: Box) -> NDArray[np.bool_] | None:
        """(n,) bool superpixels of what `box`, pixels of the picture, was drawn around; None if nothing fits.

        A region of the tree whose own box agrees with it, of several rather the better ranked one; else
        all pieces that lie mostly within it, of the flat partition whose pieces agree best.
        """
        working = self.masks.working_box(box)
        agreement = box_iou_matrix(self.candidates.boxes, working[None])[:, 0]
        if len(agreement):
            value = agreement + RANK_SHARE * self.scores
            best = int(value.argmax())
            if agreement[best] >= REGION_BOX_IOU:
                return np.asarray(self.candidates.members[best] > 0, dtype=np.bool_)
        best_agreement = PIECES_BOX_IOU
        found: NDArray[np.bool_] | None = None
        inside = self.masks.shares_of_box(working)
        # From fine to coarse: of partitions that agree alike, the coarser one has fewer gaps.
        for cost in PIECE_COSTS:
            pieces = self.tree.members[self.tree.partition(cost)]
            mostly = (pieces @ inside) >= MOSTLY_WITHIN * (pieces @ self.masks.sizes)
            members = np.asarray(pieces[mostly].any(axis=0), dtype=np.bool_)
            if not members.any():
                continue
            reached = self.masks.box_of(members)
            agreed = float(box_iou_matrix(reached[None], working[None])[0, 0])
            if agreed >= best_agreement:
                best_agreement, found = agreed, members
        return found

    def mask(self, candidate: int) -> Mask:
        return self.masks.mask(self.candidates.members[candidate] > 0)


def region_meant(
    region: RegionPrompt,
    height: int,
    width: int,
    pointed_tree: Callable[[], PointedTree],
    refine: bool = False,
) -> Mask:
    """The mask of a region that lies within an image of height × width pixels.

    * A box, mask or polygon alone means itself; with `refine` a box means what it was drawn around
      (`PointedTree.within`), clipped to it, and itself where nothing fits.
    * Points alone mean the region of the tree, best ranked for its size, that holds all positive and no
      negative ones.
    * Points with an outline mean a part of it. Positive ones: the region that they mean, preferably one
      that lies within the outline, clipped to it. Negative ones alone: the outline without the regions
      at them, each the best one that covers at most half of the outline.

    `pointed_tree` is called only if there are points. Raises InvalidRegion, naming the point, when
    nothing of its own lies there, or when it lies outside the outline.
    """
    outline = _outline(region, height, width)
    if outline is not None and not region.points:
        return _refined(region.box, outline, pointed_tree()) if refine and region.box else outline
    tree = pointed_tree()
    if outline is None:
        found = tree.best(region.points)
        if found is None:
            raise _nothing_there(tree, region.points)
        return tree.mask(found)

    positive = [point for point in region.points if point.positive]
    for point in positive:
        if not outline.contains_point(point.x, point.y):
            raise InvalidRegion(f"point {point} lies outside the region's own outline")
    pixels = outline.to_array()
    inside = tree.masks.shares(pixels)
    within = (tree.candidates.members @ inside) / tree.candidates.sizes
    if positive:
        found = tree.best(region.points, within)
        if found is None:
            raise _nothing_there(tree, region.points)
        pixels = pixels & tree.mask(found).to_array()
    else:
        covers = (tree.candidates.members @ inside) / max(float(inside.sum()), 1e-6)
        for point in region.points:
            found = tree.best([Point(point.x, point.y)], (covers <= 0.5).astype(np.float32))
            if found is not None and covers[found] <= 0.5:
                pixels = pixels & ~tree.mask(found).to_array()
    if not pixels.any():
        raise InvalidRegion("the region's points leave nothing of its outline")
    return Mask.from_array(pixels)


def _refined(box: Box, outline: Mask, tree: PointedTree) -> Mask:
    """The region that the box was drawn around, clipped to it, or the box itself."""
    found = tree.within(box)
    if found is None:
        return outline
    pixels = outline.to_array() & tree.masks.mask(found).to_array()
    return Mask.from_array(pixels) if pixels.any() else outline


def _outline(region: RegionPrompt, height: int, width: int) -> Mask | None:
    if region.box is not None:
        return Mask.from_box(region.box, height, width)
    if region.polygon is not None:
        return Mask.from_polygon(region.polygon, height, width)
    return region.mask


def _nothing_there(tree: PointedTree, points: Sequence[Point]) -> InvalidRegion:
    """The first positive point under which there is nothing, or what keeps the points apart."""
    positive = [point for point in points if point.positive]
    for point in positive:
        if tree.best([point]) is None:
            return InvalidRegion(f"nothing of its own lies at point {point}: only the whole frame holds it")
    named = ", ".join(str(point) for point in positive)
    if tree.best(positive) is None:
        return InvalidRegion(
            f"nothing of its own lies at points {named}: only the whole frame holds them all"
        )
    negative = ", ".join(str(point) for point in points if not point.positive)
    return InvalidRegion(f"nothing at {named} can be told apart from what lies at negative {negative}")
