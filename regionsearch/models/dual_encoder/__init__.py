"""CLIP, OpenCLIP converted to CLIP's layout, SigLIP and SigLIP 2, as transformers publishes them."""

from __future__ import annotations

from regionsearch.models.dual_encoder.loading import load_embedder

__all__ = ["load_embedder"]
