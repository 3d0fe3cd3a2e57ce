"""How the compact segmenter's weights are fitted on annotated photos.

Three parts stand on each other: the probability of lying on a countable thing, the affinity that orders
the merges, the ranking of the tree's nodes. A part that read the earlier ones on photos that they were
fitted on would trust them too much, so the ranking sees each photo through a tree made by parts fitted
without that photo.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from regionsearch.models.compact.merge_tree import (
    LEVEL_NAMES,
    DeepScale,
    PairCost,
    Trace,
    build_merge_tree,
    describe,
    hand_made_cost,
    thing_features,
)
from regionsearch.models.compact.perceptron import Perceptron
from regionsearch.models.compact.proposal_features import Candidates, find_candidates
from regionsearch.models.compact.segmenter_weights import SegmenterWeights
from regionsearch.regions import box_iou_matrix
from regionsearch.training.perceptron_fitting import PerceptronRecipe, fit_perceptron
from regionsearch.training.segmenter_examples import Example

Array = NDArray[np.float32]

THING = PerceptronRecipe((32, 32), epochs=4, learning_rate=2e-3, weight_decay=0.01, dropout=0.4, batch=256)
AFFINITY = PerceptronRecipe(
    (32, 32), epochs=5, learning_rate=2e-3, weight_decay=0.01, dropout=0.0, batch=1024
)
RANKING = PerceptronRecipe((32,), epochs=8, learning_rate=5e-3, weight_decay=0.1, dropout=0.3, batch=256)
RANKERS = 3
"""Rankers from different seeds, averaged: with some 100 photos one alone depends on its seed."""
INNER_FOLDS = 3


def folds(count: int, into: int, seed: int) -> list[NDArray[np.intp]]:
    """`into` disjoint sets of indices that make up 0 to count - 1, drawn by the seed, sorted."""
    order = np.random.default_rng(seed).permutation(count)
    return [np.sort(order[start::into]) for start in range(into)]


def split(examples: Sequence[Example], into: int, seed: int) -> Iterator[tuple[list[Example], list[Example]]]:
    """(kept, held out) for each fold."""
    for held in folds(len(examples), into, seed):
        out = set(held.tolist())
        yield (
            [example for index, example in enumerate(examples) if index not in out],
            [examples[index] for index in held],
        )


def fit_weights(examples: Sequence[Example], seed: int) -> SegmenterWeights:
    """All weights from these examples and no others."""
    scale = fit_scale(examples)
    pools: list[tuple[Example, Candidates]] = []
    for kept, held in split(examples, INNER_FOLDS, seed + 1):
        thing = fit_thing(kept, scale, seed)
        affinity = fit_affinity(kept, scale, thing, seed)
        pools += [(example, _candidates(example, scale, thing, affinity)) for example in held]
    rankers = fit_rankers(pools, seed)
    thing = fit_thing(examples, scale, seed)
    return SegmenterWeights(scale, thing, fit_affinity(examples, scale, thing, seed), rankers)


def fit_scale(examples: Sequence[Example]) -> DeepScale:
    mean, deviation = {}, {}
    for name in LEVEL_NAMES:
        values = np.concatenate([example.superpixels.groups[name] for example in examples])
        mean[name] = values.mean(axis=0)
        deviation[name] = values.std(axis=0) + np.float32(1e-3)
    return DeepScale(mean, deviation)


def fit_thing(examples: Sequence[Example], scale: DeepScale, seed: int) -> Perceptron:
    """From superpixels of which a panoptic annotation says at least a third; larger ones count more."""
    features, targets, weights = [], [], []
    for example in examples:
        if example.segments is None or example.countable is None:
            continue
        labelled = example.segments.sum(axis=1)
        known = labelled > 1 / 3
        deep = describe(example.superpixels, scale, None).deep
        features.append(thing_features(example.superpixels, deep)[known])
        targets.append(example.countable[known] / labelled[known])
        weights.append(np.sqrt(example.superpixels.sizes[known]))
    return fit_perceptron(
        np.concatenate(features), np.concatenate(targets), np.concatenate(weights), THING, seed
    )


def fit_affinity(examples: Sequence[Example], scale: DeepScale, thing: Perceptron, seed: int) -> Perceptron:
    """Two rounds: on the pairs that a hand-made order of merges meets, then on those and the ones that
    the first round's own order meets (Ross et al., DAgger, AISTATS 2011)."""
    annotated = [example for example in examples if example.segments is not None]
    described = [describe(example.superpixels, scale, thing) for example in annotated]
    features, targets, weights = [], [], []
    cost: PairCost = hand_made_cost
    for _ in range(2):
        for example, own in zip(annotated, described, strict=True):
            trace: Trace = []
            tree = build_merge_tree(own, cost, trace)
            same, known = _same_segment(example, tree.members, trace)
            features.append(np.concatenate([pairs for _, _, pairs in trace]))
            targets.append(same)
            weights.append(known)
        affinity = fit_perceptron(
            np.concatenate(features), np.concatenate(targets), np.concatenate(weights), AFFINITY, seed
        )
        cost = affinity.negated()
    return affinity


def _same_segment(example: Example, members: NDArray[np.bool_], trace: Trace) -> tuple[Array, Array]:
    """For every weighed pair: the probability that a labelled pixel of either lies on one segment, and
    how likely two pixels are labelled at all."""
    sizes = example.superpixels.sizes
    assert example.segments is not None
    shares = (members @ (example.segments * sizes[:, None])) / (members @ sizes)[:, None]
    one = np.concatenate([pair[0] for pair in trace])
    other = np.concatenate([pair[1] for pair in trace])
    known = shares[one].sum(axis=1) * shares[other].sum(axis=1)
    same = np.einsum("ij,ij->i", shares[one], shares[other]) / np.maximum(known, 1e-6)
    return np.clip(same, 0, 1).astype(np.float32), (known + 1e-6).astype(np.float32)


def _candidates(example: Example, scale: DeepScale, thing: Perceptron, affinity: Perceptron) -> Candidates:
    described = describe(example.superpixels, scale, thing)
    return find_candidates(described, build_merge_tree(described, affinity.negated()))


def fit_rankers(pools: Sequence[tuple[Example, Candidates]], seed: int) -> tuple[Perceptron, ...]:
    """On the mean of box and mask IoU with the best matching thing; good ones count more, being rare."""
    rows = [(pool.features, best_overlap(example, pool)) for example, pool in pools if len(pool)]
    features = np.concatenate([own for own, _ in rows])
    targets = np.concatenate([target for _, target in rows])
    weights = (targets + np.float32(0.1)).astype(np.float32)
    return tuple(
        fit_perceptron(features, targets, weights, RANKING, seed + number) for number in range(RANKERS)
    )


def best_overlap(example: Example, pool: Candidates) -> Array:
    """(c,) float32: for the thing that each candidate fits best, the mean of box and mask IoU."""
    if len(example.thing_boxes) == 0:
        return np.zeros(len(pool), dtype=np.float32)
    superpixels = example.superpixels
    across, down = superpixels.image_width / superpixels.width, superpixels.image_height / superpixels.height
    boxes = pool.boxes * np.array([across, down, across, down], dtype=np.float32)
    box_iou = box_iou_matrix(boxes, example.thing_boxes)
    shared = pool.members @ example.thing_pixels.T
    mask_iou = shared / (pool.sizes[:, None] + example.thing_pixels.sum(axis=1) - shared)
    outlined = np.array([outline is not None for outline in example.outlines])
    both = (box_iou + np.where(outlined, mask_iou, box_iou)) / 2
    return np.asarray(both.max(axis=1), dtype=np.float32)
