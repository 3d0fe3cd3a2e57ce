"""Collections that are ready to be searched: models checked, background statistics up to date."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from regionsearch.collection import Collection
from regionsearch.errors import ReadOnly
from regionsearch.ingest.pinning import check_models
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
    """What the engine knows of a collection. shipped: None until its models are loaded and checked."""

    shipped: CollectionBackground | None = None
    measured: CollectionBackground | None = None
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
        opened = self._open(collection)
        with opened.measuring:
            self._refresh(collection, opened)

    def _open(self, collection: Collection) -> _Opened:
        with self._lock:
            opened = self._opened.setdefault(collection, _Opened())
        # Loading one collection's models and index keeps nobody from searching another.
        with opened.opening:
            if opened.shipped is None:
                embedder = self._models.embedder(collection.spec.embedder.name)
                check_models(collection.spec, embedder)
                collection.load()
                stored = collection.background()
                opened.measured = None if stored is None else CollectionBackground.from_json(stored)
                opened.shipped = shipped_background(embedder)
        return opened

    def background(self, collection: Collection) -> CollectionBackground:
        """What standardises the signals now; while another thread measures, what is at hand goes on
        serving."""
        opened = self._open(collection)
        if opened.measuring.acquire(blocking=False):
            try:
                self._refresh(collection, opened)
            finally:
                opened.measuring.release()
        shipped, measured = opened.shipped, opened.measured
        if shipped is None:
            raise AssertionError("an opened collection knows what its embedder ships")
        return shipped if measured is None or collection.stats.images < LEAST_IMAGES else measured

    def _refresh(self, collection: Collection, opened: _Opened) -> None:
        if not is_due(opened.measured, collection.stats.images):
            return
        stored = collection.background()
        if stored is not None:
            # Another process may have measured since we looked.
            opened.measured = CollectionBackground.from_json(stored)
            if not is_due(opened.measured, collection.stats.images):
                return
        embedder = self._models.embedder(collection.spec.embedder.name)
        opened.measured = measure_background(collection, embedder)
        if opened.measured is not None:
            try:
                collection.set_background(opened.measured.to_json())
            except ReadOnly:
                # A reader keeps its statistics to itself: only a writer can store them for all.
                return
