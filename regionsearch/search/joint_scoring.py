"""Second phase: every candidate is scored on its entities, its image and the words at once.

Raw cosines of different arms are not comparable: each signal is standardised by what random pairs of
the collection score (its background), then the signals are added with one set of weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Candidates
from regionsearch.models.embedder import QueryVectors, SignalBackground

Matrix = NDArray[np.float64]
Background = Mapping[str, SignalBackground]


@dataclass(frozen=True, eq=False)
class JointScores:
    """Of c candidates and s signals, in the order of the candidates.

    entities: (c,) int64, ordinal of the matched entity. raw, standardised: (c, s). totals: (c,) the
    weighted sum. names and weights: of the s signals.
    """

    names: tuple[str, ...]
    weights: NDArray[np.float64]
    entities: NDArray[np.int64]
    raw: Matrix
    standardised: Matrix
    totals: NDArray[np.float64]


def standardise(raw: Matrix, background: Background, names: Sequence[str]) -> Matrix:
    """Deviations from what random pairs of this collection score, (candidates, signals).

    Cosines of different arms live on different scales; their z-scores can be added.
    """
    mean = np.array([background[name].mean for name in names])
    deviation = np.array([background[name].deviation for name in names])
    standardised: Matrix = (raw - mean) / deviation
    return standardised


def score_jointly(
    candidates: Candidates,
    vectors: QueryVectors,
    background: Background,
    weights: Mapping[str, float],
) -> JointScores:
    """Scores candidates, at least one, exactly from their stored vectors.

    The matched entity is the one with the highest weighted sum of standardised entity signals; all
    parts speak of that same entity. When no entity signal has weight, the entity nearest the query
    is named all the same, so that a hit always has one.
    """
    of_entity = {"entity": vectors.region, "text_entity": vectors.text}
    of_image = {"global": vectors.image, "text_image": vectors.text}
    entity_names = [name for name, vector in of_entity.items() if vector is not None]
    image_names = [name for name, vector in of_image.items() if vector is not None]
    of_entities = candidates.similarities([v for v in of_entity.values() if v is not None])
    own_rows = candidates.starts[:-1]
    of_images = np.stack(
        [
            # The words are compared with entities and images alike: their products are there already.
            of_entities[own_rows, entity_names.index("text_entity")]
            if name == "text_image"
            else candidates.image_similarities(vector)
            for name, vector in of_image.items()
            if vector is not None
        ],
        axis=1,
    )

    pull = np.array([weights[name] for name in entity_names])
    if not pull.any():
        pull = np.ones(len(entity_names))
    # The standardised signals differ from the raw ones by a shift that all entities share, so the
    # best entity can be found before standardising.
    slope = pull / np.array([background[name].deviation for name in entity_names])
    best_rows = _best_entity_rows(of_entities @ slope, candidates.starts)

    names = (*entity_names, *image_names)
    raw = np.concatenate([of_entities[best_rows], of_images], axis=1).astype(np.float64)
    chosen = np.array([weights[name] for name in names])
    standardised = standardise(raw, background, names)
    totals = (standardised * chosen).sum(axis=1)
    return JointScores(names, chosen, best_rows - own_rows - 1, raw, standardised, totals)


def _best_entity_rows(sums: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(c,) of each image, the row of its entity with the largest sum; of equal ones the first."""
    own_rows, lengths = starts[:-1], np.diff(starts)
    sums = sums.copy()
    sums[own_rows] = -np.inf
    largest = np.maximum.reduceat(sums, own_rows)
    rows = np.flatnonzero(sums == np.repeat(largest, lengths))
    first: NDArray[np.int64] = rows[np.searchsorted(rows, own_rows)]
    return first


def ranking(totals: NDArray[np.float64], image_ids: Sequence[str]) -> list[int]:
    """Positions from best to worst; equal totals in the order of their ids."""
    return sorted(range(len(image_ids)), key=lambda place: (-totals[place], image_ids[place]))


def score_of(total: float) -> float:
    """The logistic of a weighted sum: 0 to 1, 0.5 for what a random pair would get."""
    return float(1.0 / (1.0 + np.exp(-np.clip(total, -700.0, 700.0))))
