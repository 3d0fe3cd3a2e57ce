"""Searches one FAISS file of a segment: places and estimated similarities, under a bitmap of allowed rows."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.inner_products import load_faiss
from regionsearch.collection.segments.coarse import Lists
from regionsearch.collection.segments.gpu import gpu_present, gpu_wished, to_gpu
from regionsearch.collection.segments.index_kinds import MOVE_TO_GPU, search_parameters
from regionsearch.collection.segments.reach import Reaches, lists_within, nearest_lists

LEAST_SPARE_ROWS = 3
_NO_PLACES: NDArray[np.int64] = np.empty(0, np.int64)
_NO_SIMILARITIES: NDArray[np.float32] = np.empty(0, np.float32)
_thread = threading.local()


class ApproximateIndex:
    """An opened index file. Any number of threads may search it at the same time.

    rows: all of them, dead ones too. kind: as index_kinds names it. bytes: of the file.
    """

    def __init__(self, index: Any, parameters: Mapping[str, Any], size: int, *, gpu: bool) -> None:
        """index: FAISS's own. parameters: as `build_index` returned them. size: bytes of the file."""
        self._index = index
        self.rows = int(index.ntotal)
        self.kind = str(parameters["kind"])
        # A copy there is asked whatever has no bitmap: FAISS's GPU indexes take no selector.
        on_gpu = gpu and gpu_present() and self.kind in MOVE_TO_GPU
        self._on_gpu = to_gpu(index) if on_gpu else None
        self._asking_gpu = threading.Lock()
        self.bytes = size
        self._most = int(parameters["most_effort"])
        self._reaches = Reaches.from_parameters(parameters)
        self._lists = Lists.of(index)

    @staticmethod
    def open(path: Path, parameters: Mapping[str, Any], *, gpu: bool | None = None) -> ApproximateIndex:
        """Maps the file into memory. `parameters`: what `build_index` returned.

        The caller has verified the file's checksum: a damaged file must never reach FAISS. gpu: searches
        without a bitmap run on a GPU when there is one, in a copy there; None: as REGIONSEARCH_GPU says.
        """
        faiss = load_faiss()
        # Not IO_FLAG_MMAP: its lists are fetched ahead by 32 threads made for each search, which took 3.3 ms.
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        return ApproximateIndex(
            index, parameters, path.stat().st_size, gpu=gpu_wished() if gpu is None else gpu
        )

    def search(
        self,
        vector: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.uint8] | None = None,
        allowed_count: int | None = None,
        effort: float = 1.0,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Places and estimated similarities to `vector` (d,), best first.

        More than k rows where estimates are too coarse to stop at k: the caller scores them exactly. Never a
        row that `allowed` leaves out (bit i of byte i // 8 is row i); always min(k, allowed_count) rows or
        more. allowed_count: bits that are set, counted here when it is not said. effort: times what was
        found best when the index was built.

        Under a bitmap as many allowed rows are compared as a search without one compares rows, wherever
        they lie: the fewer are allowed, the more lists are probed.
        """
        if allowed is None:
            count = self.rows
        elif allowed_count is None:
            count = int(np.unpackbits(allowed, count=self.rows, bitorder="little").sum())
        else:
            count = allowed_count
        needed = min(k, count)
        if needed <= 0:
            return _NO_PLACES, _NO_SIMILARITIES
        _single_thread()
        query = np.ascontiguousarray(vector, np.float32)
        similarities = None if self._lists is None else self._lists.similarities(query)
        # Nothing tells near and far questions apart without centroids; both have the same reach then.
        reach = self._reaches.of(0.0 if similarities is None else float(similarities.max()))
        fetched = min(count, max(k + LEAST_SPARE_ROWS, math.ceil(k * reach.spare)))
        units = reach.level if similarities is None else float(lists_within(similarities, reach))
        share = count / self.rows
        if self._lists is None:
            units /= share
        elif share < 1:
            rows_each = self.rows / self._lists.count
            units = self._reaches.under_a_filter(int(units), k, rows_each, share)
        probed = math.ceil(min(self._most, min(self._most, units) * self._reaches.times(k) * effort))
        found = self._found(query, fetched, probed, similarities, allowed)
        if len(found[0]) < needed and probed < self._most:
            found = self._found(query, fetched, self._most, similarities, allowed)
        return found

    def _found(
        self,
        query: NDArray[np.float32],
        fetched: int,
        probed: int,
        similarities: NDArray[np.float32] | None,
        allowed: NDArray[np.uint8] | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        faiss = load_faiss()
        selector = None if allowed is None else faiss.IDSelectorBitmap(allowed)
        how = search_parameters(self._index, probed, selector)
        if self._on_gpu is not None and allowed is None:
            # FAISS's GPU indexes answer one thread at a time.
            with self._asking_gpu:
                found = self._on_gpu.search(query[None], fetched, params=how)
        elif self._lists is not None and similarities is not None and self._lists.preassigned:
            lists = nearest_lists(similarities, probed)
            found = self._lists.search(query[None], fetched, [lists], [similarities[lists]], how)
        else:
            found = self._index.search(query[None], fetched, params=how)
        nearness, places = found[0][0], found[1][0]
        there = places >= 0
        return places[there], nearness[there]


def _single_thread() -> None:
    """FAISS keeps a pool of threads for each thread that calls it; one query has no work for several."""
    if not getattr(_thread, "single", False):
        load_faiss().omp_set_num_threads(1)
        _thread.single = True
