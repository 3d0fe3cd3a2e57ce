"""The weights of joint scoring, fitted on how well they rank annotated photos.

A grid of round numbers is tried and the middle of its plateau taken, not its peak: between sets of photos the
peak wanders, the plateau stays.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from regionsearch.evaluation.fitting_signals import FITTED_PARTS, AskedSignals
from regionsearch.search.calibration import QueryKind

GRID: Mapping[str, tuple[float, ...]] = {
    "entity": (1.0,),
    "global": (0.0, 0.125, 0.25, 0.375, 0.5, 0.75),
    "text_entity": (0.75, 1.0, 1.25, 1.5, 2.0, 2.5),
    "text_image": (0.25, 0.375, 0.5, 0.75, 1.0, 1.5),
}
"""Only ratios rank, so `entity` is the unit."""
PLATEAU = 0.004
"""Mean average precision below the best of the grid that still counts as the same: a tenth of the width of
its interval on a hundred photos."""

Sets = Sequence[Sequence[AskedSignals]]


def mean_average_precision(asked: Sequence[AskedSignals], weights: NDArray[np.float64]) -> dict[str, float]:
    """By block the mean over its groups of their questions' average precision (of a caption: the reciprocal
    rank of its photo)."""
    groups: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for signals in asked:
        relevant = signals.relevant[signals.ranking(weights)]
        places = np.flatnonzero(relevant)
        precision = np.arange(1, len(places) + 1) / (places + 1)
        groups[signals.block][signals.group].append(float(precision.mean()))
    return {
        block: float(np.mean([np.mean(values) for values in by_group.values()]))
        for block, by_group in groups.items()
    }


def goodness(sets: Sets, weights: NDArray[np.float64]) -> float:
    """The mean over sets of photos and over blocks: every kind of question counts the same."""
    figures = [value for asked in sets for value in mean_average_precision(asked, weights).values()]
    return float(np.mean(figures))


def fit_weights(sets: Sets, grid: Mapping[str, tuple[float, ...]] = GRID) -> dict[str, float]:
    """By part name the geometric middle of the grid's plateau (a weight of 0 counts as half the least
    other), to two decimals."""
    tried = np.array(list(itertools.product(*(grid[name] for name in FITTED_PARTS))))
    found = np.array([goodness(sets, weights) for weights in tried])
    plateau = tried[found >= found.max() - PLATEAU]
    floor = np.array([min((v for v in grid[name] if v > 0), default=1.0) / 2 for name in FITTED_PARTS])
    middle = np.exp(np.log(np.maximum(plateau, floor)).mean(axis=0))
    return {name: round(float(value), 2) for name, value in zip(FITTED_PARTS, middle, strict=True)}


def fit_per_kind(sets: Sets, weights: Mapping[str, float]) -> dict[QueryKind, dict[str, float]]:
    """Weights for each kind of query on its own; parts that the kind has not keep `weights`."""
    parts: Mapping[QueryKind, tuple[str, ...]] = {
        "words": ("text_image",),
        "pixels": ("global",),
        "both": ("global", "text_entity", "text_image"),
    }
    fitted: dict[QueryKind, dict[str, float]] = {}
    for kind, free in parts.items():
        own = [[signals for signals in asked if signals.kind == kind] for asked in sets]
        grid = {name: GRID[name] if name in free else (weights[name],) for name in FITTED_PARTS}
        seen = [asked for asked in own if asked]
        fitted[kind] = {**weights, **fit_weights(seen, grid)} if seen else dict(weights)
    return fitted


def curves(sets: Sets, weights: Mapping[str, float]) -> dict[str, list[dict[str, float]]]:
    """For each part the figures of every block along its grid, the other weights as they are."""
    found: dict[str, list[dict[str, float]]] = {}
    for part in FITTED_PARTS[1:]:
        found[part] = []
        for value in GRID[part]:
            tried = np.array([{**weights, part: value}[name] for name in FITTED_PARTS])
            figures = [mean_average_precision(asked, tried) for asked in sets]
            blocks = sorted({block for one in figures for block in one})
            means = {
                block: float(np.mean([one[block] for one in figures if block in one])) for block in blocks
            }
            found[part].append({"weight": value, **means})
    return found
