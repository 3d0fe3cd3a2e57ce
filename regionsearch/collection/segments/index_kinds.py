"""Which kind of index a segment gets: a function of its rows, its dimension and the collection's wish.

docs/vector-index.md has the measurements behind every number here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from regionsearch.collection.inner_products import load_faiss
from regionsearch.collection.records import IndexWish

KindName = Literal[
    "flat-sq8", "ivf-sq8", "ivf-sq6", "ivf-rabitq", "ivf-rabitq-sq8", "hnsw16-sq8", "hnsw32-sq8"
]
"""The last four are never chosen: they are here to be measured beside the others (regionsearch bench ann)."""

MOVE_TO_GPU = ("flat-sq8", "ivf-sq8")
"""What FAISS has on GPUs too."""
FLAT_ROWS = 10_000
"""Up to here every row is read, which takes some 0.3 ms, and there is nothing to train."""
SIX_BIT_RECALL = 0.97
LISTS_PER_ROOT = {"ivf-rabitq": 1.5, "ivf-rabitq-sq8": 1.5, "ivf-sq8": 2.5, "ivf-sq6": 2.5}
"""Times the root of the rows. A row of one bit a coordinate is compared in a quarter of the time, so that
longer lists cost it less than finding the nearest of more centroids, which is most of a build."""
TRAINING_ROWS_PER_LIST = 30
MOST_CANDIDATES = 1024


@dataclass(frozen=True, slots=True)
class IndexKind:
    """lists: of an inverted file, 0 for the others. training_rows: that its centroids are fitted on."""

    name: KindName
    lists: int = 0
    training_rows: int = 0

    @property
    def factory(self) -> str:
        """As FAISS's index_factory writes it."""
        return {
            "flat-sq8": "SQ8",
            "ivf-sq8": f"IVF{self.lists},SQ8",
            "ivf-sq6": f"IVF{self.lists},SQ6",
            "ivf-rabitq": f"IVF{self.lists},RaBitQfs",
            "ivf-rabitq-sq8": f"IVF{self.lists},RaBitQfs,Refine(SQ8)",
            "hnsw16-sq8": "HNSW16,SQ8",
            "hnsw32-sq8": "HNSW32,SQ8",
        }[self.name]

    @property
    def row_seconds(self) -> float:
        """Of comparing a query with one row's codes, at 384 dimensions; what tuning weighs efforts by."""
        return 6e-9 if "rabitq" in self.name else 25e-9

    @property
    def most_effort(self) -> int:
        """What a search may spend at most: all lists, or the length of a graph's candidate list (efSearch).
        0 where every row is read anyway."""
        return MOST_CANDIDATES if self.name.startswith("hnsw") else self.lists


def choose_kind(rows: int, dimension: int, wish: IndexWish) -> IndexKind:
    """Few rows are all read. More get an inverted file, with six bits a coordinate when memory is to be
    spared and eight otherwise, or when more is wished than six bits can tell apart.

    One bit (RaBitQ) takes a sixth of the memory of eight and answers sooner, but is not chosen: questions in
    words lie so far from the rows that its estimates put the right ones hundreds of places down.
    """
    del dimension  # It has decided nothing so far; who asks need not know that.
    if rows <= FLAT_ROWS:
        return IndexKind("flat-sq8")
    if wish.favour == "memory" and wish.recall_target <= SIX_BIT_RECALL:
        return kind_for("ivf-sq6", rows)
    return kind_for("ivf-sq8", rows)


def kind_for(name: KindName, rows: int) -> IndexKind:
    """A kind with as many lists, if it has them, as `rows` want."""
    if not name.startswith("ivf"):
        return IndexKind(name)
    lists = max(1, round(LISTS_PER_ROOT[name] * math.sqrt(rows)))
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


def search_parameters(index: Any, effort: int, selector: Any) -> Any:
    """How to search an index of any kind: `effort` lists or candidates, 0 where every row is read;
    selector: FAISS's, or None."""
    faiss = load_faiss()
    if not effort:
        return None if selector is None else faiss.SearchParameters(sel=selector)
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(sel=selector, efSearch=effort)
    inverted = faiss.SearchParametersIVF(sel=selector, nprobe=effort)
    if isinstance(index, faiss.IndexRefine):
        return faiss.IndexRefineSearchParameters(k_factor=REFINED_FACTOR, base_index_params=inverted)
    return inverted
