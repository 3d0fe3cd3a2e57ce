"""The lists of an inverted file: which ones a question probes, and the search of just those."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.inner_products import load_faiss
from regionsearch.collection.segments.index_kinds import inverted_file


class Lists:
    """Of one FAISS index, which is not copied and is kept as long as this.

    count: of lists. preassigned: whether `search` can be called; RaBitQ and refined files are only searched
    by FAISS's own way, which finds the lists again. Any number of threads may use it at the same time.
    """

    def __init__(self, index: Any) -> None:
        """index: FAISS's, trained, an inverted file or one refined."""
        faiss = load_faiss()
        self._index = index
        self._inverted = inverted_file(index)
        self.count = int(self._inverted.nlist)
        self.preassigned = isinstance(index, faiss.IndexIVFScalarQuantizer)
        # Where they lie in the mapped file, at any address: numpy's views would have to be aligned.
        self._centroids = faiss.downcast_index(self._inverted.quantizer).get_xb()

    @staticmethod
    def of(index: Any) -> Lists | None:
        """None of an index without lists."""
        return None if inverted_file(index) is None else Lists(index)

    def similarities(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """(lists,) of the vector (d,) float32, C-contiguous, to the centroids."""
        faiss = load_faiss()
        similarities = np.empty(self.count, np.float32)
        faiss.fvec_inner_products_ny(
            faiss.swig_ptr(similarities), faiss.swig_ptr(query), self._centroids, self._index.d, self.count
        )
        return similarities

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        probed: Sequence[NDArray[np.int64]],
        similarities: Sequence[NDArray[np.float32]],
        parameters: Any,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As FAISS's search: similarities and places (q, k) for queries (q, d), from the lists (n_q,) that
        each probes alone. similarities: (n_q,) of each to their centroids. parameters: SearchParametersIVF
        with nprobe the largest n_q."""
        faiss = load_faiss()
        pointer = faiss.swig_ptr
        most = max(map(len, probed))
        lists = np.full((len(queries), most), -1, np.int64)
        nearness = np.zeros((len(queries), most), np.float32)
        for row, (numbers, nearnesses) in enumerate(zip(probed, similarities, strict=True)):
            lists[row, : len(numbers)] = numbers
            nearness[row, : len(numbers)] = nearnesses
        found = np.empty((len(queries), k), np.float32)
        places = np.empty((len(queries), k), np.int64)
        # FAISS's wrapper of this function refuses parameters, and takes nprobe from the index, which all
        # threads share.
        self._index.search_preassigned_c(
            len(queries),
            pointer(queries),
            k,
            pointer(lists),
            pointer(nearness),
            pointer(found),
            pointer(places),
            False,
            parameters,
        )
        return found, places
