"""What the servicers share: the stored collections, the models, the search engine, the limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from regionsearch.collection import Collection, DataDirectory
from regionsearch.config import Limits
from regionsearch.ingest import Pipeline, check_models
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.calls import Turnstile

INGESTING_CALLS = 1
"""Calls that segment and embed at once: the models use every core, and searches want theirs too."""


@dataclass(frozen=True, eq=False)
class Backend:
    directory: DataDirectory
    models: ModelRegistry
    engine: SearchEngine
    limits: Limits
    ingest: Turnstile = field(default_factory=lambda: Turnstile(INGESTING_CALLS))

    def load(self) -> None:
        """Loads the models of the stored collections and their statistics, so that the first call
        need not. Raises FingerprintMismatch, ModelNotFound, ModelUnavailable."""
        for name in self.directory.collection_names():
            self.engine.prepare(self.directory.collection(name))

    def pipeline(self, collection: Collection) -> Pipeline:
        """A pipeline that brings images into this collection; each call needs its own."""
        spec = collection.spec
        embedder = self.models.embedder(spec.embedder.name)
        segmenter = self.models.segmenter(spec.segmenter.name)
        check_models(spec, embedder, segmenter)
        return Pipeline(
            embedder, segmenter, pixels=spec.pixels, entity_limit=spec.entity_limit, limits=self.limits
        )
