"""Builds the FAISS file of one arm of a segment, in memory bounded by its codes and one block of vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.inner_products import load_faiss
from regionsearch.collection.records import IndexWish
from regionsearch.collection.segments.index_kinds import IndexKind, choose_kind

CALL_ROWS = 1024
"""Vectors handed to FAISS at once, so that no call keeps a search waiting for a core for long."""
TRAINING_ITERATIONS = 5


class VectorSource(Protocol):
    """The vectors of one arm in the order of their places. rows: how many; dimension: of each."""

    rows: int
    dimension: int

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """(m, d) float32 in order, some megabytes each; may be gone through several times."""

    def sample(self, count: int, seed: int) -> NDArray[np.float32]:
        """(min(count, rows), d) different rows, in ascending order of their places."""


class Pace(Protocol):
    """How a build shares the machine with searches."""

    def threads(self) -> int:
        """FAISS threads to use right now, 1 beside searches."""

    def breathe(self, done: float) -> None:
        """Called between calls of FAISS, `done` from 0 to 1. Raises Cancelled when the build must stop."""


@dataclass(frozen=True)
class BuiltIndex:
    """kind: as index_kinds names it. bytes: of the file. parameters: what `ApproximateIndex.open` needs,
    JSON-able."""

    kind: str
    rows: int
    bytes: int
    parameters: dict[str, Any]


def build_index(
    path: Path, source: VectorSource, wish: IndexWish, pace: Pace, *, gpu: bool = False
) -> BuiltIndex:
    """Writes the index of all rows of `source` to `path` (not synced). Ids in the file are places.

    Raises what the source raises, and Cancelled when `pace` does.
    """
    faiss = load_faiss()
    kind = choose_kind(source.rows, source.dimension, wish)
    sample = source.sample(max(kind.training_rows, 10_000), 0)
    faiss.omp_set_num_threads(pace.threads())
    index = faiss.index_factory(source.dimension, _factory(kind), faiss.METRIC_INNER_PRODUCT)
    if kind.lists:
        index.quantizer.add(_centroids(sample, kind.lists, pace))
        index.quantizer_trains_alone = 1
    if source.rows:
        index.train(sample)
    added = 0
    for block in source.blocks():
        for first in range(0, len(block), CALL_ROWS):
            pace.breathe(0.5 + 0.5 * added / source.rows)
            faiss.omp_set_num_threads(pace.threads())
            part = np.ascontiguousarray(block[first : first + CALL_ROWS], np.float32)
            index.add(part)
            added += len(part)
    if added != source.rows:
        raise ValueError(f"the source said {source.rows} rows and gave {added}")
    faiss.write_index(index, str(path))
    parameters = {"kind": kind.name, "lists": kind.lists, "probes": max(1, kind.lists // 16), "spare": 2.0}
    return BuiltIndex(kind.name, added, path.stat().st_size, parameters)


def _factory(kind: IndexKind) -> str:
    return f"IVF{kind.lists},SQ8" if kind.lists else "SQ8"


def _centroids(sample: NDArray[np.float32], count: int, pace: Pace) -> NDArray[np.float32]:
    """(count, d) by Lloyd's iterations in small steps, which FAISS's own training does not take."""
    faiss = load_faiss()
    random = np.random.default_rng(0)
    centroids = sample[random.permutation(len(sample))[:count]].copy()
    for iteration in range(TRAINING_ITERATIONS):
        sums = np.zeros((count, sample.shape[1]), np.float32)
        sizes = np.zeros(count, np.int64)
        for first in range(0, len(sample), CALL_ROWS):
            pace.breathe(0.5 * (iteration + first / len(sample)) / TRAINING_ITERATIONS)
            faiss.omp_set_num_threads(pace.threads())
            part = sample[first : first + CALL_ROWS]
            nearest = faiss.knn(part, centroids, 1, metric=faiss.METRIC_INNER_PRODUCT)[1][:, 0]
            order = np.argsort(nearest, kind="stable")
            found, starts = np.unique(nearest[order], return_index=True)
            sums[found] += np.add.reduceat(part[order], starts, axis=0)
            sizes += np.bincount(nearest, minlength=count)
        filled = sizes > 0
        centroids[filled] = sums[filled] / sizes[filled, None]
    return centroids
