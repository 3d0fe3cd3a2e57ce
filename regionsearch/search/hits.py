"""From the ranking to what is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Collection, ImageRecord
from regionsearch.search.answer import EntityMatch, Hit, MatchedEntity, RegionMatch
from regionsearch.search.calibration import Calibrator
from regionsearch.search.joint_scoring import JointScores
from regionsearch.search.second_phase import Scorer
from regionsearch.search.stopwatch import Stopwatch
from regionsearch.search.widening import MATCHED, Ranked, Widening


@dataclass(frozen=True, eq=False)
class Found:
    """A slice of the ranking, best first: what an answer shows of each hit, its record, and its weighted
    sum (n,) float64. complete: False when images vanished and others may have taken their places."""

    hits: tuple[Hit, ...] = ()
    records: tuple[ImageRecord, ...] = ()
    totals: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    complete: bool = False


def find_hits(
    collection: Collection,
    widening: Widening,
    scorer: Scorer,
    ends: Sequence[int],
    wanted: slice,
    all_entities: int,
    stopwatch: Stopwatch,
) -> Found:
    """ends: of the ranking's blocks. wanted: which of its hits. all_entities: how many further entities each
    lists.

    An image deleted since it was scored, or whose record is damaged, is passed over for the next best, and so
    is one whose payload was updated so that it no longer meets the filter.
    """
    passed_over = False
    while True:
        widening.rank(ends)
        chosen = widening.ranking[wanted]
        numbers = [widening.number_of(ranked) for ranked in chosen]
        different = list(dict.fromkeys(numbers))
        with stopwatch.stage("fetch"):
            stored = dict(zip(different, collection.records(different), strict=True))
        gone = {number for number, record in stored.items() if record is None}
        if scorer.filter is not None:
            for number, ranked in zip(numbers, chosen, strict=True):
                record = stored[number]
                entities = widening.matched_entities(ranked)
                if record is not None and not scorer.filter.holds_of(record, entities):
                    gone.add(number)
        if not gone:
            break
        passed_over = True
        widening.forget(gone)
    if not chosen:
        return Found(complete=not passed_over)
    alone: list[tuple[JointScores, int]] | None = None
    if chosen[0].entity != MATCHED:
        alone = scorer.score_entities(
            [(number, ranked.entity) for number, ranked in zip(numbers, chosen, strict=True)]
        )
        if alone is None:
            return Found()
    hits, records = [], []
    for place, (number, ranked) in enumerate(zip(numbers, chosen, strict=True)):
        record = stored[number]
        if record is None:
            raise AssertionError("images that are gone were passed over")
        scores = widening.batches[ranked.batch].scores
        where = (scores, ranked.place) if alone is None else alone[place]
        with_each = scores.totals_with_each(ranked.place) if all_entities else np.empty(0)
        hits.append(_hit(record, ranked, *where, with_each, widening, all_entities))
        records.append(record)
    totals = np.array([ranked.total for ranked in chosen])
    complete = not passed_over or len(chosen) == wanted.stop - wanted.start
    return Found(tuple(hits), tuple(records), totals, complete)


def _hit(
    record: ImageRecord,
    ranked: Ranked,
    scores: JointScores,
    place: int,
    with_each: NDArray[np.float64],
    widening: Widening,
    all_entities: int,
) -> Hit:
    """scores, place: of the image, or of the one entity that is the hit. with_each: what the image totals
    with each of its entities, when more of them are to be listed."""
    calibrator, answers = widening.calibrator, widening.answers
    found = scores.matches(place)
    matched = found.entities.tolist()
    others = {
        ordinal: total
        for ordinal, total in enumerate(with_each.tolist())
        if np.isfinite(total) and ordinal not in matched
    }
    regions = zip(found.raw.tolist(), found.standardised.tolist(), strict=True)
    return Hit(
        image_id=record.image_id,
        width=record.width,
        height=record.height,
        score=float(calibrator.scores(np.array([ranked.total]))[0]),
        parts=scores.parts(place),
        entity=matched_entity(record, matched[0]),
        payload=record.payload,
        matches=tuple(
            RegionMatch(region, matched_entity(record, matched[region]), raw, standardised)
            for region, (raw, standardised) in enumerate(regions)
        ),
        entities=_further_entities(record, others, calibrator, all_entities),
        entity_arm_rank=answers.entity_ranks.get(record.number),
        global_arm_rank=answers.global_ranks.get(record.number),
    )


def _further_entities(
    record: ImageRecord, totals: Mapping[int, float], calibrator: Calibrator, count: int
) -> tuple[EntityMatch, ...]:
    """The best `count`, equal ones in their order. totals: by ordinal what the image totals with each."""
    best = sorted(totals, key=lambda ordinal: (-totals[ordinal], ordinal))[:count]
    if not best:
        return ()
    scores = calibrator.scores(np.array([totals[ordinal] for ordinal in best])).tolist()
    return tuple(
        EntityMatch(matched_entity(record, ordinal), score)
        for ordinal, score in zip(best, scores, strict=True)
    )


def matched_entity(record: ImageRecord, index: int) -> MatchedEntity:
    entities = record.entities
    x0, y0, x1, y1 = (float(value) for value in entities.boxes[index])
    return MatchedEntity(
        index=index,
        box=(x0, y0, x1, y1),
        area=float(entities.areas[index]),
        objectness=float(entities.objectness[index]),
        label=entities.labels[index],
        label_source=entities.label_sources[index],
        mask=entities.masks[index],
    )
