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

_thread = threading.local()


class ApproximateIndex:
    """An opened index file. Any number of threads may search it at the same time.

    rows: all of them, dead ones too. kind: as index_kinds names it. bytes: of the file.
    """

    def __init__(self, index: Any, parameters: Mapping[str, Any], size: int) -> None:
        self._index = index
        self.rows = int(index.ntotal)
        self.kind = str(parameters["kind"])
        self.bytes = size
        self._lists = int(parameters["lists"])
        self._probes = int(parameters["probes"])
        self._spare = float(parameters["spare"])

    @staticmethod
    def open(path: Path, parameters: Mapping[str, Any]) -> ApproximateIndex:
        """`parameters`: what `build_index` returned. The caller has verified the file's checksum: a damaged
        file must never reach FAISS."""
        faiss = load_faiss()
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
        return ApproximateIndex(index, parameters, path.stat().st_size)

    def search(
        self,
        vector: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.uint8] | None = None,
        allowed_count: int | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Places and estimated similarities to `vector` (d,), best first.

        More than k rows where estimates are too coarse to stop at k: the caller scores them exactly. Never a
        row that `allowed` leaves out (bit i of byte i // 8 is row i); always min(k, allowed_count) rows or
        more. allowed_count: bits that are set, counted here when it is not said.
        """
        faiss = load_faiss()
        if getattr(_thread, "single", False) is False:
            # FAISS keeps a pool of threads for each calling thread; one query has no work for several.
            faiss.omp_set_num_threads(1)
            _thread.single = True
        if allowed is None:
            count = self.rows
        else:
            count = int(np.unpackbits(allowed).sum()) if allowed_count is None else allowed_count
        needed = min(k, count)
        if needed <= 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        fetched = min(count, math.ceil(k * self._spare))
        selector = None if allowed is None else faiss.IDSelectorBitmap(allowed)
        probes = min(self._lists, math.ceil(self._probes * self.rows / count))
        places, similarities = self._found(vector, fetched, probes, selector)
        if len(places) < needed and probes < self._lists:
            places, similarities = self._found(vector, fetched, self._lists, selector)
        return places, similarities

    def _found(
        self, vector: NDArray[np.float32], fetched: int, probes: int, selector: Any
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        faiss = load_faiss()
        if self._lists:
            how = faiss.SearchParametersIVF(sel=selector, nprobe=probes)
        else:
            how = faiss.SearchParameters(sel=selector)
        query = np.ascontiguousarray(vector, np.float32)[None]
        similarities, places = self._index.search(query, fetched, params=how)
        there = places[0] >= 0
        return places[0][there], similarities[0][there]
