"""Candidates for things among the nodes of a merge tree, and what tells a thing from a stray patch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.models.compact.merge_tree import (
    LEVEL_NAMES,
    NEVER_SWALLOWED,
    DescribedSuperpixels,
    MergeTree,
)
from regionsearch.models.compact.perceptron import sigmoid

Array = NDArray[np.float32]

MIN_BOX_AREA = 0.015
"""Share of the picture below which a box is no candidate for an entity of its own."""
MIN_AREA = 0.003
PIECE_COST = -1.0
"""Cost of a merge (minus the logit of belonging together) up to which it is within one piece of the
picture's flat partition."""
NEAR_COPY = 0.95
"""Of a node and an ancestor that differ by less (mask IoU above this), only the larger is kept."""

CONTRAST_GROUPS = ("lab", "colour", "texture", *LEVEL_NAMES)


@dataclass(frozen=True, eq=False)
class Candidates:
    """c nodes of the tree, larger ones later, as far as they could be things.

    nodes: (c,) int32. members: (c, n) float32, 0 or 1. sizes: (c,) float32, working pixels.
    boxes: (c, 4) float32, working pixels, half open. features: (c, f) float32, see `candidate_features`.
    swallowed: (c,) float32, the dearest merge up to the one that swallowed the node.
    pieces: (c,) bool, the parts of one flat partition: the largest nodes without a merge above PIECE_COST.
    """

    nodes: NDArray[np.int32]
    members: Array
    sizes: Array
    boxes: Array
    features: Array
    swallowed: Array
    pieces: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.nodes)


def find_candidates(
    described: DescribedSuperpixels,
    tree: MergeTree,
    min_box_area: float = MIN_BOX_AREA,
    min_area: float = MIN_AREA,
) -> Candidates:
    """The nodes that are large enough, without near copies; possibly none."""
    superpixels = described.superpixels
    total = superpixels.labels.size
    boxes = _node_boxes(superpixels.boxes, tree)
    sizes = tree.members @ superpixels.sizes
    box_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    enough = (box_areas >= min_box_area * total) & (sizes >= min_area * total)
    original = _originals(tree, sizes)
    nodes = np.flatnonzero(enough & (original == np.arange(len(tree)))).astype(np.int32)
    members = tree.members[nodes].astype(np.float32)
    features = candidate_features(described, tree, nodes, members, sizes, boxes)

    pieces = np.isin(nodes, original[tree.partition(PIECE_COST)])
    swallowed = tree.swallowed[nodes]
    return Candidates(nodes, members, sizes[nodes], boxes[nodes], features, swallowed, pieces)


def _node_boxes(leaf_boxes: Array, tree: MergeTree) -> Array:
    boxes = np.empty((len(tree), 4), dtype=np.float32)
    boxes[: tree.leaves] = leaf_boxes
    # Signs turned, the maximum is the union for all four sides.
    boxes[: tree.leaves, :2] *= -1
    for node, (one, other) in enumerate(tree.children.tolist(), start=tree.leaves):
        np.maximum(boxes[one], boxes[other], out=boxes[node])
    boxes[:, :2] *= -1
    return boxes


def _originals(tree: MergeTree, sizes: Array) -> NDArray[np.intp]:
    """(nodes,) the largest ancestor that is nearly the same region; of most nodes, they themselves."""
    kept_above = list(range(len(tree)))
    areas = sizes.tolist()
    parents = tree.parents.tolist()
    for node in range(len(tree) - 2, -1, -1):
        ancestor = kept_above[parents[node]]
        if areas[node] > NEAR_COPY * areas[ancestor]:
            kept_above[node] = ancestor
    return np.asarray(kept_above, dtype=np.intp)


