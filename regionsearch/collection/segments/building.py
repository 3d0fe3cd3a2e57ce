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
from regionsearch.collection.segments.building_centroids import fit_centroids
from regionsearch.collection.segments.gpu import from_gpu, gpu_present, gpu_wished, to_gpu
from regionsearch.collection.segments.index_kinds import (
    MOVE_TO_GPU,
    IndexKind,
    choose_kind,
    empty_index,
    inverted_file,
    kind_for,
)
from regionsearch.collection.segments.tuning import SAMPLE_ROWS, Index, Questions, tune
from regionsearch.collection.segments.tuning_asking import tuned_index

CALL_PRODUCTS = 2_000_000
"""Inner products of one call of FAISS: some 30 ms on one core at 384 dimensions."""
MAX_CALL_ROWS = 4096
RANGE_ROWS = 10_000
"""Rows, at least, of which the range of each coordinate is taken."""
TRAIN_CALL_ROWS = 256


class VectorSource(Protocol):
    """The vectors of one arm in the order of their places. rows: how many; dimension: of each."""

    @property
    def rows(self) -> int: ...

    @property
    def dimension(self) -> int: ...

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
    path: Path,
    source: VectorSource,
    wish: IndexWish,
    pace: Pace,
    *,
    gpu: bool | None = None,
    start: NDArray[np.float32] | None = None,
) -> BuiltIndex:
    """Writes the index of all rows of `source` to `path` (not synced). Ids in the file are places.

    gpu: assign and encode on a GPU when there is one; None: as REGIONSEARCH_GPU says. start: (s, d)
    `centroids_of` an index of some of these rows. Raises what the source raises, ValueError when it gives
    other than `source.rows` rows, and what `pace` raises.
    """
    on_gpu = (gpu_wished() if gpu is None else gpu) and gpu_present()
    kind = choose_kind(source.rows, source.dimension, wish)
    if on_gpu and kind.name not in MOVE_TO_GPU:
        kind = kind_for("ivf-sq8", source.rows)
    return build_kind(path, source, kind, wish.recall_target, pace, gpu=on_gpu, start=start)


def build_kind(
    path: Path,
    source: VectorSource,
    kind: IndexKind,
    recall_target: float,
    pace: Pace,
    *,
    gpu: bool = False,
    start: NDArray[np.float32] | None = None,
) -> BuiltIndex:
    """`build_index` with a kind that the caller has chosen. gpu: only where there is one, and for kinds of
    MOVE_TO_GPU."""
    faiss = load_faiss()
    index = empty_index(kind, source.dimension)
    try:
        questions = None
        if source.rows:
            sample = source.sample(max(kind.training_rows, RANGE_ROWS), 0)
            questions = Questions.from_sample(source.sample(SAMPLE_ROWS, 1))
            _train(index, sample, kind, pace, gpu=gpu, start=start)
            del sample
            index, questions = _filled(index, source, questions, kind, pace, gpu=gpu)
        parameters: dict[str, Any] = {"kind": kind.name, "most_effort": kind.most_effort}
        if questions is not None:
            tuned = tune(questions, recall_target, _tuned_index(index, kind, questions, pace))
            parameters |= {
                **tuned.reaches.parameters(),
                "recall": round(tuned.recall, 4),
                "far_recall": round(tuned.far_recall, 4),
            }
        faiss.write_index(index, str(path))
    finally:
        # The number of threads belongs to this thread, which may search next.
        faiss.omp_set_num_threads(1)
    return BuiltIndex(kind.name, source.rows, path.stat().st_size, parameters)


def centroids_of(path: Path) -> NDArray[np.float32] | None:
    """(lists, d) of an index file whose checksum has been verified, None of a flat one."""
    faiss = load_faiss()
    # Whatever refers to the parts of an index must not outlive it.
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    inverted = inverted_file(index)
    if inverted is None:
        return None
    centroids: NDArray[np.float32] = faiss.downcast_index(inverted.quantizer).reconstruct_n(0, inverted.nlist)
    return centroids


