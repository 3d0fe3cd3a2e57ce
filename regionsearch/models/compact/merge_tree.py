"""Superpixels merged pair by pair into one region: a tree whose nodes are the candidates for things.

Greedy agglomeration as in selective search (Uijlings et al., IJCV 2013), but the order of the merges
follows a learned affinity, the probability that two neighbours belong to one segment, as in
Arbeláez et al. (MCG, CVPR 2014) and Ren and Shakhnarovich (ISCRA, NIPS 2013).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from regionsearch.models.compact.perceptron import Perceptron, sigmoid
from regionsearch.models.compact.superpixels import LEVELS, Superpixels

Array = NDArray[np.float32]
PairCost = Callable[[Array], Array]
"""(k, PAIR_FEATURES) features of k pairs of regions → (k,) costs; the cheapest pair merges first."""

LEVEL_NAMES = tuple(f"level{block}" for block in LEVELS)
THING_LEVELS = ("level4", "level10", "level15")
DISTANCES = ("lab", "lightness", "colour", "texture", *LEVEL_NAMES, "thing")
PAIR_FEATURES = len(DISTANCES) + 9

NEVER_SWALLOWED = 10.0
"""Stands for the cost at which the whole frame would be swallowed."""


@dataclass(frozen=True, eq=False)
class DeepScale:
    """Mean and deviation of each channel of the network's levels over superpixels: name → (c,)."""

    mean: Mapping[str, Array]
    deviation: Mapping[str, Array]

    def __call__(self, superpixels: Superpixels, name: str) -> Array:
        """(n, c) standardised and divided by the root of c: distances of all levels are alike in size."""
        centred = (superpixels.groups[name] - self.mean[name]) / self.deviation[name]
        return np.asarray(centred / np.sqrt(np.float32(centred.shape[1])), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class DescribedSuperpixels:
    """Superpixels with what the fitted parts say of each.

    deep: level name → (n, c) float32, standardised. thing: (n,) float32, probability of lying on a
    countable thing rather than on a stretch of background.
    """

    superpixels: Superpixels
    deep: Mapping[str, Array]
    thing: Array


@dataclass(frozen=True, eq=False)
class MergeTree:
    """2n - 1 nodes over n superpixels: nodes 0 to n-1 are the leaves, the last one is the whole frame.

    children: (n-1, 2) int32, of the inner nodes in order. costs: (n-1,) float32, at which they merged.
    parents: (2n-1,) int32, the root's own is itself. members: (2n-1, n) bool.
    leaf_costs: (n, n) float32, symmetric, of the pairs of neighbouring superpixels; 0 elsewhere.
    """

    children: NDArray[np.int32]
    costs: Array
    leaf_costs: Array
    parents: NDArray[np.int32]
    members: NDArray[np.bool_]

    @property
    def leaves(self) -> int:
        return int(self.members.shape[1])

    def __len__(self) -> int:
        return len(self.parents)

    @cached_property
    def peaks(self) -> Array:
        """(2n-1,) float32: the dearest merge within each node; of a leaf, the cheapest of all merges.

        A learned cost may fall from one merge to the next; its peak never does, going up the tree, so
        that the largest nodes whose peak is within a bound cut the picture into one flat partition.
        """
        lowest = self.costs.min(initial=0.0)
        peaks = np.concatenate([np.full(self.leaves, lowest), self.costs]).astype(np.float32)
        for node, (one, other) in enumerate(self.children.tolist(), start=self.leaves):
            peaks[node] = max(peaks[node], peaks[one], peaks[other])
        return peaks

    @cached_property
    def swallowed(self) -> Array:
        """(2n-1,) float32: the dearest merge up to the one that swallowed each node; of the root, which
        none did, NEVER_SWALLOWED."""
        swallowed = self.peaks[self.parents]
        swallowed[-1] = NEVER_SWALLOWED
        return swallowed

    def partition(self, cost: float) -> NDArray[np.intp]:
        """The largest nodes without a merge above `cost`, lower ones first: each leaf lies in one."""
        within = (self.peaks <= cost) | (np.arange(len(self)) < self.leaves)
        return np.flatnonzero(within & (self.swallowed > cost))


def thing_features(superpixels: Superpixels, deep: Mapping[str, Array]) -> Array:
    """What the probability of a thing is read from, (n, f) float32."""
    longest = max(superpixels.height, superpixels.width)
    sizes = superpixels.sizes[:, None]
    frame = np.array([superpixels.width, superpixels.height], dtype=np.float32)
    centre = superpixels.moments[:, :2] / sizes * longest / frame
    share = np.log(sizes / superpixels.labels.size)
    parts: list[Array] = [superpixels.groups["lab"], *(deep[name] for name in THING_LEVELS), centre, share]
    return np.concatenate(parts, axis=1).astype(np.float32)


def describe(superpixels: Superpixels, scale: DeepScale, thing: Perceptron | None) -> DescribedSuperpixels:
    """`thing` None (before it is fitted) counts every superpixel as even."""
    deep = {name: scale(superpixels, name) for name in LEVEL_NAMES}
    if thing is None:
        probability = np.full(len(superpixels), 0.5, dtype=np.float32)
    else:
        probability = sigmoid(thing(thing_features(superpixels, deep)))
    return DescribedSuperpixels(superpixels, deep, probability)


class _Regions:
    """The regions that are still apart, one a slot; what a pair's features are computed from."""

    def __init__(self, described: DescribedSuperpixels) -> None:
        superpixels = described.superpixels
        self.total = np.float32(superpixels.labels.size)
        self.sizes = superpixels.sizes.copy()
        self.boxes = superpixels.boxes.copy()
        self.shared = superpixels.shared.copy()
        self.contrast = superpixels.contrast.copy()
        self.perimeters = self.shared.sum(axis=1) + superpixels.border.sum(axis=1)
        self.thing = described.thing.copy()
        vectors = [
            superpixels.groups["lab"] / np.float32(100.0),
            superpixels.groups["lab"][:, :1] / np.float32(100.0),
            superpixels.groups["colour"],
            superpixels.groups["texture"],
            *(described.deep[name] for name in LEVEL_NAMES),
            described.thing[:, None],
        ]
        # (n, n, distances): squared distances between the means of every two regions.
        self.distances = np.stack([_squared_distances(v) for v in vectors], axis=-1)

    def neighbours(self, slot: int) -> NDArray[np.intp]:
        return np.flatnonzero(self.shared[slot])

    def pair_features(self, one: NDArray[np.intp] | int, other: NDArray[np.intp]) -> Array:
        """(k, PAIR_FEATURES) of `one` (a slot, or k of them) with each of the k slots `other`."""
        features = np.empty((len(other), PAIR_FEATURES), dtype=np.float32)
        apart = len(DISTANCES)
        features[:, :apart] = np.sqrt(self.distances[one, other])
        length = self.shared[one, other]
        features[:, apart] = self.contrast[one, other] / length
        perimeter, perimeters = self.perimeters[one], self.perimeters[other]
        features[:, apart + 1] = length / np.minimum(perimeter, perimeters)
        features[:, apart + 2] = length / np.maximum(perimeter, perimeters)
        size, sizes = self.sizes[one], self.sizes[other]
        features[:, apart + 3] = np.log(np.minimum(size, sizes) / self.total)
        features[:, apart + 4] = np.log(np.maximum(size, sizes) / self.total)
        box, boxes = self.boxes[one], self.boxes[other]
        low = np.minimum(box[..., :2], boxes[:, :2])
        span = np.maximum(box[..., 2:], boxes[:, 2:]) - low
        joint_box = span[:, 0] * span[:, 1]
        features[:, apart + 5] = (size + sizes) / joint_box
        features[:, apart + 6] = (joint_box - size - sizes) / self.total
        thing, things = self.thing[one], self.thing[other]
        features[:, apart + 7] = np.minimum(thing, things)
        features[:, apart + 8] = np.maximum(thing, things)
        return features

    def merge(self, kept: int, gone: int) -> None:
        """The region of slot `gone` joins that of `kept`."""
        size, other = self.sizes[kept], self.sizes[gone]
        share = size / (size + other)
        rest = np.float32(1.0) - share
        # Lance and Williams (1967): distances of a merged mean follow from those of its parts.
        row = share * self.distances[kept] + rest * self.distances[gone]
        row -= share * rest * self.distances[kept, gone]
        np.maximum(row, 0, out=row)
        self.distances[kept] = row
        self.distances[:, kept] = row
        self.perimeters[kept] += self.perimeters[gone] - 2 * self.shared[kept, gone]
        for matrix in (self.shared, self.contrast):
            row = matrix[kept] + matrix[gone]
            row[kept] = row[gone] = 0
            matrix[kept] = row
            matrix[:, kept] = row
            matrix[gone] = 0
            matrix[:, gone] = 0
        self.sizes[kept] = size + other
        self.thing[kept] = share * self.thing[kept] + rest * self.thing[gone]
        box, other_box = self.boxes[kept], self.boxes[gone]
        np.minimum(box[:2], other_box[:2], out=box[:2])
        np.maximum(box[2:], other_box[2:], out=box[2:])


Trace = list[tuple[NDArray[np.intp], NDArray[np.intp], Array]]
"""Every pair that was weighed: nodes of the tree, and the features between them."""


def build_merge_tree(
    described: DescribedSuperpixels, cost: PairCost, trace: Trace | None = None
) -> MergeTree:
    """Merges the cheapest neighbours until one region is left. Ties go to the lower slots.

    `trace`, when given, collects what was weighed, for fitting the cost.
    """
    count = len(described.superpixels)
    regions = _Regions(described)
    one, other = np.nonzero(np.triu(regions.shared))
    features = regions.pair_features(one, other)
    if trace is not None:
        trace.append((one, other, features))
    prices = cost(features)
    leaf_costs = np.zeros((count, count), dtype=np.float32)
    leaf_costs[one, other] = leaf_costs[other, one] = prices
    heap = [(c, i, j, 0) for c, i, j in zip(prices.tolist(), one.tolist(), other.tolist(), strict=True)]
    heapq.heapify(heap)

    node_of = np.arange(count)
    # A slot's step is when it last merged; an entry of the heap is out of date if older than its slots.
    last_step = [0] * count
    children = np.empty((count - 1, 2), dtype=np.int32)
    costs = np.empty(count - 1, dtype=np.float32)
    merged = 0
    while merged < count - 1:
        price, kept, gone, step = heapq.heappop(heap)
        if last_step[kept] > step or last_step[gone] > step:
            continue
        regions.merge(kept, gone)
        children[merged] = node_of[kept], node_of[gone]
        costs[merged] = price
        node_of[kept] = count + merged
        merged += 1
        last_step[kept], last_step[gone] = merged, count
        nearby = regions.neighbours(kept)
        if len(nearby) == 0:
            continue
        features = regions.pair_features(kept, nearby)
        if trace is not None:
            trace.append((np.full(len(nearby), node_of[kept]), node_of[nearby], features))
        for c, slot in zip(cost(features).tolist(), nearby.tolist(), strict=True):
            heapq.heappush(heap, (c, kept, slot, merged) if kept < slot else (c, slot, kept, merged))
    return _tree(children, costs, leaf_costs)


def hand_made_cost(pairs: Array) -> Array:
    """Unlike regions and large regions merge late, sprawling ones too: where fitting a cost begins."""
    by_name = {name: pairs[:, column] for column, name in enumerate(DISTANCES)}
    deep = sum((by_name[name] for name in LEVEL_NAMES), start=np.zeros(len(pairs), dtype=np.float32))
    apart = 2 * by_name["lab"] + by_name["colour"] + by_name["texture"] + deep / 2
    log_sizes = pairs[:, len(DISTANCES) + 3] + pairs[:, len(DISTANCES) + 4]
    empty = pairs[:, len(DISTANCES) + 6]
    return np.asarray(apart + np.float32(0.15) * log_sizes + empty, dtype=np.float32)


def _tree(children: NDArray[np.int32], costs: Array, leaf_costs: Array) -> MergeTree:
    count = len(leaf_costs)
    nodes = 2 * count - 1
    parents = np.full(nodes, nodes - 1, dtype=np.int32)
    members = np.zeros((nodes, count), dtype=bool)
    members[np.arange(count), np.arange(count)] = True
    for step, (one, other) in enumerate(children.tolist()):
        node = count + step
        parents[one] = parents[other] = node
        np.logical_or(members[one], members[other], out=members[node])
    return MergeTree(children, costs, leaf_costs, parents, members)


def _squared_distances(vectors: Array) -> Array:
    norms = np.einsum("ij,ij->i", vectors, vectors)
    squares = norms[:, None] + norms[None, :] - 2 * (vectors @ vectors.T)
    return np.asarray(np.maximum(squares, 0), dtype=np.float32)
