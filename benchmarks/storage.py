"""What storing and exact search cost on this machine: a table, and JSON with --json.

    python -m benchmarks.storage [--images 5000] [--folder DIR] [--json]

Vectors are random unit vectors; all is measured through the public `Collection`, warm, in one process,
FAISS on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Collection, CollectionSpec, DataDirectory, ImageRecord
from regionsearch.entities import Entities
from regionsearch.fingerprint import Fingerprint
from regionsearch.regions import Mask

DIMENSION = 640
HEIGHT, WIDTH = 480, 640


def unit_vectors(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    vectors = random.standard_normal((count, DIMENSION), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def round_masks(random: np.random.Generator, count: int) -> list[Mask]:
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    masks = []
    for _ in range(count):
        row, column, radius = random.integers(100, 380), random.integers(100, 540), random.integers(20, 100)
        masks.append(Mask.from_array((y - row) ** 2 + (x - column) ** 2 < radius**2))
    return masks


def records(random: np.random.Generator, count: int, entities: int) -> list[ImageRecord]:
    masks = round_masks(random, entities)
    outlined = Entities.from_masks(masks, random.random(entities).astype(np.float32))
    return [
        ImageRecord(
            image_id=f"{number:07}.jpg",
            width=WIDTH,
            height=HEIGHT,
            entities=outlined,
            vectors=unit_vectors(random, 1 + entities),
            content_hash=random.bytes(32).hex(),
            payload={"number": number},
        )
        for number in range(count)
    ]


def milliseconds(action: Callable[[], object], repeat: int = 40) -> tuple[float, float]:
    """Median and best of `repeat` calls after one that warms up."""
    action()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        action()
        times.append(1_000 * (time.perf_counter() - start))
    return float(np.median(times)), min(times)


def spec(name: str) -> CollectionSpec:
    return CollectionSpec(name, Fingerprint("random", "", DIMENSION, 1), Fingerprint("none", "", 0, 1))


def measure_writes(directory: DataDirectory, given: Sequence[ImageRecord]) -> dict[str, float]:
    """Images a second: in calls of 32, one a call from one thread, one a call from 16 threads."""
    figures = {}
    collection = directory.create_collection(spec("calls-of-32"))
    start = time.perf_counter()
    for first in range(0, len(given), 32):
        collection.upsert(given[first : first + 32])
    figures["upsert_32_a_call"] = len(given) / (time.perf_counter() - start)
    some = given[:400]
    for threads in (1, 16):
        collection = directory.create_collection(spec(f"threads-{threads}"))
        commits = directory.commits
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda record, into=collection: into.upsert([record]), some))
        figures[f"upsert_1_a_call_{threads}_threads"] = len(some) / (time.perf_counter() - start)
        figures[f"commits_a_write_{threads}_threads"] = (directory.commits - commits) / len(some)
    return figures


def measure_searches(collection: Collection, random: np.random.Generator) -> dict[str, tuple[float, float]]:
    query = unit_vectors(random, 1)[0]
    rows = collection.stats.entities
    return {
        f"search_{rows}_rows_k_{k}": milliseconds(lambda k=k: collection.search(query, k))
        for k in (10, 200, 2_000, rows)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=5_000, help="with 8 entities each (default: 5000)")
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    timings: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "data"
        with DataDirectory(path, "write") as directory:
            rates = measure_writes(directory, records(random, arguments.images, 8))
            large = directory.create_collection(spec("large"))
            large.upsert(records(random, 400, 32))
        with DataDirectory(path, "write") as directory:
            collection = directory.collection("calls-of-32")
            start = time.perf_counter()
            collection.load()
            rates["load_seconds"] = time.perf_counter() - start
            timings |= measure_searches(collection, random)
            for name, kept in (("8", collection), ("32", directory.collection("large"))):
                numbers = kept.sample_numbers(200, 0)
                timings[f"candidates_200_of_{name}_entities"] = milliseconds(
                    lambda kept=kept, numbers=numbers: kept.candidates(numbers)
                )
                timings[f"records_10_of_{name}_entities"] = milliseconds(
                    lambda kept=kept, numbers=numbers: kept.records(numbers[:10])
                )
            known = [(image.image_id, image.content_hash) for image in collection.list(100)[0]]
            timings["is_stored_of_100"] = milliseconds(
                lambda: [collection.is_stored(image_id, digest) for image_id, digest in known]
            )
    figures = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "dimension": DIMENSION,
        "images": arguments.images,
        "rates": {name: round(value, 3) for name, value in rates.items()},
        "milliseconds": {
            name: {"median": round(median, 3), "best": round(best, 3)}
            for name, (median, best) in timings.items()
        },
    }
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in rates.items():
        print(f"{name:40} {value:12.2f}")
    print(f"{'':40} {'median ms':>12} {'best ms':>12}")
    for name, (median, best) in timings.items():
        print(f"{name:40} {median:12.2f} {best:12.2f}")


if __name__ == "__main__":
    main()
