"""The tree of merges: nested, complete, and true to the regions that it merges."""

from __future__ import annotations

import numpy as np
import pytest
from test_superpixels import levels_for, patchwork

from regionsearch.images import Image
from regionsearch.models.compact.merge_tree import (
    DISTANCES,
    LEVEL_NAMES,
    DeepScale,
    DescribedSuperpixels,
    MergeTree,
    Trace,
    build_merge_tree,
    describe,
    hand_made_cost,
)
from regionsearch.models.compact.superpixels import Superpixels, cut_superpixels


@pytest.fixture(scope="module")
def described() -> DescribedSuperpixels:
    cut = cut_superpixels(patchwork(), levels_for(256, 320))
    scale = DeepScale(
        {name: cut.groups[name].mean(axis=0) for name in LEVEL_NAMES},
        {name: cut.groups[name].std(axis=0) + 1e-3 for name in LEVEL_NAMES},
    )
    return describe(cut, scale, None)


@pytest.fixture(scope="module")
def grown(described: DescribedSuperpixels) -> tuple[MergeTree, Trace]:
    trace: Trace = []
    return build_merge_tree(described, hand_made_cost, trace), trace


def test_every_inner_node_is_the_union_of_two_disjoint_neighbours(
    described: DescribedSuperpixels, grown: tuple[MergeTree, Trace]
) -> None:
    tree, _ = grown
    shared = described.superpixels.shared
    for node, (one, other) in enumerate(tree.children, start=tree.leaves):
        assert not (tree.members[one] & tree.members[other]).any()
        assert (tree.members[node] == (tree.members[one] | tree.members[other])).all()
        assert shared[tree.members[one]][:, tree.members[other]].sum() > 0
        assert tree.parents[one] == tree.parents[other] == node
    assert tree.members[-1].all()


def test_features_of_a_merged_pair_are_those_of_its_pixels(
    described: DescribedSuperpixels, grown: tuple[MergeTree, Trace]
) -> None:
    """What the recurrences keep up to date must equal what the members say from scratch."""
    tree, trace = grown
    cut = described.superpixels
    for one, other, features in trace[:: max(1, len(trace) // 25)]:
        a, b = tree.members[one[0]], tree.members[other[0]]

        def mean(values: np.ndarray, which: np.ndarray) -> np.ndarray:
            return np.average(values[which], axis=0, weights=cut.sizes[which])

        lab = np.linalg.norm(mean(cut.groups["lab"], a) - mean(cut.groups["lab"], b)) / 100
        deep = np.linalg.norm(mean(described.deep["level10"], a) - mean(described.deep["level10"], b))
        length = cut.shared[a][:, b].sum()
        assert features[0, DISTANCES.index("lab")] == pytest.approx(lab, abs=2e-3)
        assert features[0, DISTANCES.index("level10")] == pytest.approx(deep, abs=2e-3)
        assert features[0, len(DISTANCES)] == pytest.approx(cut.contrast[a][:, b].sum() / length, rel=1e-3)
        perimeters = [_perimeter(cut, which) for which in (a, b)]
        assert features[0, len(DISTANCES) + 1] == pytest.approx(length / min(perimeters), rel=1e-3)


@pytest.mark.parametrize("cost", [-9.0, -0.5, 0.5, 1.0, 2.0, 9.0])
def test_a_partition_holds_every_superpixel_once_and_no_dearer_merge(
    grown: tuple[MergeTree, Trace], cost: float
) -> None:
    tree, _ = grown

    def dearest(node: int) -> float:
        if node < tree.leaves:
            return -np.inf
        one, other = tree.children[node - tree.leaves]
        return max(float(tree.costs[node - tree.leaves]), dearest(int(one)), dearest(int(other)))

    nodes = tree.partition(cost).tolist()
    assert (tree.members[nodes].sum(axis=0) == 1).all()
    for node in nodes:
        assert dearest(node) <= cost
        assert node == len(tree) - 1 or dearest(int(tree.parents[node])) > cost


def test_with_one_superpixel_the_frame_is_the_only_node() -> None:
    image = Image(np.full((20, 20, 3), 128, dtype=np.uint8))
    cut = cut_superpixels(image, levels_for(256, 256))
    scale = DeepScale(
        {name: cut.groups[name].mean(axis=0) for name in LEVEL_NAMES},
        {name: np.ones(cut.groups[name].shape[1], np.float32) for name in LEVEL_NAMES},
    )
    tree = build_merge_tree(describe(cut, scale, None), hand_made_cost)
    assert len(tree) == tree.leaves == 1


def _perimeter(cut: Superpixels, members: np.ndarray) -> float:
    return float(cut.shared[members][:, ~members].sum() + cut.border[members].sum())
