"""From candidates to one ranking: the arms are asked for more until enough images qualify.

The ranking is made in blocks. For each block the arms are as wide as that many hits deserve, and are widened
twofold until the block is full or the whole collection has been scored; the best that are not in an
earlier block follow in the order of their scores, equal ones in the order of their ids. So a page is a
slice of one ranking that every page of the same question makes in the same way, without repeats or
omissions, and what a wider search finds late is not lost, but comes later.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regionsearch.search.calibration import Calibration, Calibrator, QueryFacts
from regionsearch.search.counting import best_apart
from regionsearch.search.first_phase import ArmAnswers, Arms
from regionsearch.search.narrowing import is_hard, narrowed
from regionsearch.search.presets import Effort
from regionsearch.search.query import GroupBy
from regionsearch.search.reach import highest_total
from regionsearch.search.second_phase import ScoredImages, Scorer

SCORED_TOGETHER = 512
"""Images whose vectors are in memory at once: 43 MB at 33 × 640, however large the collection."""
MATCHED = -1
"""In place of an entity's ordinal: the entities that scoring chose."""


class Ranked(NamedTuple):
    """A place in the ranking; the smaller, the better. loss: the weighted sum, negated. entity: of a hit
    that is one entity its ordinal, otherwise MATCHED. batch, place: where it was scored."""

    loss: float
    image_id: str
    entity: int
    batch: int
    place: int

    @property
    def total(self) -> float:
        return -self.loss


