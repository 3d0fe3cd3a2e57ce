"""Other sentence embedders on Qwen2-VL: VLM2Vec (TIGER-Lab) and GME (Alibaba)."""

from __future__ import annotations

from regionsearch.models.vlm.loading import load_embedder

__all__ = ["load_embedder"]
