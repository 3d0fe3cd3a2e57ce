"""What the servicers share: the stored collections, the models, the search engine, the limits."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from regionsearch.collection import Collection, DataDirectory
from regionsearch.config import Limits
from regionsearch.errors import ModelNotFound, ModelUnavailable, RegionSearchError
from regionsearch.ingest import Pipeline, check_models
from regionsearch.models.folder_kind import Role
from regionsearch.models.registry import PACKAGED, ModelRegistry, resolve
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
    allowed_models: frozenset[str] = frozenset()
    """References that clients may make collections with, besides packaged models and those in use."""
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

    def check_allowed(self, role: Role, name: str) -> None:
        """A client may not make the server read any folder, or fetch gigabytes from a hub.

        Raises ModelNotFound, naming what there is, for a model that the server was not told to offer.
        """
        reference = resolve(role, name)
        if reference.kind in PACKAGED:
            return
        offered = {str(resolve(role, allowed)) for allowed in self.allowed_models if _is(role, allowed)}
        for stored in self.directory.collection_names():
            spec = self.directory.collection(stored).spec
            offered.add(spec.embedder.name if role == "embedder" else spec.segmenter.name)
        if str(reference) not in offered:
            raise ModelNotFound(
                f"this server does not offer the {role} {str(reference)!r}; it offers: "
                f"{', '.join(sorted(offered | PACKAGED))} (serve --allow-model adds one)",
                field=role,
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


def _is(role: Role, name: str) -> bool:
    """Whether an allowed model has this role: one option serves for embedders and segmenters."""
    try:
        resolve(role, name)
    except (ModelNotFound, ModelUnavailable):
        return False
    return True
