"""Whether what is stored is whole: checked, reported, mended."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regionsearch.collection.integrity.problems import Problem
    from regionsearch.collection.integrity.repairing import repair
    from regionsearch.collection.integrity.verification import VerifyReport, verify

__all__ = ["Problem", "VerifyReport", "repair", "verify"]
# Looked up when they are asked for: opening a directory uses modules of this package that they use in turn.
_HOMES = {
    "Problem": "problems",
    "VerifyReport": "verification",
    "repair": "repairing",
    "verify": "verification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
