"""VIRTUE: Qwen2-VL that also sees what SAM 2 makes of a point, a box, or nothing pointed at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regionsearch.models.reference import ModelReference
from regionsearch.models.runtime import Runtime

if TYPE_CHECKING:
    from regionsearch.models.virtue.embedder import VirtueEmbedder

__all__ = ["load_embedder"]


def load_embedder(reference: ModelReference, runtime: Runtime) -> VirtueEmbedder:
    """See `loading.load_embedder`."""
    # Here, so that `templates`, which the benchmarks read, does not bring torch along.
    from regionsearch.models.virtue.loading import load_embedder as load

    return load(reference, runtime)
