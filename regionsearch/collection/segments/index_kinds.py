"""Which kind of index a segment gets: a function of its rows, its dimension and the collection's wish.

docs/vector-index.md has the measurements behind every number here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from regionsearch.collection.inner_products import load_faiss
from regionsearch.collection.records import IndexWish

KindName = Literal["flat-sq8", "ivf-sq8", "ivf-rabitq", "ivf-rabitq-sq8"]

FLAT_ROWS = 10_000
"""Up to here every row is read, which takes some 0.3 ms, and there is nothing to train."""
LISTS_PER_ROOT = 1.5
"""Times the root of the rows: with more, finding each row's list costs a build more than searches gain."""
TRAINING_ROWS_PER_LIST = 30


@dataclass(frozen=True, slots=True)
class IndexKind:
    """lists: of an inverted file, 0 for a flat index. training_rows: that its centroids are fitted on."""

    name: KindName
    lists: int = 0
    training_rows: int = 0

    @property
    def factory(self) -> str:
        """As FAISS's index_factory writes it."""
        return {
            "flat-sq8": "SQ8",
            "ivf-sq8": f"IVF{self.lists},SQ8",
            "ivf-rabitq": f"IVF{self.lists},RaBitQfs",
            "ivf-rabitq-sq8": f"IVF{self.lists},RaBitQfs,Refine(SQ8)",
        }[self.name]

    @property
    def moves_to_gpu(self) -> bool:
        """Whether FAISS has it on a GPU."""
        return self.name in ("flat-sq8", "ivf-sq8")


def choose_kind(rows: int, dimension: int, wish: IndexWish) -> IndexKind:
    if rows <= FLAT_ROWS:
        return IndexKind("flat-sq8")
    return inverted_kind("ivf-rabitq" if wish.favour == "memory" else "ivf-rabitq-sq8", rows)


def inverted_kind(name: KindName, rows: int) -> IndexKind:
    """A kind that has lists, with as many as `rows` want."""
    lists = max(1, round(LISTS_PER_ROOT * math.sqrt(rows)))
    return IndexKind(name, lists, min(rows, TRAINING_ROWS_PER_LIST * lists))


def empty_index(kind: IndexKind, dimension: int) -> Any:
    """The untrained FAISS index of a kind, searched by inner product."""
    faiss = load_faiss()
    return faiss.index_factory(dimension, kind.factory, faiss.METRIC_INNER_PRODUCT)


def inverted_file(index: Any) -> Any:
    """The part of a FAISS index that has lists; None of a flat one."""
    faiss = load_faiss()
    if isinstance(index, faiss.IndexRefine):
        index = faiss.downcast_index(index.base_index)
    return index if hasattr(index, "nlist") else None


REFINED_FACTOR = 8.0
"""Rows that the coarse codes hand to the finer ones, for each row asked for."""


def search_parameters(index: Any, probes: int, selector: Any) -> Any:
    """How to search an index of any kind: `probes` lists, 0 when it has none; selector: FAISS's, or None."""
    faiss = load_faiss()
    if not probes:
        return None if selector is None else faiss.SearchParameters(sel=selector)
    inverted = faiss.SearchParametersIVF(sel=selector, nprobe=probes)
    if isinstance(index, faiss.IndexRefine):
        return faiss.IndexRefineSearchParameters(k_factor=REFINED_FACTOR, base_index_params=inverted)
    return inverted
