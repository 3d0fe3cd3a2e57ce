"""A frozen embedder with a learned map on top of its pixels: `connector:FOLDER`."""

from __future__ import annotations

from regionsearch.models.connector.loading import load_embedder

__all__ = ["load_embedder"]
