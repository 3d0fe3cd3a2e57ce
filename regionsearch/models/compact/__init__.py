"""The embedded default: models that work offline, on a CPU, from pip-installed weights."""

from __future__ import annotations

from regionsearch.models.compact.loading import load_embedder, load_segmenter

__all__ = ["load_embedder", "load_segmenter"]
