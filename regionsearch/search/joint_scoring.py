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
from regionsearch.search.answer import PartScore
from regionsearch.search.calibration import QueryKind
from regionsearch.search.entity_matching import NOT_ALLOWED, distinct_rows
from regionsearch.search.scoring import ScoringProfile

Matrix = NDArray[np.float64]
Background = Mapping[str, SignalBackground]

WHOLE_IMAGE = -1
"""In place of an entity's ordinal, for a signal of the whole image."""


@dataclass(frozen=True, eq=False)
class JointQuestion:
    """What candidates are compared with; unit vectors, float32, at least one of them given.

    regions: (r, d), r = 0 for words alone. image: (d,) or None. text: (d,) or None.
    """

    regions: NDArray[np.float32]
    image: NDArray[np.float32] | None
    text: NDArray[np.float32] | None

    @staticmethod
    def of(vectors: QueryVectors) -> JointQuestion:
        """With the one region that the vectors have, or none."""
        some = next(v for v in (vectors.region, vectors.image, vectors.text) if v is not None)
        regions = np.empty((0, len(some)), np.float32) if vectors.region is None else vectors.region[None]
        return JointQuestion(regions, vectors.image, vectors.text)

    @property
    def vectors(self) -> list[NDArray[np.float32]]:
        """All that are given, each (d,)."""
        return [*self.regions, *(vector for vector in (self.image, self.text) if vector is not None)]

    @property
    def kind(self) -> QueryKind:
        if not len(self.regions) and self.image is None:
            return "words"
        return "pixels" if self.text is None else "both"

    @property
    def matches(self) -> int:
        """How many entities a candidate answers with: one a region; one for words."""
        return max(1, len(self.regions))


