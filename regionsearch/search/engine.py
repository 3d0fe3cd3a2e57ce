"""Answers queries: encode, two arms, joint scoring.

INTERFACE SKETCH: the owner of this module completes it; names and signatures below stay.
"""

from __future__ import annotations

from regionsearch.collection import Collection
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.query import Answer, Query


class SearchEngine:
    """Thread-safe. Opens a collection with its models on first use (fingerprint and probe checked)."""

    def __init__(self, models: ModelRegistry) -> None: raise NotImplementedError
    def prepare(self, collection: Collection) -> None:
        """Loads and checks the models, computes background statistics where they are due."""
        raise NotImplementedError
    def search(self, collection: Collection, query: Query) -> Answer: raise NotImplementedError