class Widening:
    """One query's candidates, as far as they have been looked at. For one thread.

    min_score: the least score of what qualifies. facts: of the query, without the totals that are still to
    be found. overtaken: whether images were replaced meanwhile, of which the filter knows nothing yet.
    """

    def __init__(
        self,
        arms: Arms,
        scorer: Scorer,
        effort: Effort,
        calibration: Calibration,
        facts: QueryFacts,
        group_by: GroupBy,
        min_score: float,
    ) -> None:
        self._arms = arms
        self._scorer = scorer
        self._effort = effort
        self._calibration = calibration
        self._facts = facts
        self._group_by = group_by
        self._min_score = min_score
        self._calibrator: Calibrator | None = None
        self._nothing_further = False
        self._looks_further = False
        self._seen: set[int] = set()
        self._waiting: list[Ranked] = []
        self._width = 0
        self.answers = ArmAnswers({}, {}, everything=False)
        self.batches: list[ScoredImages] = []
        self.ranking: list[Ranked] = []
        self.overtaken = False

    @property
    def calibrator(self) -> Calibrator:
        """Fitted to the first images of each arm, so that a wider search scores them alike, and whatever
        conditions leave out, so that they say the same with and without."""
        if self._calibrator is None:
            return self._calibration.of(self._facts)
        return self._calibrator

    def rank(self, ends: Sequence[int]) -> None:
        """Makes the ranking's blocks: ends, ascending, of each the hits up to and with it."""
        for end in ends:
            width = self._effort.first_width(end)
            if not self._width:
                self._widen(width)
            # Doublings alone, so that every page sees the same widths on its way.
            while not self._nothing_further and (
                self._width < width or len(self.ranking) + len(self._waiting) < end
            ):
                self._widen(2 * self._width)
            self._waiting.sort()
            missing = max(0, end - len(self.ranking))
            self.ranking += self._waiting[:missing]
            del self._waiting[:missing]
            if self._nothing_further and not self._waiting:
                return

    def has_more(self, hits: int) -> bool:
        """Whether there is one after so many of the ranking."""
        while len(self.ranking) + len(self._waiting) <= hits and not self._nothing_further:
            self._widen(2 * self._width)
        return len(self.ranking) + len(self._waiting) > hits

    def forget(self, numbers: Container[int]) -> None:
        """Images that are gone: the next best take their places when the ranking is made again."""
        self.ranking = [each for each in self.ranking if self.number_of(each) not in numbers]
        self._waiting = [each for each in self._waiting if self.number_of(each) not in numbers]

    def number_of(self, ranked: Ranked) -> int:
        return self.batches[ranked.batch].numbers[ranked.place]

    def matched_entities(self, ranked: Ranked) -> list[int]:
        """Ordinals of the entities that are its matches."""
        if ranked.entity != MATCHED:
            return [ranked.entity]
        entities = self.batches[ranked.batch].scores.matches(ranked.place).entities
        return [int(entity) for entity in entities]

    def _widen(self, width: int) -> None:
        if self._width and not self._looks_further:
            self._look_further()
        among = self._arms.matching
        if self._calibrator is None and among is not None and among.image_count:
            self._calibrate_unfiltered()
        self._width = width
        self.answers = self._arms.ask(width, self.answers)
        fresh = [number for number in self.answers.numbers if number not in self._seen]
        self._seen.update(fresh)
        if self._calibrator is None:
            # All that is new must be looked at before the least score can be told from its sum.
            found = list(self._scored(fresh))
            self._calibrate(found, self.answers)
            self._take(found)
        else:
            self._take(self._scored(fresh))
        self._nothing_further = self.answers.everything or self._out_of_reach()

    def _look_further(self) -> None:
        """The first look was not enough: what it found did not qualify, or much was asked for. From now on
        the arms look where something can qualify, and are asked so that the least score can end it."""
        self._looks_further = True
        placements = self._scorer.placements
        if any(map(is_hard, placements)):
            self._arms = self._arms.within(
                narrowed(self._arms.matching or self._scorer.collection.matching(""), placements)
            )
        if self._min_score > 0:
            self._arms = self._arms.asked_apart(self._scorer.question)

    def _out_of_reach(self) -> bool:
        """Whether no image that has not been seen can have the least score."""
        if self._min_score == 0:
            return False
        highest = highest_total(self._scorer, self.answers, among_some=self._arms.matching is not None)
        return highest < self.calibrator.total_of(self._min_score)

    def _scored(self, numbers: Sequence[int]) -> Iterator[ScoredImages]:
        calibrating = self._calibrator is None
        for start in range(0, len(numbers), SCORED_TOGETHER):
            asked = numbers[start : start + SCORED_TOGETHER]
            scored = self._scorer.score(asked, with_sums=calibrating)
            if scored is None:
                continue
            for place in np.flatnonzero(~np.isin(scored.numbers, asked)).tolist():
                # Its image was replaced meanwhile. The new one counts once, however often it is met.
                number = scored.numbers[place]
                self.overtaken |= self._scorer.filter is not None
                scored.qualified[place] &= number not in self._seen
                self._seen.add(number)
            yield scored

    def _take(self, found: Iterable[ScoredImages]) -> None:
        for scored in found:
            waiting = list(self._qualified(scored, len(self.batches)))
            # Where few qualify, what is known of all others would fill the memory.
            if waiting:
                self.batches.append(scored)
                self._waiting.extend(waiting)

    def _calibrate_unfiltered(self) -> None:
        """Scores mean the same with a filter and without: what the first images score altogether is told by
        those that would come first without it."""
        arms, scorer = self._arms.within(None), self._scorer.unfiltered
        answers = arms.ask(self._effort.calibrating, self.answers)
        numbers = answers.numbers
        pieces = (numbers[at : at + SCORED_TOGETHER] for at in range(0, len(numbers), SCORED_TOGETHER))
        scored = (scorer.score(piece, with_sums=True) for piece in pieces)
        self._calibrate([each for each in scored if each is not None], answers)

    def _calibrate(self, found: Sequence[ScoredImages], answers: ArmAnswers) -> None:
        first = list(answers.among_first(self._effort.calibrating))
        sums = [each.sums for each in found if each.sums is not None]
        near = [np.isin(each.numbers, first) for each in found]
        totals = _joined([own[among] for own, among in zip(sums, near, strict=True)])
        if not np.isfinite(totals).any():
            totals = _joined(sums)
        totals = totals[np.isfinite(totals)]
        if len(totals):
            facts = self._facts
            self._calibrator = self._calibration.of(QueryFacts(facts.kind, facts.text, facts.images, totals))

    def _qualified(self, scored: ScoredImages, batch: int) -> Iterator[Ranked]:
        places = np.flatnonzero(scored.qualified)
        if self._group_by == "image":
            totals = scored.scores.totals[places]
            entities = np.full(len(places), MATCHED)
        else:
            each = [scored.scores.totals_with_each(place) for place in places.tolist()]
            # One thing is found several times over, whole and in part: it is one hit.
            allowed = [
                best_apart(totals, scored.scores.boxes(place))
                for place, totals in zip(places.tolist(), each, strict=True)
            ]
            places = np.repeat(places, [len(ordinals) for ordinals in allowed])
            totals = _joined([totals[ordinals] for totals, ordinals in zip(each, allowed, strict=True)])
            entities = _joined(allowed).astype(np.int64)
        if self._min_score > 0:
            good = self.calibrator.scores(totals) >= self._min_score
            places, totals, entities = places[good], totals[good], entities[good]
        for place, total, entity in zip(places.tolist(), totals.tolist(), entities.tolist(), strict=True):
            yield Ranked(-total, scored.image_ids[place], entity, batch, place)


def _joined(parts: list[NDArray[np.float64]] | list[NDArray[np.int64]]) -> NDArray[np.float64]:
    return np.concatenate([np.empty(0), *parts])


def block_ends(page: int, limit: int, read_again: int) -> range:
    """How many hits the ranking has after each block, until page number `page` (from 1) is covered.

    The first block holds a page and what is read again; each further block is a page. A range, since whoever
    makes up a token may ask for the four billionth page.
    """
    first = max(limit, read_again)
    return range(first, max(first, page * limit) + limit, limit)
