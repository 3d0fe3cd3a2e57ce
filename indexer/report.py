"""What an indexing run did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from regionsearch.ingest import STEPS, Failure


@dataclass(slots=True)
class IndexReport:
    """Counts and seconds of one run alone.

    images: stored in this run; entities: theirs. copied: those among them whose bytes the collection
    already had, so that nothing was computed. skipped: unchanged since an earlier run. seconds: wall
    time without loading models (load_seconds). steps: seconds by step, summed over all workers, so
    they can exceed `seconds`. stopped: the run was interrupted before the last image. payloads_lost: ids of
    those among the images whose record was damaged, so that the payload it may have had is gone.
    payloads_updated: images among the skipped that were given another payload. payloads_unknown: ids that
    were given a payload and that no photo of the source has.
    """

    images: int = 0
    entities: int = 0
    copied: int = 0
    skipped: int = 0
    failed: list[Failure] = field(default_factory=list)
    payloads_updated: int = 0
    payloads_lost: list[str] = field(default_factory=list)
    payloads_unknown: list[str] = field(default_factory=list)
    seconds: float = 0.0
    load_seconds: float = 0.0
    workers: int = 1
    stopped: bool = False
    steps: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "images_per_second": self.images_per_second}
