"""RegionSearch: find the things in your photos, by region, by words, or both."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regionsearch.client import AsyncClient, Client
    from regionsearch.errors import RegionSearchError
    from regionsearch.regions import Box, Mask, Point, Polygon, RegionPrompt

__version__ = "0.1.0"

# Loaded when first asked for, so that importing the package costs next to nothing.
_HOMES = {
    "AsyncClient": "regionsearch.client",
    "Box": "regionsearch.regions",
    "Client": "regionsearch.client",
    "Mask": "regionsearch.regions",
    "Point": "regionsearch.regions",
    "Polygon": "regionsearch.regions",
    "RegionPrompt": "regionsearch.regions",
    "RegionSearchError": "regionsearch.errors",
}

__all__ = [
    "AsyncClient",
    "Box",
    "Client",
    "Mask",
    "Point",
    "Polygon",
    "RegionPrompt",
    "RegionSearchError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'regionsearch' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
