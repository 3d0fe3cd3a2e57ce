"""Collections that are ready to be searched: models checked, background statistics up to date."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from regionsearch.collection import Collection
from regionsearch.errors import ModelNotFound, ModelUnavailable, ReadOnly, RegionSearchError
from regionsearch.ingest.pinning import check_models
from regionsearch.models.embedder import Embedder
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.background import (
    LEAST_IMAGES,
    CollectionBackground,
    is_due,
    measure_background,
    shipped_background,
)


@dataclass(slots=True)
class _Opened:
    """What the engine knows of a collection. shipped: None until its models are loaded and checked, or found
    missing. missing: why there is no embedder, if there is none."""

    shipped: CollectionBackground | None = None
    measured: CollectionBackground | None = None
    missing: RegionSearchError | None = None
    opening: threading.Lock = field(default_factory=threading.Lock)
    measuring: threading.Lock = field(default_factory=threading.Lock)


class PreparedCollections:
    """Any number of collections with the models of one registry. Thread-safe."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models
        self._lock = threading.Lock()
        self._opened: WeakKeyDictionary[Collection, _Opened] = WeakKeyDictionary()

    def prepare(self, collection: Collection) -> None:
        """Loads and checks the models and brings the background statistics up to date, waiting for a thread
        that measures. Raises FingerprintMismatch, ModelNotFound, ModelUnavailable."""
        opened = self._open(collection, needs_models=True)
        with opened.measuring:
            self._refresh(collection, opened)

    def background(self, collection: Collection, *, needs_models: bool = True) -> CollectionBackground:
        """What standardises the signals now; while another thread measures, what is at hand goes on
        serving.

        needs_models: False for a query that nothing has to be embedded for: it is answered where the
        collection's embedder is missing, too. Raises as `prepare`.
        """
        opened = self._open(collection, needs_models=needs_models)
        if opened.measuring.acquire(blocking=False):
            try:
                self._refresh(collection, opened)
            finally:
                opened.measuring.release()
        shipped, measured = opened.shipped, opened.measured
        if shipped is None:
            raise AssertionError("an opened collection knows what its embedder ships")
        return shipped if measured is None or collection.stats.images < LEAST_IMAGES else measured

    def _open(self, collection: Collection, *, needs_models: bool) -> _Opened:
        with self._lock:
            opened = self._opened.setdefault(collection, _Opened())
        # Loading one collection's models and index keeps nobody from searching another.
        with opened.opening:
            if opened.shipped is None or (needs_models and opened.missing is not None):
                embedder = self._embedder(collection, opened, needs_models=needs_models)
                collection.load()
                stored = collection.background()
                opened.measured = None if stored is None else CollectionBackground.from_json(stored)
                opened.shipped = shipped_background(embedder)
        return opened

    def _embedder(self, collection: Collection, opened: _Opened, *, needs_models: bool) -> Embedder | None:
        """The collection's own, checked; None where it is missing and not needed."""
        try:
            embedder = self._models.embedder(collection.spec.embedder.name)
        except (ModelNotFound, ModelUnavailable) as error:
            if needs_models:
                raise
            opened.missing = error
            return None
        check_models(collection.spec, embedder)
        opened.missing = None
        return embedder

    def _refresh(self, collection: Collection, opened: _Opened) -> None:
        if not is_due(opened.measured, collection.stats.images):
            return
        stored = collection.background()
        if stored is not None:
            # Another process may have measured since we looked.
            opened.measured = CollectionBackground.from_json(stored)
            if not is_due(opened.measured, collection.stats.images):
                return
        if opened.missing is not None:
            # Without text signals: these statistics serve here and are not stored for those with the model.
            opened.measured = measure_background(collection, None)
            return
        embedder = self._models.embedder(collection.spec.embedder.name)
        opened.measured = measure_background(collection, embedder)
        if opened.measured is not None:
            try:
                collection.set_background(opened.measured.to_json())
            except ReadOnly:
                # A reader keeps its statistics to itself: only a writer can store them for all.
                return
