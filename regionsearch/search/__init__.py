"""What is asked: candidates from two arms, joint scoring, answers."""

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
