"""Which kind of index a segment gets: a function of its rows, its dimension and the collection's wish."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from regionsearch.collection.records import IndexWish

KindName = Literal["flat-sq8", "ivf-sq8"]

FLAT_ROWS = 10_000
"""Up to here every row is read: a search takes some 0.3 ms, and there is nothing to train."""


@dataclass(frozen=True, slots=True)
class IndexKind:
    """lists: of an inverted file, 0 for a flat index. training_rows: vectors its centroids are fitted on."""

    name: KindName
    lists: int = 0
    training_rows: int = 0


def choose_kind(rows: int, dimension: int, wish: IndexWish) -> IndexKind:
    """docs/vector-index.md has the measurements behind each threshold."""
    if rows <= FLAT_ROWS:
        return IndexKind("flat-sq8")
    lists = 1 << round(math.log2(4 * math.sqrt(rows)))
    return IndexKind("ivf-sq8", lists, min(rows, 40 * lists))
