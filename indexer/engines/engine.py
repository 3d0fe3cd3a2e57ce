"""Where the computing of an indexing run happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from regionsearch.collection import ImageRecord
from regionsearch.collection.records import PixelsKept
from regionsearch.config import Limits
from regionsearch.ingest import EncodedImage, Failure
from regionsearch.models.runtime import Runtime


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """All that another process needs to build the same pipeline."""

    embedder: str
    segmenter: str
    pixels: PixelsKept
    entity_limit: int
    limits: Limits
    runtime: Runtime = field(default_factory=Runtime)


@dataclass(frozen=True, eq=False)
class BatchResult:
    """seconds: by step, as this batch spent them where it was computed."""

    records: list[ImageRecord]
    failures: list[Failure]
    seconds: Mapping[str, float]


class IndexingEngine(Protocol):
    """Turns batches of encoded images into records, several batches at once if it can."""

    @property
    def workers(self) -> int: ...

    @property
    def batch_images(self) -> int:
        """How many images travel to it together, at most: none of them is done before all are."""

    @property
    def load_seconds(self) -> float:
        """What loading models took inside `submit`, so far."""

    def submit(self, images: Sequence[EncodedImage]) -> Future[BatchResult]: ...

    def close(self) -> None:
        """Drops what has not begun and waits for what has."""
