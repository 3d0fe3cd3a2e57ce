"""How long `Collection.search` takes, whole, through a sealed collection, and what it finds.

    python -m benchmarks.collection_search --entities 100000 --vectors-from hard

Entities of images with 8 each are written, sealed, and asked for one after the other on one thread: asking
the index, reading the records of what it hands on, and their exact similarities. Recall is against
exact search.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.insertion import ENTITIES, calls, images, outlines, spec
from regionsearch.collection import Collection, DataDirectory
from regionsearch.evaluation.vector_generator import VectorSet, easy_vectors, hard_vectors, queries

DIMENSION = 384
PIECE = 4_096
K = 10


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time searches of a sealed collection.")
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument("--vectors-from", choices=("hard", "easy"), default="hard")
    parser.add_argument("--queries", type=int, default=300)
    options = parser.parse_args(arguments)
    vectors = (hard_vectors if options.vectors_from == "hard" else easy_vectors)(DIMENSION)
    asked = queries(vectors, options.queries)
    with (
        tempfile.TemporaryDirectory(prefix="regionsearch-bench-") as folder,
        DataDirectory(Path(folder), "write") as directory,
    ):
        collection = directory.create_collection(spec("c"))
        collection.load()
        best = _filled(collection, vectors, options.entities // ENTITIES, asked)
        collection.seal()
        kinds = [each.entity_index for each in collection.stats.segments]
        print(json.dumps({"segments": kinds, **_asked(collection, asked, best)}, indent=2))


def _filled(
    collection: Collection, vectors: VectorSet, count: int, asked: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(q,) the tenth largest similarity to each question, among the entities that were written."""
    known = outlines(np.random.default_rng(0))
    best = np.full((len(asked), K), -np.inf, np.float32)
    for first in range(0, count, PIECE):
        given = images(vectors, first, min(PIECE, count - first), known)
        for call in calls(given, 256):
            collection.upsert(call)
        rows = np.concatenate([each.vectors[1:] for each in given])
        best = np.sort(np.concatenate([best, asked @ rows.T], axis=1), axis=1)[:, -K:]
    return best[:, 0]


def _asked(collection: Collection, asked: NDArray[np.float32], least: NDArray[np.float32]) -> dict[str, Any]:
    passed, worked, found = [], [], []
    for query, tenth in zip(asked, least, strict=True):
        begun = time.perf_counter(), time.thread_time()
        answer = collection.search(query, K)
        worked.append(time.thread_time() - begun[1])
        passed.append(time.perf_counter() - begun[0])
        # A product of BLAS and one of FAISS differ in the last places.
        found.append(float((answer.similarities[:K] >= tenth - 1e-5).mean()))
    return {
        "recall_at_10": float(np.mean(found)),
        "p50_ms": float(np.median(passed) * 1000),
        "p99_ms": float(np.quantile(passed, 0.99) * 1000),
        "cpu_p50_ms": float(np.median(worked) * 1000),
    }


if __name__ == "__main__":
    main()
