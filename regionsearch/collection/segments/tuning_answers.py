"""The exact nearest rows of many questions, kept while rows stream by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.inner_products import load_faiss


@dataclass(frozen=True, eq=False)
class BestRows:
    """vectors: (q, d) float32, the questions. similarities, places: (q, k) of the best rows seen so far, best
    first, by inner product; -inf and -1 where there are fewer."""

    vectors: NDArray[np.float32]
    similarities: NDArray[np.float32]
    places: NDArray[np.int64]

    @staticmethod
    def of(vectors: NDArray[np.float32], k: int) -> BestRows:
        """Before any row was seen."""
        shape = (len(vectors), k)
        return BestRows(vectors, np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64))

    def seen(self, rows: NDArray[np.float32], places: NDArray[np.int64]) -> BestRows:
        """With the rows (n, d), which lie at these places (n,), among the answers."""
        if not len(rows):
            return self
        faiss = load_faiss()
        k = self.places.shape[1]
        similarities, found = faiss.knn(
            self.vectors, rows, min(k, len(rows)), metric=faiss.METRIC_INNER_PRODUCT
        )
        similarities = np.concatenate([self.similarities, similarities], axis=1)
        merged = np.concatenate([self.places, places[found]], axis=1)
        best = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        return BestRows(
            self.vectors, np.take_along_axis(similarities, best, 1), np.take_along_axis(merged, best, 1)
        )


def found_shares(truth: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.float64]:
    """(q,) shares of the right places (q, k) that are among the found ones (q, m); -1 is no place. A question
    without a right answer has all of them."""
    there = truth >= 0
    among = (truth[:, :, None] == found[:, None, :]).any(axis=2) & there
    right = there.sum(axis=1)
    return np.where(right > 0, among.sum(axis=1) / np.maximum(right, 1), 1.0)
