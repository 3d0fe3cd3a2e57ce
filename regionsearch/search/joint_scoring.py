"""Second phase: every candidate is scored on its entities, its image and the words at once.

Raw cosines of different arms are not comparable: each signal is standardised by what random pairs of
the collection score (its background), then the signals are added with one set of weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Candidates
from regionsearch.models.embedder import QueryVectors, SignalBackground
from regionsearch.search.answer import PartScore
from regionsearch.search.calibration import QueryKind
from regionsearch.search.entity_choice import LEAST_AGREEMENT, choose_entities, log_objectness
from regionsearch.search.entity_matching import NOT_ALLOWED, best_rows, distinct_rows
from regionsearch.search.scoring import EntityEvidence, ScoringProfile

Matrix = NDArray[np.float64]
Background = Mapping[str, SignalBackground]

WHOLE_IMAGE = -1
"""In place of an entity's ordinal, for a signal of the whole image."""
UNWEIGHED = 1e-6
"""What a deviation of likeness counts where its part has no weight: between entities that are alike in all
that has."""
UNKNOWN_SIZE = (np.inf, np.inf)
"""Of a frame that no box covers."""


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
    def of_entities(self) -> list[NDArray[np.float32]]:
        """What is compared with entities, each (d,): the regions, then the words, also with images."""
        return [*self.regions, *([] if self.text is None else [self.text])]

    @property
    def of_images(self) -> list[NDArray[np.float32]]:
        """What is compared with whole images alone, each (d,)."""
        return [] if self.image is None else [self.image]

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
class Matches:
    """The p entities that are shown as the matches of one candidate. entities: (p,) ordinals, all distinct.
    raw, standardised: (r,) the cosine of each region with its entity, and the same in deviations."""

    entities: NDArray[np.int64]
    raw: NDArray[np.float64]
    standardised: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class JointScores:
    """Of c candidates, s signals and p = max(r, 1) matches, in the order of the candidates.

    names, weights: of the s signals. raw, standardised: (c, s). measured_on: (c, s) int64, ordinal of the
    entity that a part was measured on, -1 for the whole image (of several regions: the first's).
    matched: (c,) whether there are allowed, distinct entities for all matches; other candidates must not be
    in the answer. totals: (c,) the weighted sum, finite.
    """

    names: tuple[str, ...]
    weights: NDArray[np.float64]
    raw: Matrix
    standardised: Matrix
    measured_on: NDArray[np.int64]
    matched: NDArray[np.bool_]
    totals: NDArray[np.float64]
    _entities: _Entities

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

    def matches(self, place: int) -> Matches:
        """The entities of one candidate that are expected to be the things asked for (`entity_choice`), which
        may be others than those that its parts were measured on."""
        return self._entities.matches(place)

    def boxes(self, place: int) -> NDArray[np.float64]:
        """(n, 4) pixels, of one candidate's entities."""
        start, end = self._entities.starts[place : place + 2]
        return self._entities.boxes[start:end]

    def totals_with_each(self, place: int) -> NDArray[np.float64]:
        """(n,) float64: what the candidate would total were its parts measured on each of its entities, -inf
        for one that may not match. With several regions an entity stands for the region that it suits best,
        beside the entities of the others."""
        entities = self._entities
        start, end = entities.starts[place : place + 2]
        if not self.matched[place]:
            return np.full(end - start, NOT_ALLOWED)
        rows = entities.rows[place]
        # What changes when an entity takes the place of the one that it suits best.
        taken = entities.values[rows, np.arange(len(rows))]
        change = (entities.values[start:end] - taken).max(axis=1)
        change[rows - start] = 0.0
        totals: NDArray[np.float64] = self.totals[place] + change
        return totals


