"""What is asked: candidates from two arms, joint scoring, answers."""

from regionsearch.search.engine import SearchEngine
from regionsearch.search.query import (
    PART_NAMES,
    STAGES,
    Answer,
    Hit,
    MatchedEntity,
    PartScore,
    Query,
    Rerank,
    RerankScore,
    UsedRegion,
)

__all__ = [
    "PART_NAMES",
    "STAGES",
    "Answer",
    "Hit",
    "MatchedEntity",
    "PartScore",
    "Query",
    "Rerank",
    "RerankScore",
    "SearchEngine",
    "UsedRegion",
]