@dataclass(frozen=True, eq=False)
class JointScores:
    """Of c candidates, s signals and p = max(r, 1) matches, in the order of the candidates.

    names, weights: of the s signals. raw, standardised: (c, s). measured_on: (c, s) int64, ordinal of the
    entity that a part was measured on, -1 for the whole image (of several regions: the first's).
    matches: (c, p) int64, ordinal of the entity that each region was matched to, all distinct.
    matched: (c,) whether there are allowed, distinct entities for all of them; other candidates must not be
    in the answer. region_raw, region_standardised: (c, r). totals: (c,) the weighted sum, finite.
    """

    names: tuple[str, ...]
    weights: NDArray[np.float64]
    raw: Matrix
    standardised: Matrix
    measured_on: NDArray[np.int64]
    matches: NDArray[np.int64]
    matched: NDArray[np.bool_]
    region_raw: Matrix
    region_standardised: Matrix
    totals: NDArray[np.float64]
    _entity_values: NDArray[np.float64]
    _entity_rows: NDArray[np.int64]
    _entity_starts: NDArray[np.int64]

    def parts(self, place: int) -> dict[str, PartScore]:
        """By name the signals of one candidate."""
        rows = zip(
            self.names,
            self.raw[place].tolist(),
            self.standardised[place].tolist(),
            self.weights.tolist(),
            self.measured_on[place].tolist(),
            strict=True,
        )
        return {
            name: PartScore(raw, standardised, weight, None if entity == WHOLE_IMAGE else entity)
            for name, raw, standardised, weight, entity in rows
        }

    def totals_with_each(self, place: int) -> NDArray[np.float64]:
        """(n,) float64: what the candidate would total with each of its entities as its match, -inf for one
        that may not match. With several regions an entity stands for the region that it suits best, beside
        the matches of the others."""
        start, end = self._entity_starts[place : place + 2]
        if not self.matched[place]:
            return np.full(end - start, NOT_ALLOWED)
        rows = self._entity_rows[place]
        # What changes when an entity takes the place of the match that it suits best.
        matched = self._entity_values[rows, np.arange(len(rows))]
        change = (self._entity_values[start:end] - matched).max(axis=1)
        change[rows - start] = 0.0
        totals: NDArray[np.float64] = self.totals[place] + change
        return totals


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
    question: JointQuestion,
    background: Background,
    profile: ScoringProfile,
    *,
    agreement: NDArray[np.floating] | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> JointScores:
    """Scores candidates, at least one, exactly from their stored vectors.

    agreement: (entity rows, p) 0 to 1, how far each entity, candidate after candidate, agrees with what is
    wanted of the place and size of each match; None when nothing is wanted. allowed: (entity rows, p)
    whether it may be that match at all; None: all may.

    The matches are the distinct entities with the highest sum of what entities say. When no signal of
    entities has weight, the entity nearest the query is named all the same, so that a hit always has one.
    """
    starts = candidates.starts - np.arange(len(candidates.starts))
    own_rows = candidates.starts[:-1]
    is_entity = np.ones(int(candidates.starts[-1]), dtype=np.bool_)
    is_entity[own_rows] = False
    weights = profile.weights
    regions = len(question.regions)

    texts = [] if question.text is None else [question.text]
    similarities = candidates.similarities([*question.regions, *texts])
    of_entities = similarities[is_entity].astype(np.float64)
    of_regions = _z(of_entities[:, :regions], background, "entity")
    signals = {"entity": of_regions / regions} if regions else {}
    if texts:
        signals["text_entity"] = _z(of_entities[:, -1:], background, "text_entity") / question.matches
    objectness = candidates.objectness.astype(np.float64)
    signals["objectness"] = _z(objectness[:, None], background, "objectness") / question.matches
    if agreement is not None:
        signals["placement"] = _z(agreement.astype(np.float64), background, "placement") / question.matches

    zeros: NDArray[np.float64] = np.zeros((len(of_entities), question.matches))
    values = sum((weights[name] * signal for name, signal in signals.items()), zeros)
    compared = [name for name in ("entity", "text_entity") if name in signals]
    if not any(weights[name] for name in compared):
        values = values + sum((signals[name] for name in compared), zeros)
    if allowed is not None:
        values = np.where(allowed, values, NOT_ALLOWED)
    rows, matched = distinct_rows(values, starts)

    places = np.arange(question.matches)
    raws = {
        "entity": of_entities[:, :regions],
        "text_entity": of_entities[:, -1:],
        "objectness": objectness[:, None],
    }
    if agreement is not None:
        raws["placement"] = agreement.astype(np.float64)
    columns: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]] = {}
    first = rows[:, 0] - starts[:-1]
    for name, signal in signals.items():
        spread = np.broadcast_to(signal, zeros.shape)
        raw = np.broadcast_to(raws[name], zeros.shape)
        columns[name] = (raw[rows, places].mean(axis=1), spread[rows, places].sum(axis=1), first)
    whole = np.full(len(own_rows), WHOLE_IMAGE)
    if question.image is not None:
        raw = candidates.image_similarities(question.image).astype(np.float64)
        columns["global"] = (raw, _z(raw, background, "global"), whole)
    if texts:
        raw = similarities[own_rows, -1].astype(np.float64)
        columns["text_image"] = (raw, _z(raw, background, "text_image"), whole)

    names = tuple(columns)
    chosen = np.array([weights[name] for name in names])
    standardised = np.stack([columns[name][1] for name in names], axis=1)
    totals = (standardised * chosen).sum(axis=1)
    region_rows = rows[:, :regions]
    return JointScores(
        names=names,
        weights=chosen,
        raw=np.stack([columns[name][0] for name in names], axis=1),
        standardised=standardised,
        measured_on=np.stack([columns[name][2] for name in names], axis=1),
        matches=rows - starts[:-1, None],
        matched=matched,
        region_raw=of_entities[region_rows, np.arange(regions)],
        region_standardised=of_regions[region_rows, np.arange(regions)],
        totals=totals,
        _entity_values=values,
        _entity_rows=rows,
        _entity_starts=starts,
    )


def _z(raw: NDArray[np.float64], background: Background, name: str) -> NDArray[np.float64]:
    """In deviations from the mean of random pairs."""
    signal = background[name]
    standardised: NDArray[np.float64] = (raw - signal.mean) / signal.deviation
    return standardised


def ranking(totals: NDArray[np.float64], image_ids: Sequence[str]) -> list[int]:
    """Positions from best to worst; equal totals in the order of their ids."""
    return sorted(range(len(image_ids)), key=lambda place: (-totals[place], image_ids[place]))


def score_of(total: float) -> float:
    """The logistic of a weighted sum: 0 to 1, 0.5 for what a random pair would get."""
    return float(1.0 / (1.0 + np.exp(-np.clip(total, -700.0, 700.0))))
