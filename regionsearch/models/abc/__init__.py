"""ABC (TIGER-Lab): Qwen2-VL that reads in both directions, an image together with an instruction."""

from __future__ import annotations

from regionsearch.models.abc.loading import load_embedder

__all__ = ["load_embedder"]