def _train(
    index: Any,
    sample: NDArray[np.float32],
    kind: IndexKind,
    pace: Pace,
    *,
    gpu: bool,
    start: NDArray[np.float32] | None,
) -> None:
    faiss = load_faiss()
    if kind.lists:

        def assign(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
            faiss.omp_set_num_threads(pace.threads())
            if gpu:
                flat = faiss.IndexFlatIP(centroids.shape[1])
                flat.add(centroids)
                nearest: NDArray[np.int64] = to_gpu(flat).search(vectors, 1)[1][:, 0]
            else:
                nearest = faiss.knn(vectors, centroids, 1, metric=faiss.METRIC_INNER_PRODUCT)[1][:, 0]
            return nearest

        step = _call_rows(kind.lists)
        centroids = fit_centroids(
            sample, kind.lists, assign, step, start=start, breathe=lambda done: pace.breathe(0.3 * done)
        )
        inverted = inverted_file(index)
        faiss.downcast_index(inverted.quantizer).add(centroids)
        # So few that the call is short: what is left to learn is what _set_ranges sets.
        inverted.train(sample[:TRAIN_CALL_ROWS])
        if kind.name in ("ivf-sq8", "ivf-sq6"):
            low, high = np.full_like(sample[0], np.inf), np.full_like(sample[0], -np.inf)
            for first in range(0, len(sample), step):
                pace.breathe(0.3)
                part = sample[first : first + step]
                residuals = part - centroids[assign(part, centroids)]
                low, high = np.minimum(low, residuals.min(axis=0)), np.maximum(high, residuals.max(axis=0))
            _set_ranges(inverted.sq, low, high)
    whole = {"ivf-rabitq-sq8": "refine_index", "hnsw16-sq8": "storage", "hnsw32-sq8": "storage"}
    if kind.name == "flat-sq8" or kind.name in whole:
        # Codes of the vectors themselves, not of what they are from their centroids.
        holder = faiss.downcast_index(getattr(index, whole[kind.name])) if kind.name in whole else index
        _set_ranges(holder.sq, sample.min(axis=0), sample.max(axis=0))
        holder.is_trained = True
    index.is_trained = True


def _set_ranges(codec: Any, low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
    """What FAISS's own training of 8 bit codes comes to, which it would not do in small steps."""
    load_faiss().copy_array_to_vector(np.concatenate([low, high - low]), codec.trained)


def _filled(
    index: Any, source: VectorSource, questions: Questions, kind: IndexKind, pace: Pace, *, gpu: bool
) -> tuple[Any, Questions]:
    """The index with all rows, and the questions with their right answers among them."""
    faiss = load_faiss()
    filling = to_gpu(index) if gpu else index
    # A graph compares a row with some hundreds of others, one by one.
    step = 64 if kind.name.startswith("hnsw") else _call_rows(kind.lists)
    added = 0
    for block in source.blocks():
        rows = np.ascontiguousarray(block, np.float32)
        for first in range(0, len(rows), step):
            pace.breathe(0.3 + 0.6 * min(1.0, added / source.rows))
            faiss.omp_set_num_threads(pace.threads())
            part = rows[first : first + step]
            filling.add(part)
            questions = questions.seen(part, added)
            added += len(part)
    if added != source.rows:
        raise ValueError(f"the source said {source.rows} rows and gave {added}")
    return (from_gpu(filling) if gpu else index), questions


def _tuned_index(index: Any, kind: IndexKind, questions: Questions, pace: Pace) -> Index:
    def before() -> None:
        pace.breathe(0.9)
        load_faiss().omp_set_num_threads(pace.threads())

    return tuned_index(index, kind, questions.vectors, before, CALL_PRODUCTS)


def _call_rows(lists: int) -> int:
    return max(1, min(MAX_CALL_ROWS, CALL_PRODUCTS // max(1, lists)))
