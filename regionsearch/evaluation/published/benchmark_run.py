"""One model on one benchmark: what was asked for, the loaded model, its vectors, the pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from regionsearch.collection import DataDirectory
from regionsearch.evaluation.published.benchmark_inputs import DEFAULT_BATCH, Retrieval
from regionsearch.evaluation.published.embedded_inputs import (
    Counts,
    EmbeddedRetrieval,
    InputVectors,
    LeftOut,
    embed_retrieval,
)
from regionsearch.evaluation.published.embedding_cache import EmbeddingCache
from regionsearch.evaluation.published.image_files import NAMED_MISSING, ImageFiles
from regionsearch.evaluation.published.wording import Style, wording_of
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.runtime import Runtime

COLLECTIONS = "collections"


@dataclass(frozen=True, slots=True)
class RunSettings:
    """images: folder that the benchmark's paths are below. cache: folder that keeps vectors, None for
    one that goes when the run ends. limit: rows or pictures of each subset. style: of the words, None for
    the kind's own. skip_missing: go on without pictures that cannot be read."""

    images: Path
    embedder: str
    cache: Path | None = None
    limit: int | None = None
    batch: int = DEFAULT_BATCH
    style: Style | None = None
    skip_missing: bool = False
    runtime: Runtime = field(default_factory=Runtime)


class BenchmarkRun:
    """The model of `settings`, loaded, with its vectors; closes what it opened."""

    def __init__(self, settings: RunSettings, embedder: str | None = None) -> None:
        """embedder: another than the settings name."""
        self.settings = settings
        self.embedder_name = embedder or settings.embedder
        self.images = ImageFiles(settings.images, skip=settings.skip_missing)
        self.models = ModelRegistry(runtime=settings.runtime)
        self.embedder = self.models.embedder(self.embedder_name)
        self.wording = wording_of(self.embedder.info.fingerprint.kind, settings.style)
        self._open = ExitStack()
        try:
            if settings.cache is None:
                kept = self._open.enter_context(tempfile.TemporaryDirectory(prefix="regionsearch-eval-"))
                self._folder = Path(kept)
            else:
                self._folder = settings.cache
            cache = self._open.enter_context(EmbeddingCache(self._folder, self.embedder.info.fingerprint))
            self.vectors = InputVectors(self.embedder, cache, self.images, batch=settings.batch)
        except BaseException:
            self._open.close()
            raise

    @property
    def counts(self) -> Counts:
        return self.vectors.counts

    def embedded(self, retrieval: Retrieval) -> EmbeddedRetrieval:
        return embed_retrieval(self.vectors, retrieval)

    def data_directory(self) -> DataDirectory:
        """Where collections of this run are kept as long as its vectors are."""
        return self._open.enter_context(DataDirectory(self._folder / COLLECTIONS, "write"))

    def about(self) -> dict[str, Any]:
        """The head of every report."""
        fingerprint = self.embedder.info.fingerprint
        return {
            "embedder": {
                "name": fingerprint.name,
                "weights": fingerprint.weights,
                "dimension": fingerprint.dimension,
                "preprocessing": fingerprint.preprocessing,
            },
            "wording": self.wording.style,
            "limit": self.settings.limit,
        }

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def shown_left_out(left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """What pictures that cannot be read cost, for a report."""
    images = sorted({image for one in left_out for image in one.images})
    return {
        "queries": sum(one.queries for one in left_out),
        "candidates": sum(one.candidates for one in left_out),
        "images": len(images),
        "first": images[:NAMED_MISSING],
    }


def assumption(assumed: str, because: str, otherwise: str) -> dict[str, str]:
    """A fact that could not be established, as a report states it."""
    return {"assumed": assumed, "because": because, "otherwise": otherwise}
