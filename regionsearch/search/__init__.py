"""What is asked: candidates from two arms, joint scoring, answers.

Where to change what, in the order in which `engine` goes through it:

    query, placement, query_parts       what can be said
    query_checks, placement_checks,
    control_checks                      what is refused, with the field that is wrong
    prepared, background                what must be ready: models, statistics of random pairs
    indexed_things, encoding, feedback  ids, pixels and words become vectors; examples move them
    presets, first_phase, widening      how many candidates, from where, until a page is full
    second_phase                        candidates are read and scored, and conditions applied:
        joint_scoring, entity_matching      signals, standardised and added; an entity for each region
        entity_choice                       which entity is shown
        agreement, counting                 place and size, label, number
    scoring, calibration                weights; from sums to scores
    rerank, closer_look                 the best are read again
    hits, answer, pages, stopwatch      what is shown, page by page, and how long it took
"""

from regionsearch.search.answer import (
    Answer,
    EntityMatch,
    Hit,
    MatchedEntity,
    PartScore,
    RegionMatch,
    RerankScore,
    UsedRegion,
)
from regionsearch.search.engine import SearchEngine
from regionsearch.search.placement import Placement
from regionsearch.search.query import PART_NAMES, STAGES, Example, Query, QueryRegion, Rerank

__all__ = [
    "PART_NAMES",
    "STAGES",
    "Answer",
    "EntityMatch",
    "Example",
    "Hit",
    "MatchedEntity",
    "PartScore",
    "Placement",
    "Query",
    "QueryRegion",
    "RegionMatch",
    "Rerank",
    "RerankScore",
    "SearchEngine",
    "UsedRegion",
]
