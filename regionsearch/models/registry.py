"""The names under which embedders and segmenters are found, and the loaded ones.

A new model is a new module and one line here. Modules are imported when their model is asked for,
so that a client, or a user of one model, never pays for another.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from regionsearch.errors import InvalidRequest, ModelNotFound, ModelUnavailable
from regionsearch.models.embedder import Embedder
from regionsearch.models.folder_kind import Role, folder_kind
from regionsearch.models.reference import ModelReference
from regionsearch.models.runtime import Runtime
from regionsearch.models.segmenter import Segmenter

EMBEDDERS: Mapping[str, str] = {
    "abc": "regionsearch.models.abc:load_embedder",
    "compact": "regionsearch.models.compact:load_embedder",
    "connector": "regionsearch.models.connector:load_embedder",
    "dual_encoder": "regionsearch.models.dual_encoder:load_embedder",
    "dummy": "regionsearch.models.dummy:load_embedder",
    "precomputed": "regionsearch.models.precomputed:load_embedder",
    "virtue": "regionsearch.models.virtue:load_embedder",
    "vlm": "regionsearch.models.vlm:load_embedder",
}
SEGMENTERS: Mapping[str, str] = {
    "compact": "regionsearch.models.compact:load_segmenter",
    "dummy": "regionsearch.models.dummy:load_segmenter",
    "precomputed": "regionsearch.models.precomputed:load_segmenter",
    "sam2": "regionsearch.models.sam2:load_segmenter",
}
PACKAGED = frozenset({"compact", "dummy"})
"""Kinds whose weights come with their packages: anybody may ask for them. They compute on the CPU
whatever device is asked for, best in several processes side by side."""
DEFAULT_EMBEDDER = "compact"
DEFAULT_SEGMENTER = "compact"


class ModelRegistry:
    """Loads each model once and keeps it; safe to use from several threads.

    A model is named by a reference (`KIND[:LOCATION][,OPTION=VALUE]…`), or by the bare path of a
    folder, whose files then tell its kind.
    """

    def __init__(self, threads: int | None = None, runtime: Runtime | None = None) -> None:
        self._runtime = runtime or Runtime(threads)
        self._lock = threading.Lock()
        self._embedders: dict[str, Embedder] = {}
        self._segmenters: dict[str, Segmenter] = {}

    def embedder(self, name: str) -> Embedder:
        """Raises ModelNotFound for a kind that is not registered, InvalidRequest for a reference that
        cannot be read, ModelUnavailable when packages or weights are missing or not the expected ones."""
        reference = resolve("embedder", name)
        key = str(reference)
        # Without the lock: who has a model need not wait until another one is loaded.
        known = self._embedders.get(key)
        if known is not None:
            return known
        with self._lock:
            if key not in self._embedders:
                loaded = _load("embedder", reference, EMBEDDERS, self._runtime)
                self._embedders[key] = cast(Embedder, loaded)
            return self._embedders[key]

    def segmenter(self, name: str) -> Segmenter:
        """Raises what `embedder` does."""
        reference = resolve("segmenter", name)
        key = str(reference)
        # Without the lock: who has a model need not wait until another one is loaded.
        known = self._segmenters.get(key)
        if known is not None:
            return known
        with self._lock:
            if key not in self._segmenters:
                loaded = _load("segmenter", reference, SEGMENTERS, self._runtime)
                self._segmenters[key] = cast(Segmenter, loaded)
            return self._segmenters[key]

    def forget(self) -> None:
        """Lets go of all models, so that their memory can be had by others."""
        with self._lock:
            self._embedders.clear()
            self._segmenters.clear()


def is_path(name: str) -> bool:
    """Whether a name is spelt as the bare path of a folder, not as a reference."""
    return name.startswith(("/", "./", "../", "~"))


def resolve(role: Role, name: str) -> ModelReference:
    """The reference that a name means. Raises ModelNotFound and InvalidRequest, see ModelRegistry."""
    known = EMBEDDERS if role == "embedder" else SEGMENTERS
    if is_path(name):
        folder, comma, options = name.partition(",")
        # Path's own raises for a user unknown here.
        kind = folder_kind(role, Path(os.path.expanduser(folder)))  # noqa: PTH111
        name = f"{kind}:{folder}{comma}{options}"
    with _blaming(role):
        reference = ModelReference.parse(name)
    if reference.kind not in known:
        raise ModelNotFound(
            f"there is no {role} named {reference.kind!r}; there are: {', '.join(sorted(known))}",
            field=role,
        )
    return reference


def _load(role: Role, reference: ModelReference, known: Mapping[str, str], runtime: Runtime) -> object:
    module, _, function = known[reference.kind].partition(":")
    try:
        with _blaming(role):
            return getattr(importlib.import_module(module), function)(reference, runtime)
    except ModuleNotFoundError as error:
        raise ModelUnavailable(
            f"{role} {reference.kind!r} needs the package {error.name!r}, which is not installed "
            "(docs/quickstart.md lists what each model needs)",
            field=role,
        ) from error


@contextmanager
def _blaming(role: Role) -> Iterator[None]:
    """References are read without knowing whose they are; the caller of a segmenter is told of that."""
    try:
        yield
    except (InvalidRequest, ModelUnavailable) as error:
        if error.field in (None, "embedder"):
            error.field = role
        raise
