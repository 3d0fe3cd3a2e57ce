"""Second phase: candidates are read, scored jointly, and those that do not qualify are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Candidates, Collection
from regionsearch.search.agreement import EntityFacts, agreements, allowed, is_about_place
from regionsearch.search.counting import (
    count_agreement,
    counts_softly,
    such_entities,
    wants_count,
    within_counts,
)
from regionsearch.search.joint_scoring import Background, JointQuestion, JointScores, score_jointly
from regionsearch.search.placement import Placement
from regionsearch.search.query_filter import QueryFilter
from regionsearch.search.scoring import ScoringProfile
from regionsearch.search.stopwatch import Stopwatch


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """c images. qualified: (c,) whether each may be in the answer: it has distinct entities that may be the
    matches, as many of them as are wanted, and is not left out. sums: (c,) what each would total if every
    entity might be a match, -inf for one that is left out or has too few; None where nobody asked."""

    numbers: Sequence[int]
    image_ids: Sequence[str]
    scores: JointScores
    qualified: NDArray[np.bool_]
    sums: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores images of a collection for one query. placements: none, or one for each match. left_out: ids
    that are no hits. filter: what entities must meet to be matches; None: nothing."""

    collection: Collection
    question: JointQuestion
    background: Background
    profile: ScoringProfile
    placements: Sequence[Placement]
    left_out: frozenset[str]
    stopwatch: Stopwatch
    filter: QueryFilter | None = None

    @property
    def unfiltered(self) -> Scorer:
        """The same without the filter; the placements stay."""
        return replace(self, filter=None)

    def score(self, numbers: Sequence[int], *, with_sums: bool = False) -> ScoredImages | None:
        """Those of the images that are still there, one that was replaced under its new number; None when all
        are gone. with_sums: whether `sums` are wanted."""
        with self.stopwatch.stage("fetch"):
            candidates = self._read(
                numbers, labels=any(placement.label is not None for placement in self.placements)
            )
        if not candidates:
            return None
        with self.stopwatch.stage("joint"):
            facts = EntityFacts.of(candidates) if self.placements else None
            meets = self._meets(candidates)
            may = _both(
                None if facts is None else allowed(self.placements, facts), meets, self.question.matches
            )
            agreement = None if facts is None else self._agreement(candidates, facts, meets)
            scores = self._scores(candidates, agreement, may)
            here = np.array([image_id not in self.left_out for image_id in candidates.image_ids])
            qualified = scores.matched & here
            if facts is not None:
                qualified &= self._within_counts(candidates, facts, meets, scores)
            sums = None
            if with_sums:
                free = scores if may is None else self._scores(candidates, agreement, None)
                sums = np.where(free.matched & here, free.totals, -np.inf)
        return ScoredImages(candidates.numbers, candidates.image_ids, scores, qualified, sums)

    def score_entities(self, chosen: Sequence[tuple[int, int]]) -> list[tuple[JointScores, int]] | None:
        """Of each (image number, entity ordinal), in their order, the scores with just that entity as the
        match, and its place in them; None when one of the images is gone.

        An image with several entities among them is scored for one after the other: never are its vectors in
        memory twice.
        """
        found: dict[int, tuple[JointScores, int]] = {}
        left = list(enumerate(chosen))
        while left:
            turn = {number: (at, entity) for at, (number, entity) in reversed(left)}
            scores = self._score_one_each([(number, entity) for number, (_, entity) in turn.items()])
            if scores is None:
                return None
            found.update({at: (scores, place) for place, (at, _) in enumerate(turn.values())})
            left = [(at, pair) for at, pair in left if at not in found]
        return [found[at] for at in range(len(chosen))]

    def _score_one_each(self, chosen: Sequence[tuple[int, int]]) -> JointScores | None:
        """As `score_entities`, of different images."""
        numbers = [number for number, _ in chosen]
        with self.stopwatch.stage("fetch"):
            candidates = self._read(numbers, labels=False)
        if candidates.numbers != numbers:
            return None
        with self.stopwatch.stage("joint"):
            starts = candidates.entity_starts
            only = np.zeros((int(starts[-1]), 1), dtype=np.bool_)
            only[starts[:-1] + np.array([entity for _, entity in chosen])] = True
            agreement = None
            if self.placements:
                agreement = self._agreement(candidates, EntityFacts.of(candidates), self._meets(candidates))
            return self._scores(candidates, agreement, only)

    def _read(self, numbers: Sequence[int], *, labels: bool) -> Candidates:
        return self.collection.candidates(
            numbers,
            compared_with=self.question.of_entities,
            images_compared_with=self.question.of_images,
            labels=labels,
        )

    def _meets(self, candidates: Candidates) -> NDArray[np.bool_] | None:
        """(n,) whether each entity meets the filter; None without one."""
        if self.filter is None:
            return None
        counts = np.diff(candidates.entity_starts).tolist()
        return self.filter.matching.entity_mask(candidates.numbers, counts)

    def _scores(
        self, candidates: Candidates, agreement: NDArray[np.float64] | None, may: NDArray[np.bool_] | None
    ) -> JointScores:
        """agreement: as of `_agreement`. may: which entities may be the matches; None: all."""
        return score_jointly(
            candidates,
            self.question,
            self.background,
            self.profile,
            agreement=agreement,
            allowed=may,
        )

    def _agreement(
        self, candidates: Candidates, facts: EntityFacts, meets: NDArray[np.bool_] | None
    ) -> NDArray[np.float64] | None:
        """(n, p) of every entity with each placement: of its place and size, and of the number of such
        entities, which is the same for all of an image; None when nothing is wanted of these."""
        agreed = agreements(self.placements, facts)
        for match, placement in enumerate(self.placements):
            if not counts_softly(placement):
                continue
            if agreed is None:
                agreed = np.ones((len(facts.areas), len(self.placements)))
            alone = self._alone(candidates, facts, meets, match)
            counts = such_entities(facts, alone, self.profile.weights, by_label=False)
            # An image where the filter lets none match is no hit, whatever it agrees with.
            counts = np.maximum(counts, 1)
            agreed[:, match] *= np.repeat(count_agreement(placement, counts), np.diff(facts.starts))
        return agreed

    def _within_counts(
        self, candidates: Candidates, facts: EntityFacts, meets: NDArray[np.bool_] | None, scores: JointScores
    ) -> NDArray[np.bool_]:
        """(c,) whether each image has as many such entities as every placement makes a condition."""
        good = np.ones(len(candidates), dtype=np.bool_)
        for match, placement in enumerate(self.placements):
            if not wants_count(placement) or counts_softly(placement):
                continue
            alone = scores
            if len(self.placements) > 1 or is_about_place(placement):
                alone = self._alone(candidates, facts, meets, match)
            good &= within_counts(placement, facts, alone, self.profile.weights)
        return good

    def _alone(
        self, candidates: Candidates, facts: EntityFacts, meets: NDArray[np.bool_] | None, match: int
    ) -> JointScores:
        """Scores that tell which entities are such as one match.

        That is a matter of looks: neither of the entities that other regions take, nor of a place that is
        wished for. Where a place is a condition, it decides, and so does the filter.
        """
        return score_jointly(
            candidates,
            JointQuestion(self.question.regions[match : match + 1], self.question.image, self.question.text),
            self.background,
            self.profile,
            allowed=_both(allowed([self.placements[match]], facts), meets, 1),
        )


def _both(
    may: NDArray[np.bool_] | None, meets: NDArray[np.bool_] | None, matches: int
) -> NDArray[np.bool_] | None:
    """(n, p) what both let be the match; None where neither says anything. may: (n, p). meets: (n,)."""
    if meets is None:
        return may
    if may is None:
        return np.broadcast_to(meets[:, None], (len(meets), matches))
    return may & meets[:, None]
