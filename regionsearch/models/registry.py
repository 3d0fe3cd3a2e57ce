"""The names under which embedders and segmenters are found, and the loaded ones.

A new model is a new module and one line here. Modules are imported when their model is asked for,
so that a client, or a user of one model, never pays for another.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping
from typing import cast

from regionsearch.errors import ModelNotFound, ModelUnavailable
from regionsearch.models.embedder import Embedder
from regionsearch.models.segmenter import Segmenter

EMBEDDERS: Mapping[str, str] = {
    "compact": "regionsearch.models.compact:load_embedder",
    "dummy": "regionsearch.models.dummy:load_embedder",
}
SEGMENTERS: Mapping[str, str] = {
    "compact": "regionsearch.models.compact:load_segmenter",
    "dummy": "regionsearch.models.dummy:load_segmenter",
}
DEFAULT_EMBEDDER = "compact"
DEFAULT_SEGMENTER = "compact"


class ModelRegistry:
    """Loads each model once and keeps it; safe to use from several threads.

    `threads` is how many cores a model may use inside one call; None leaves it to the model.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._embedders: dict[str, Embedder] = {}
        self._segmenters: dict[str, Segmenter] = {}

    def embedder(self, name: str) -> Embedder:
        """Raises ModelNotFound for a name that is not registered, ModelUnavailable when its
        packages or weights are missing or not the expected ones."""
        with self._lock:
            if name not in self._embedders:
                self._embedders[name] = cast(Embedder, _load("embedder", name, EMBEDDERS, self._threads))
            return self._embedders[name]

    def segmenter(self, name: str) -> Segmenter:
        """Raises ModelNotFound and ModelUnavailable as `embedder` does."""
        with self._lock:
            if name not in self._segmenters:
                self._segmenters[name] = cast(Segmenter, _load("segmenter", name, SEGMENTERS, self._threads))
            return self._segmenters[name]


def _load(kind: str, name: str, known: Mapping[str, str], threads: int | None) -> object:
    if name not in known:
        raise ModelNotFound(
            f"there is no {kind} named {name!r}; there are: {', '.join(sorted(known))}",
            field=kind,
        )
    module, _, function = known[name].partition(":")
    try:
        return getattr(importlib.import_module(module), function)(threads)
    except ModuleNotFoundError as error:
        raise ModelUnavailable(
            f"{kind} {name!r} needs the package {error.name!r}, which is not installed "
            "(docs/quickstart.md lists what each model needs)",
            field=kind,
        ) from error
