"""What storing vectors in half precision would save, lose and cost.

    python -m benchmarks.stored_precision --vectors vectors.npy [--json REPORT]

A collection stores its vectors as float32. Half as many bytes would be read from disk, but each row would
have to be widened before FAISS's inner-product kernel can compare it; FAISS's own decoder does that, some
twenty times faster than numpy. Measured in turn, on the same rows:
what changes in cosines and in the ten nearest, and the time of the two things that read stored vectors, the
exact scoring of single rows that an index handed on, and joint scoring of whole images.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.reports import hand_out, machine
from regionsearch.collection.inner_products import products_where_they_lie

RESCORED = (20, 100)
"""Rows handed on by an index of one byte, and of one bit, a coordinate."""
IMAGES, ROWS_OF_AN_IMAGE, QUERY_VECTORS = 200, 33, 4
QUERIES, NEAREST = 300, 10
ROUNDS = 60


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compare float32 and float16 as what is stored.")
    parser.add_argument("--vectors", type=Path, required=True, help=".npy file (n, d) of unit vectors")
    parser.add_argument("--json", type=Path, help="write the report here")
    options = parser.parse_args(arguments)
    report = measured(np.load(options.vectors, allow_pickle=False).astype(np.float32))
    lines = [f"{report['vectors']:,} vectors of {report['dimension']} dimensions"]
    lines += [f"  {name:<34}{value:>12.6f}" for name, value in report["loss"].items()]
    lines += [
        f"  {name:<34}{row['float32_ms']:>9.3f} ms{row['float16_ms']:>9.3f} ms   × {row['ratio']:.2f}"
        for name, row in report["time"].items()
    ]
    hand_out(report, "\n".join(lines), options.json)


def measured(vectors: NDArray[np.float32]) -> dict[str, Any]:
    """The report, of (n, d) unit vectors, n at least QUERIES + IMAGES × ROWS_OF_AN_IMAGE."""
    random = np.random.default_rng(0)
    places = random.permutation(len(vectors))
    queries, stored = vectors[places[:QUERIES]], vectors[places[QUERIES:]]
    half = stored.astype(np.float16)
    exact, rough = stored @ queries.T, half.astype(np.float32) @ queries.T
    right, found = (np.argsort(-each, axis=0)[:NEAREST].T for each in (exact, rough))
    same = [len(set(one) & set(other)) / NEAREST for one, other in zip(right, found, strict=True)]
    loss = {
        "largest_change_of_a_cosine": float(np.abs(exact - rough).max()),
        "mean_change_of_a_cosine": float(np.abs(exact - rough).mean()),
        "recall_at_10": float(np.mean(same)),
        "same_order_of_10": float(
            np.mean([(one == other).all() for one, other in zip(right, found, strict=True)])
        ),
    }
    times = {
        f"score_{count}_single_rows": _both(
            [row[None] for row in stored[:count]], [row[None] for row in half[:count]], queries[:1]
        )
        for count in RESCORED
    }
    images = [
        slice(first, first + ROWS_OF_AN_IMAGE)
        for first in range(0, IMAGES * ROWS_OF_AN_IMAGE, ROWS_OF_AN_IMAGE)
    ]
    times[f"joint_{IMAGES}_images_of_{ROWS_OF_AN_IMAGE}"] = _both(
        [stored[rows] for rows in images], [half[rows] for rows in images], queries[:QUERY_VECTORS]
    )
    return {
        "machine": machine(),
        "vectors": len(vectors),
        "dimension": vectors.shape[1],
        "bytes_a_vector": {"float32": 4 * vectors.shape[1], "float16": 2 * vectors.shape[1]},
        "loss": loss,
        "time": times,
    }


def _both(
    single: Sequence[NDArray[np.float32]], half: Sequence[NDArray[np.float16]], queries: NDArray[np.float32]
) -> dict[str, float]:
    """Medians of rounds in turn, so that both see the same moods of the machine."""
    asked = list(queries)
    widened = _decoder(queries.shape[1])
    seconds: dict[str, list[float]] = {"float32": [], "float16": []}
    for _ in range(ROUNDS):
        seconds["float32"].append(_timed(lambda: products_where_they_lie(single, asked)))
        seconds["float16"].append(
            _timed(lambda: products_where_they_lie([widened(rows) for rows in half], asked))
        )
    medians = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    return {
        "float32_ms": medians["float32"],
        "float16_ms": medians["float16"],
        "ratio": medians["float16"] / medians["float32"],
    }


def _decoder(dimension: int) -> Callable[[NDArray[np.float16]], NDArray[np.float32]]:
    codec = faiss.ScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16)

    def widened(rows: NDArray[np.float16]) -> NDArray[np.float32]:
        single: NDArray[np.float32] = codec.decode(np.ascontiguousarray(rows).view(np.uint8))
        return single

    return widened


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
