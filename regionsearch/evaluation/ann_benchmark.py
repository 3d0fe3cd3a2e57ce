"""Kinds of index against exact search: recall, latency, time to build and bytes, on generated vectors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.records import IndexWish
from regionsearch.collection.segments.approximate import ApproximateIndex
from regionsearch.collection.segments.building import build_kind
from regionsearch.collection.segments.index_kinds import IndexKind, KindName, choose_kind, kind_for
from regionsearch.collection.segments.tuning_answers import BestRows, found_shares
from regionsearch.evaluation.vector_generator import BLOCK_ROWS, VectorSet, queries, rows

K = 10
SHARES_ALLOWED = (0.5, 0.1, 0.01, 0.001, 0.0001)
EFFORTS = (0.125, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0)
"""Points of a curve: times what the index was tuned to."""


@dataclass(frozen=True, eq=False)
class StoredVectors:
    """Vectors in a file that is mapped, not read: a million of 384 dimensions are 1.5 GB.

    A `VectorSource` for builds. array: (n, d) float32.
    """

    array: NDArray[np.float32]

    @property
    def rows(self) -> int:
        return len(self.array)

    @property
    def dimension(self) -> int:
        return int(self.array.shape[1])

    @staticmethod
    def generated(path: Path, vectors: VectorSet, count: int) -> StoredVectors:
        """The first `count` rows of a set, written to `path`."""
        shape = (count, vectors.dimension)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        for number, block in enumerate(rows(vectors, count)):
            array[number * BLOCK_ROWS : number * BLOCK_ROWS + len(block)] = block
        return StoredVectors(array)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        for first in range(0, self.rows, BLOCK_ROWS):
            yield np.asarray(self.array[first : first + BLOCK_ROWS])

    def sample(self, count: int, seed: int) -> NDArray[np.float32]:
        chosen = np.random.default_rng(seed).choice(self.rows, min(count, self.rows), replace=False)
        return np.asarray(self.array[np.sort(chosen)])


@dataclass(frozen=True, slots=True)
class FixedThreads:
    """A build that has the machine to itself."""

    number: int

    def threads(self) -> int:
        return self.number

    def breathe(self, done: float) -> None:
        del done


@dataclass(frozen=True, eq=False)
class Questions:
    """vectors: (q, d). nearest: (q, 10) places of the exact answers. allowed: for each share of
    SHARES_ALLOWED, (n,) which rows are allowed, and nearest_allowed: (q, 10) the exact answers among them,
    -1 where there are fewer."""

    vectors: NDArray[np.float32]
    nearest: NDArray[np.int64]
    allowed: dict[float, NDArray[np.bool_]] = field(default_factory=dict)
    nearest_allowed: dict[float, NDArray[np.int64]] = field(default_factory=dict)

    @staticmethod
    def of(vectors: VectorSet, stored: StoredVectors, count: int, *, shares: Sequence[float]) -> Questions:
        """Held-out draws with their exact answers, from one pass over the rows."""
        asked = queries(vectors, count)
        random = np.random.default_rng(7)
        allowed = {share: random.random(stored.rows) < share for share in shares}
        best = BestRows.of(asked, K)
        best_allowed = {share: BestRows.of(asked, K) for share in shares}
        for number, block in enumerate(stored.blocks()):
            places = np.arange(number * BLOCK_ROWS, number * BLOCK_ROWS + len(block))
            best = best.seen(block, places)
            for share, mask in allowed.items():
                inside = mask[places]
                best_allowed[share] = best_allowed[share].seen(block[inside], places[inside])
        nearest_allowed = {share: rows.places for share, rows in best_allowed.items()}
        return Questions(asked, best.places, allowed, nearest_allowed)


def measured(
    kind: IndexKind,
    stored: StoredVectors,
    questions: Questions,
    path: Path,
    *,
    recall_target: float,
    threads: int,
    curves: bool,
) -> dict[str, Any]:
    """Builds a kind at `path`, asks it one question after the other on one thread, and reports. Seconds,
    milliseconds, bytes; latencies are of the index and of scoring what it hands on from vectors in memory."""
    started = time.perf_counter()
    built = build_kind(path, stored, kind, recall_target, FixedThreads(threads))
    build_seconds = time.perf_counter() - started
    index = ApproximateIndex.open(path, built.parameters)
    report: dict[str, Any] = {
        "name": built.kind,
        **_asked(index, stored, questions),
        "build_s": build_seconds,
        "bytes_per_vector": built.bytes / max(1, stored.rows),
        "parameters": built.parameters,
    }
    if curves and kind.most_effort:
        report["curve"] = [
            {"effort": effort, **_asked(index, stored, questions, effort)} for effort in EFFORTS
        ]
    if curves and not kind.name.startswith("hnsw"):
        report["selectivity"] = [_filtered(index, stored, questions, share) for share in questions.allowed]
    return report


def kinds_to_compare(
    names: Sequence[KindName], stored_rows: int, wish: IndexWish, dimension: int
) -> list[IndexKind]:
    """The named kinds, and the one that a collection with this wish would choose, each once."""
    kinds = [kind_for(name, stored_rows) for name in names]
    chosen = choose_kind(stored_rows, dimension, wish)
    return kinds if chosen in kinds else [*kinds, chosen]


def _asked(
    index: ApproximateIndex, stored: StoredVectors, questions: Questions, effort: float = 1.0
) -> dict[str, Any]:
    found, clock = [], _Clock()
    for vector in questions.vectors:
        clock.start()
        places = index.search(vector, K, effort=effort)[0]
        best = _rescored(stored, places, vector)
        clock.stop()
        found.append(best)
    return {"recall_at_10": _recall(questions.nearest, found), **clock.report()}


def _filtered(
    index: ApproximateIndex, stored: StoredVectors, questions: Questions, share: float
) -> dict[str, Any]:
    mask = questions.allowed[share]
    bitmap, count = np.packbits(mask, bitorder="little"), int(mask.sum())
    found, clock, full = [], _Clock(), 0
    for vector in questions.vectors:
        clock.start()
        places = index.search(vector, K, allowed=bitmap, allowed_count=count)[0]
        best = _rescored(stored, places, vector)
        clock.stop()
        found.append(best)
        full += len(best) == min(K, count) and bool(mask[best].all())
    return {
        "allowed": share,
        "recall_at_10": _recall(questions.nearest_allowed[share], found),
        "full_answers": full / len(questions.vectors),
        **clock.report(),
    }


def _rescored(
    stored: StoredVectors, places: NDArray[np.int64], vector: NDArray[np.float32]
) -> NDArray[np.int64]:
    similarities = stored.array[places] @ vector
    return places[np.argsort(-similarities, kind="stable")[:K]]


def _recall(truth: NDArray[np.int64], found: Sequence[NDArray[np.int64]]) -> float:
    padded = np.full((len(found), K), -1, np.int64)
    for row, places in zip(padded, found, strict=True):
        row[: len(places)] = places
    return float(found_shares(truth, padded).mean())


class _Clock:
    """What each question takes: time that passes, and time of the processor on this thread, which is what
    counts on a machine with other work."""

    def __init__(self) -> None:
        self._passed: list[float] = []
        self._worked: list[float] = []

    def start(self) -> None:
        self._begun = time.perf_counter(), time.thread_time()

    def stop(self) -> None:
        self._passed.append(time.perf_counter() - self._begun[0])
        self._worked.append(time.thread_time() - self._begun[1])

    def report(self) -> dict[str, float]:
        """Milliseconds."""
        p50, p99 = np.percentile(np.array(self._passed) * 1000, [50, 99])
        cpu_p50, cpu_p99 = np.percentile(np.array(self._worked) * 1000, [50, 99])
        return {
            "p50_ms": float(p50),
            "p99_ms": float(p99),
            "cpu_p50_ms": float(cpu_p50),
            "cpu_p99_ms": float(cpu_p99),
        }
