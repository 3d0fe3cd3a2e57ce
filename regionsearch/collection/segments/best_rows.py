"""The k best of many similarities, ties included in a fixed order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHORT = 1_000
"""Up to here sorting all costs no more than finding where to cut."""


def best_rows(similarities: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Rows of the k largest of (n,), best first, equal ones in the order of rows; all when k is n or more."""
    rows: NDArray[np.int64]
    if len(similarities) <= SHORT:
        rows = np.argsort(-similarities, kind="stable")[:k]
        return rows
    if k < len(similarities):
        cut = np.partition(similarities, len(similarities) - k)[len(similarities) - k]
        rows = np.flatnonzero(similarities > cut)
        level = np.flatnonzero(similarities == cut)[: k - len(rows)]
        rows = np.concatenate([rows, level])
        rows.sort()
    else:
        rows = np.arange(len(similarities), dtype=np.int64)
    return rows[np.argsort(-similarities[rows], kind="stable")]
