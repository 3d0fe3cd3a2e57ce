"""Second phase: every candidate is scored on its entities, its image and the words at once.

Raw cosines of different arms are not comparable: each signal is standardised by what random pairs of
the collection score (its background), then the signals are added with one set of weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Candidate
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
    candidates: Sequence[Candidate],
    vectors: QueryVectors,
    background: Background,
    weights: Mapping[str, float],
) -> JointScores:
    """Scores candidates exactly from their stored vectors.

    The matched entity is the one with the highest weighted sum of standardised entity signals; all
    parts speak of that same entity. When no entity signal has weight, the entity nearest the query
    is named all the same, so that a hit always has one.
    """
    of_entity = {"entity": vectors.region, "text_entity": vectors.text}
    of_image = {"global": vectors.image, "text_image": vectors.text}
    entity_names = [name for name, vector in of_entity.items() if vector is not None]
    image_names = [name for name, vector in of_image.items() if vector is not None]
    entity_queries = np.stack([v for v in of_entity.values() if v is not None], axis=1)
    image_queries = np.stack([v for v in of_image.values() if v is not None], axis=1)

    pull = np.array([weights[name] for name in entity_names])
    if not pull.any():
        pull = np.ones(len(entity_names))
    ordinals = np.zeros(len(candidates), dtype=np.int64)
    raw = np.empty((len(candidates), len(entity_names) + len(image_names)))
    # The standardised signals differ from the raw ones by a shift that all entities share, so the
    # best entity can be found before standardising.
    slope = pull / np.array([background[name].deviation for name in entity_names])
    for row, candidate in enumerate(candidates):
        cosines = candidate.vectors[1:] @ entity_queries
        best = int(np.argmax(cosines @ slope))
        ordinals[row] = best
        raw[row, : len(entity_names)] = cosines[best]
        raw[row, len(entity_names) :] = candidate.vectors[0] @ image_queries

    names = (*entity_names, *image_names)
    chosen = np.array([weights[name] for name in names])
    standardised = standardise(raw, background, names)
    return JointScores(names, chosen, ordinals, raw, standardised, standardised @ chosen)


def ranking(totals: NDArray[np.float64], image_ids: Sequence[str]) -> list[int]:
    """Positions from best to worst; equal totals in the order of their ids."""
    return sorted(range(len(image_ids)), key=lambda place: (-totals[place], image_ids[place]))


def score_of(total: float) -> float:
    """The logistic of a weighted sum: 0 to 1, 0.5 for what a random pair would get."""
    return float(1.0 / (1.0 + np.exp(-np.clip(total, -700.0, 700.0))))
