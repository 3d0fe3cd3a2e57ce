"""What the servicers share: the stored collections, the models, the search engine, the limits."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

from regionsearch.collection import Collection, DataDirectory
from regionsearch.config import Limits
from regionsearch.contract_names import OperationKind
from regionsearch.errors import (
    CollectionNotFound,
    ModelNotFound,
    ModelUnavailable,
    NotAccepted,
    RegionSearchError,
)
from regionsearch.ingest import Pipeline, check_models
from regionsearch.models.embedder import Embedder
from regionsearch.models.folder_kind import Role
from regionsearch.models.precomputed import KIND as PRECOMPUTED
from regionsearch.models.reference import ModelReference
from regionsearch.models.registry import PACKAGED, ModelRegistry, is_path, resolve
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.calls import Turnstile
from regionsearch.serving.operations import Operation, Operations, Outcome, Steps, Work

INGESTING_CALLS = 1
"""Calls that segment and embed at once: the models use every core, and searches want theirs too."""
READING_RECORDS = 1
"""Calls whose finished records are read at once: that is work of the interpreter's, of which searches want
their share."""
_LOG = logging.getLogger("regionsearch.serving")


@dataclass(frozen=True, eq=False)
class Backend:
    directory: DataDirectory
    models: ModelRegistry
    engine: SearchEngine
    limits: Limits
    allowed_models: frozenset[str] = frozenset()
    """References that clients may make collections with, besides packaged models and those in use."""
    snapshots: Path | None = None
    """The folder in which clients may have snapshots written; None: they may not."""
    ingest: Turnstile = field(default_factory=lambda: Turnstile(INGESTING_CALLS))
    records: Turnstile = field(default_factory=lambda: Turnstile(READING_RECORDS))
    operations: Operations = field(default_factory=Operations)

    def concealed(self, text: str) -> str:
        """The text without the path of the data directory, which is nothing that a remote caller should
        learn."""
        return re.sub(f"'{re.escape(str(self.directory.path))}(/[^']*)?'", r"'…\1'", text)

    def begin(self, kind: OperationKind, collection: str, work: Work) -> Operation:
        """An operation of the server; see `Operations.begin`."""

        def concealing(steps: Steps) -> Outcome:
            try:
                return work(steps)
            except RegionSearchError as error:
                error.message = self.concealed(error.message)
                raise

        return self.operations.begin(kind, collection, concealing)

    def load(self) -> None:
        """Loads the models of the stored collections and their statistics, so that the first call
        need not.

        A collection that cannot be prepared (made by another model, its model not installed, damaged)
        is an error in the log; the others are served, and calls that need what is wrong are told so.

        Raises InvalidRequest, ModelNotFound or ModelUnavailable for an allowed model that is none: whoever
        starts the server misspelt it.
        """
        for allowed in self.allowed_models:
            if not _is("segmenter", allowed):
                resolve("embedder", allowed)
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
        if is_path(name):
            # Not resolved, which would look into the folder and tell the client what lies there.
            reference = ModelReference.parse(f"{role}:{name}")
        else:
            reference = resolve(role, name)
            if reference.kind in PACKAGED:
                return
        offered = self._offered(role)
        asked = (reference.location, reference.options) if is_path(name) else reference
        if asked not in [(one.location, one.options) if is_path(name) else one for one in offered]:
            there_are = sorted({str(one) for one in offered} | PACKAGED)
            raise ModelNotFound(
                f"this server does not offer the {role} {name!r}; it offers: "
                f"{', '.join(there_are)} (serve --allow-model adds one)",
                field=role,
            )

    def _offered(self, role: Role) -> list[ModelReference]:
        """Besides packaged models."""
        offered = [resolve(role, allowed) for allowed in self.allowed_models if _is(role, allowed)]
        for name in self.directory.collection_names():
            try:
                spec = self.directory.collection(name).spec
            except CollectionNotFound:
                continue  # deleted since its name was read
            used = spec.embedder.name if role == "embedder" else spec.segmenter.name
            offered.append(ModelReference.parse(used))
        return offered

    def checked_embedder(self, collection: Collection) -> Embedder:
        """The collection's own. Raises FingerprintMismatch, ModelUnavailable."""
        embedder = self.models.embedder(collection.spec.embedder.name)
        check_models(collection.spec, embedder)
        return embedder

    def pipeline(self, collection: Collection) -> Pipeline:
        """A pipeline that brings images into this collection; each call needs its own.

        Raises NotAccepted where vectors are computed elsewhere, FingerprintMismatch, ModelUnavailable."""
        spec = collection.spec
        if spec.embedder.kind == PRECOMPUTED:
            raise NotAccepted(
                f"the vectors of collection {spec.name!r} are computed elsewhere ({spec.embedder.name}): "
                "bring images in as finished records (UpsertRecords)",
                field="collection",
            )
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