def candidate_features(
    described: DescribedSuperpixels,
    tree: MergeTree,
    nodes: NDArray[np.int32],
    members: Array,
    all_sizes: Array,
    all_boxes: Array,
) -> Array:
    """(c, f) float32: shape and place, edges, the tree around the node, contrasts, thing probability."""
    sizes, boxes = all_sizes[nodes], all_boxes[nodes]
    columns = [
        *_shape(described, members, sizes, boxes),
        *_edges(described, tree, members),
        *_ancestry(tree, nodes, all_sizes, all_boxes),
        *_contrasts(described, members, sizes),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _shape(described: DescribedSuperpixels, members: Array, sizes: Array, boxes: Array) -> list[Array]:
    superpixels = described.superpixels
    height, width = superpixels.height, superpixels.width
    total = height * width
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, box_area = sizes / total, wide * high / total
    touching = (members @ superpixels.border) / np.array([height, width, height, width], dtype=np.float32)
    perimeter = members @ (superpixels.shared.sum(axis=1) + superpixels.border.sum(axis=1))
    perimeter -= np.einsum("ij,ij->i", members @ superpixels.shared, members)
    x = (boxes[:, 0] + boxes[:, 2]) / 2 / width
    y = (boxes[:, 1] + boxes[:, 3]) / 2 / height
    sums = members @ superpixels.moments / sizes[:, None]
    spread_x = np.maximum(sums[:, 2] - sums[:, 0] ** 2, 1e-6)
    spread_y = np.maximum(sums[:, 3] - sums[:, 1] ** 2, 1e-6)
    together = sums[:, 4] - sums[:, 0] * sums[:, 1]
    longest = max(height, width)
    sides = [
        boxes[:, 0] <= 1,
        boxes[:, 1] <= 1,
        boxes[:, 2] >= width - 1,
        boxes[:, 3] >= height - 1,
    ]
    return [
        np.log(area),
        np.log(box_area),
        np.sqrt(box_area),
        box_area,
        np.log(wide / high),
        np.abs(np.log(wide / high)),
        wide / width,
        high / height,
        area / box_area,
        *touching.T,
        touching.sum(axis=1),
        *(side.astype(np.float32) for side in sides),
        np.sum(sides, axis=0).astype(np.float32),
        np.log(np.square(perimeter) / sizes),
        perimeter / (wide + high),
        x,
        y,
        np.abs(x - 0.5),
        np.abs(y - 0.5),
        np.hypot(x - 0.5, y - 0.5),
        sums[:, 1] * longest / height,
        np.hypot(sums[:, 0] * longest / width - x, sums[:, 1] * longest / height - y),
        # How much of its box a filled ellipse of the same second moments would be: low for sprawling shapes.
        np.log(area * total / longest**2 / np.sqrt(np.maximum(spread_x * spread_y - together**2, 1e-9))),
    ]


def _edges(described: DescribedSuperpixels, tree: MergeTree, members: Array) -> list[Array]:
    """Mean Lab step and mean leaf cost along the outline, and along the seams inside."""
    superpixels = described.superpixels
    shared = superpixels.shared
    apart = sigmoid(tree.leaf_costs)
    columns = []
    outline_length = None
    for weights in (superpixels.contrast, shared * apart, shared * tree.leaf_costs):
        reached = members @ weights
        inside = np.einsum("ij,ij->i", reached, members)
        outside = reached.sum(axis=1) - inside
        if outline_length is None:
            along = members @ shared
            seam_length = np.einsum("ij,ij->i", along, members)
            outline_length = np.maximum(along.sum(axis=1) - seam_length, 1.0)
            seam_length = np.maximum(seam_length, 1.0)
        out, within = outside / outline_length, inside / seam_length
        columns += [out, within, out - within]
    # The weakest stretch: the lowest leaf cost anywhere along the outline.
    crossing = (members @ (shared * (apart < 0.3))) * (1 - members)
    columns.append(crossing.sum(axis=1) / outline_length)
    return columns


def _ancestry(tree: MergeTree, nodes: NDArray[np.int32], all_sizes: Array, all_boxes: Array) -> list[Array]:
    """When the node came to be, when it was swallowed, and how it differs from what swallowed it."""
    total = all_sizes[-1]
    made = np.concatenate([np.full(tree.leaves, tree.costs.min(initial=0.0)), tree.costs])
    peak = tree.peaks
    parents = tree.parents[nodes]
    grandparents = tree.parents[parents]
    box_areas = (all_boxes[:, 2] - all_boxes[:, 0]) * (all_boxes[:, 3] - all_boxes[:, 1])
    larger = np.zeros(len(tree), dtype=np.float32)
    if tree.leaves > 1:
        inner = np.arange(tree.leaves, len(tree))
        larger[inner] = all_sizes[tree.children].max(axis=1) / all_sizes[inner]
    order = np.argsort(np.argsort(made, kind="stable"), kind="stable") / len(tree)
    swallowed = np.where(nodes == len(tree) - 1, NEVER_SWALLOWED, made[parents])
    swallowed_peak = tree.swallowed[nodes]
    columns = [
        made[nodes],
        swallowed,
        swallowed - made[nodes],
        peak[nodes],
        swallowed_peak - peak[nodes],
        order[nodes],
        order[parents] - order[nodes],
        all_sizes[nodes] / all_sizes[parents],
        all_sizes[nodes] / all_sizes[grandparents],
        box_areas[nodes] / box_areas[parents],
        larger[nodes],
        np.log((all_sizes[parents] - all_sizes[nodes]) / total + 1e-3),
        np.where(nodes == len(tree) - 1, NEVER_SWALLOWED, made[grandparents]),
    ]
    return [np.asarray(column, dtype=np.float32) for column in columns]


def _contrasts(described: DescribedSuperpixels, members: Array, sizes: Array) -> list[Array]:
    """Distances of the region's means to those of its ring, of the rest and of the frame's edge."""
    superpixels = described.superpixels
    weighted = members * superpixels.sizes
    region = weighted / sizes[:, None]
    ring = (members @ superpixels.shared) * (1 - members)
    ring /= np.maximum(ring.sum(axis=1, keepdims=True), 1e-6)
    rest = (1 - members) * superpixels.sizes
    rest /= np.maximum(rest.sum(axis=1, keepdims=True), 1e-6)
    edge = superpixels.border.sum(axis=1)
    edge /= edge.sum()

    columns: list[NDArray[np.floating]] = []
    for name in CONTRAST_GROUPS:
        values = described.deep[name] if name in described.deep else superpixels.groups[name]
        mean = region @ values
        # A region without a ring or rest (the whole frame) has no contrast, not a large one.
        for other in (ring, rest):
            apart = np.linalg.norm(mean - other @ values, axis=1)
            columns.append(apart * (other.sum(axis=1) > 0.5))
        columns.append(np.linalg.norm(mean - edge @ values, axis=1))
        squares = superpixels.squares.sum(axis=1) if name == "lab" else np.square(values).sum(axis=1)
        columns.append(np.sqrt(np.maximum(region @ squares - np.square(mean).sum(axis=1), 0)))
    thing = described.thing
    mean_thing = region @ thing
    ring_thing, rest_thing = ring @ thing, rest @ thing
    columns += [
        mean_thing,
        ring_thing,
        mean_thing - ring_thing,
        mean_thing - rest_thing,
        np.sqrt(np.maximum(region @ np.square(thing) - np.square(mean_thing), 0)),
        weighted @ thing / np.maximum(superpixels.sizes @ thing, 1e-6),
        region @ (thing > 0.5).astype(np.float32),
    ]
    return [np.asarray(column, dtype=np.float32) for column in columns]
