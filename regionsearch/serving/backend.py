"""What the servicers share: the stored collections, the models, the search engine, the limits."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from regionsearch.collection import Collection, DataDirectory
from regionsearch.config import Limits
from regionsearch.errors import RegionSearchError
from regionsearch.ingest import Pipeline, check_models
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.calls import Turnstile

INGESTING_CALLS = 1
"""Calls that segment and embed at once: the models use every core, and searches want theirs too."""
_LOG = logging.getLogger("regionsearch.serving")


@dataclass(frozen=True, eq=False)
class Backend:
    directory: DataDirectory
    models: ModelRegistry
    engine: SearchEngine
    limits: Limits
    ingest: Turnstile = field(default_factory=lambda: Turnstile(INGESTING_CALLS))

    def load(self) -> None:
        """Loads the models of the stored collections and their statistics, so that the first call
        need not.

        A collection that cannot be prepared (made by another model, its model not installed, damaged)
        is an error in the log; the others are served, and calls that need what is wrong are told so.
        """
        for name in self.directory.collection_names():
            try:
                self.engine.prepare(self.directory.collection(name))
            except RegionSearchError as error:
                _LOG.error(
                    "event=not_prepared collection=%s reason=%s message=%r", name, error.reason, error.message
                )

    def refresh(self, collection: Collection) -> None:
        """Brings a collection's statistics up to date after images were stored. What goes wrong here is
        an error in the log alone: the images are stored, and searches go on with the statistics they have."""
        try:
            self.engine.prepare(collection)
        except RegionSearchError as error:
            _LOG.error(
                "event=not_refreshed collection=%s reason=%s message=%r",
                collection.spec.name,
                error.reason,
                error.message,
            )

    def pipeline(self, collection: Collection) -> Pipeline:
        """A pipeline that brings images into this collection; each call needs its own."""
        spec = collection.spec
        embedder = self.models.embedder(spec.embedder.name)
        segmenter = self.models.segmenter(spec.segmenter.name)
        check_models(spec, embedder, segmenter)
        return Pipeline(
            embedder, segmenter, pixels=spec.pixels, entity_limit=spec.entity_limit, limits=self.limits
        )