@dataclass(frozen=True, eq=False)
class _Entities:
    """What is known of all candidates' n entities, one after the other.

    values: (n, p) what each says as each match, `NOT_ALLOWED` where it may not be it. rows: (c, p) those that
    the parts were measured on. cosines, likeness: (n, p) with what is asked, raw and in deviations.
    agreement: (n, p) or None.
    """

    candidates: Candidates
    starts: NDArray[np.int64]
    values: NDArray[np.float64]
    rows: NDArray[np.int64]
    regions: int
    cosines: NDArray[np.float64]
    likeness: NDArray[np.float64]
    log_objectness: NDArray[np.float64]
    agreement: NDArray[np.float64] | None
    evidence: EntityEvidence

    def matches(self, place: int) -> Matches:
        start, end = self.starts[place : place + 2]
        own = slice(start, end)
        # Pixels tell a thing from its parts, so likeness to them is trusted as far as in the soft maximum;
        # words resemble the parts of a thing no less than the whole.
        growth = self.evidence.sharpness if self.regions else self.evidence.choice
        log_odds = growth * self.likeness[own]
        log_odds = log_odds + self.evidence.objectness * self.log_objectness[own, None]
        if self.agreement is not None:
            log_odds = log_odds + np.log(self.agreement[own] + LEAST_AGREEMENT)
        width, height = self.candidates.sizes[place].tolist()
        chosen = choose_entities(
            log_odds,
            self.boxes[own],
            self.values[own] > NOT_ALLOWED,
            (width, height) if width and height else UNKNOWN_SIZE,
        )
        rows = self.rows[place] if chosen is None else start + chosen
        of_regions = np.arange(self.regions)
        return Matches(
            rows - start,
            self.cosines[rows[: self.regions], of_regions],
            self.likeness[rows[: self.regions], of_regions],
        )

    @cached_property
    def boxes(self) -> NDArray[np.float64]:
        """(n, 4) pixels."""
        return self.candidates.boxes.astype(np.float64)


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

    Parts of entities are measured on the distinct allowed entities with the highest sum of what entities
    say; several regions by the mean of theirs. Words beside pixels look for an entity of their own, any of
    the image's: `with a person` is about something else than the region. Among entities that are
    level, since no signal of theirs has weight or only the place, the parts are of the one nearest the query.

    `entity` and `text_entity` are soft maxima: the cosine of the entity that they were measured on, less
    what a soft maximum over all entities of the image, each with a share by its objectness, lies below the
    greatest cosine. So an image whose entities agree scores more than one with a single good one, and one
    entity of an image counts in full.
    """
    starts = candidates.entity_starts
    own_rows = candidates.starts[:-1]
    is_entity = np.ones(int(candidates.starts[-1]), dtype=np.bool_)
    is_entity[own_rows] = False
    weights, evidence = profile.weights, profile.evidence
    regions, matches = len(question.regions), question.matches

    texts = [] if question.text is None else [question.text]
    similarities = candidates.similarities([*question.regions, *texts])
    cosines = similarities[is_entity].astype(np.float64)
    objectness = candidates.objectness.astype(np.float64)
    logs = log_objectness(objectness)
    wanted = None if agreement is None else agreement.astype(np.float64)

    own = "entity" if regions else "text_entity"
    compared = cosines[:, :regions] if regions else cosines
    likeness = standardise(compared, background, own)
    about = {"objectness": objectness[:, None]}
    if wanted is not None:
        about["placement"] = wanted
    values = weights[own] * likeness
    for name, raw in about.items():
        if weights[name]:
            values = values + weights[name] * standardise(raw, background, name)
    values = values / matches
    if allowed is not None:
        values = np.where(allowed, values, NOT_ALLOWED)
    rows, matched = distinct_rows(values if weights[own] else values + UNWEIGHED * likeness, starts)

    def soft(column: NDArray[np.float64], name: str, at: NDArray[np.int64]) -> NDArray[np.float64]:
        sharpness = evidence.sharpness / background[name].deviation
        return column[at] - _shortfall(column, evidence.objectness * logs, sharpness, starts)

    places = range(matches)
    first = rows[:, 0] - starts[:-1]
    whole = np.full(len(own_rows), WHOLE_IMAGE)
    measured: dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]] = {}
    measured[own] = (np.mean([soft(compared[:, at], own, rows[:, at]) for at in places], axis=0), first)
    if regions and texts:
        nearest = best_rows(cosines[:, -1], starts)
        measured["text_entity"] = (soft(cosines[:, -1], "text_entity", nearest), nearest - starts[:-1])
    for name, raw in about.items():
        spread = np.broadcast_to(raw, (len(raw), matches))
        measured[name] = (spread[rows, np.arange(matches)].mean(axis=1), first)
    if question.image is not None:
        measured["global"] = (candidates.image_similarities(question.image).astype(np.float64), whole)
    if texts:
        measured["text_image"] = (similarities[own_rows, -1].astype(np.float64), whole)

    names = tuple(measured)
    raw = np.stack([measured[name][0] for name in names], axis=1)
    standardised = np.stack([standardise(measured[name][0], background, name) for name in names], axis=1)
    chosen = np.array([weights[name] for name in names])
    return JointScores(
        names=names,
        weights=chosen,
        raw=raw,
        standardised=standardised,
        measured_on=np.stack([measured[name][1] for name in names], axis=1),
        matched=matched,
        totals=(standardised * chosen).sum(axis=1),
        _entities=_Entities(
            candidates, starts, values, rows, regions, compared, likeness, logs, wanted, evidence
        ),
    )


def _shortfall(
    cosines: NDArray[np.float64],
    log_shares: NDArray[np.float64],
    sharpness: float,
    starts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(c,) by how much the soft maximum of each image's cosines lies below the greatest of them, 0 at least.

    The soft maximum is log(sum of shares x exp(sharpness x cosine)) / sharpness, the shares of one image's
    entities adding up to 1. cosines, log_shares: (n,). sharpness: per unit of cosine.
    """
    counts = np.diff(starts)
    greatest = np.maximum.reduceat(cosines, starts[:-1])
    shares = np.exp(log_shares)
    grown = shares * np.exp(sharpness * (cosines - np.repeat(greatest, counts)))
    ratio = np.add.reduceat(grown, starts[:-1]) / np.add.reduceat(shares, starts[:-1])
    shortfall: NDArray[np.float64] = -np.log(ratio) / sharpness
    return shortfall


def standardise(raw: Matrix, background: Background, name: str) -> Matrix:
    """A signal, of any shape, in deviations from what random pairs of this collection score.

    Cosines of different arms live on different scales; their z-scores can be added.
    """
    signal = background[name]
    standardised: Matrix = (raw - signal.mean) / signal.deviation
    return standardised


def ranking(totals: NDArray[np.float64], image_ids: Sequence[str]) -> list[int]:
    """Positions from best to worst; equal totals in the order of their ids."""
    return sorted(range(len(image_ids)), key=lambda place: (-totals[place], image_ids[place]))
