"""How fast finished records are stored durably: a table, and JSON.

    python -m benchmarks.insertion [--images 20000] [--sustained 125000] [--folder DIR] [--json FILE]

Images of 8 entities with 384-d vectors of the hard generator, boxes as masks, a small payload with two
declared fields, no pixels. Records are made before the clock starts (burst) or in pieces between which it
stands still (sustained); every call is acknowledged before the next one of its thread.

burst: calls of 64 and of 256 images from 1 and 2 threads. floor: the same bytes put by one thread into a bare
LMDB and synced in the same groups, in the same loop, which no way of storing records in LMDB can beat.
sustained: calls of 256 from one thread beside the collection's own upkeep, until all index segments are
sealed. searches: one search after the other beside a writer, paced to a rate and as fast as it can.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reports import hand_out, machine
from regionsearch.collection import Collection, CollectionSpec, DataDirectory, ImageRecord
from regionsearch.collection.records import IndexedField
from regionsearch.entities import Entities
from regionsearch.evaluation.vector_generator import VectorSet, hard_vectors
from regionsearch.fingerprint import Fingerprint

DIMENSION = 384
ENTITIES = 8
HEIGHT, WIDTH = 480, 640
OUTLINES = 500
"""Distinct sets of boxes, which the images share."""
PIECE = 8_192
"""Images made at a time while the clock stands still: 120 MB."""


def outlines(random: np.random.Generator) -> list[Entities]:
    corners = random.uniform(0, [WIDTH - 130, HEIGHT - 130], (OUTLINES, ENTITIES, 2))
    boxes = np.concatenate([corners, corners + random.uniform(10, 130, corners.shape)], axis=2)
    objectness = random.random((OUTLINES, ENTITIES), np.float32)
    return [
        Entities.from_boxes(each.astype(np.float32), HEIGHT, WIDTH, own)
        for each, own in zip(boxes, objectness, strict=True)
    ]


def images(vectors: VectorSet, first: int, count: int, known: Sequence[Entities]) -> list[ImageRecord]:
    random = np.random.default_rng(first)
    rows = vectors.draw(count * (1 + ENTITIES), random).reshape(-1, 1 + ENTITIES, DIMENSION)
    return [
        ImageRecord(
            image_id=f"{number % 97:02}/{number:08}.jpg",
            width=WIDTH,
            height=HEIGHT,
            entities=known[number % OUTLINES],
            vectors=own,
            payload={"year": 1990 + number % 40, "maker": f"maker {number % 12}", "number": number},
        )
        for number, own in enumerate(rows, first)
    ]


def spec(name: str) -> CollectionSpec:
    return CollectionSpec(
        name,
        Fingerprint("random", "", DIMENSION, 1),
        Fingerprint("none", "", 0, 1),
        indexed_fields=(IndexedField("year", "number"), IndexedField("maker", "string")),
    )


def calls(given: Sequence[ImageRecord], size: int) -> Iterator[Sequence[ImageRecord]]:
    for first in range(0, len(given), size):
        yield given[first : first + size]


def write(collection: Collection, given: Sequence[ImageRecord], size: int, threads: int) -> float:
    """Seconds."""
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(collection.upsert, calls(given, size)):
            pass
    return time.perf_counter() - start


def write_bare(folder: Path, values: Sequence[bytes], size: int) -> float:
    """Seconds: the same bytes in a bare LMDB."""
    import lmdb

    folder.mkdir()
    with lmdb.open(str(folder), map_size=1 << 38) as environment:
        start = time.perf_counter()
        for first in range(0, len(values), size):
            with environment.begin(write=True) as transaction:
                for number, value in enumerate(values[first : first + size], first):
                    transaction.put(number.to_bytes(8, "big"), value)
        return time.perf_counter() - start


def burst(directory: DataDirectory, folder: Path, given: Sequence[ImageRecord]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    values = [b"".join((bytes(500), each.vectors.tobytes())) for each in given[: len(given) // 2]]
    for size, threads in itertools.product((64, 256), (1, 2)):
        name = f"{threads} thread{'s' * (threads > 1)}, {size} a call"
        collection = directory.create_collection(spec(f"burst-{size}-{threads}"))
        collection.load()
        cpu = time.process_time()
        seconds = write(collection, given, size, threads)
        cpu = time.process_time() - cpu
        bare = write_bare(folder / f"bare-{size}-{threads}", values, size)
        figures[name] = {
            "images_per_second": len(given) / seconds,
            "entities_per_second": ENTITIES * len(given) / seconds,
            "images_per_cpu_second": len(given) / cpu,
            "floor_images_per_second": len(values) / bare,
        }
        directory.drop_collection(collection.spec.name)
    return figures


def sustained(directory: DataDirectory, count: int, known: Sequence[Entities]) -> dict[str, Any]:
    vectors = hard_vectors(DIMENSION)
    collection = directory.create_collection(spec("sustained"))
    collection.load()
    writing = 0.0
    slowest = 0.0
    for first in range(0, count, PIECE):
        some = min(PIECE, count - first)
        given = images(vectors, first, some, known)
        for call in calls(given, 256):
            start = time.perf_counter()
            collection.upsert(call)
            took = time.perf_counter() - start
            writing += took
            slowest = max(slowest, took)
    start = time.perf_counter()
    collection.seal()
    sealing = time.perf_counter() - start
    stats = collection.stats
    return {
        "images": count,
        "entities": stats.entities,
        "writing_seconds": writing,
        "sealing_seconds_after": sealing,
        "entities_per_second_written": stats.entities / writing,
        "entities_per_second_sealed": stats.entities / (writing + sealing),
        "slowest_call_ms": 1_000 * slowest,
        "segments": [segment.entities for segment in stats.segments],
        "fresh_rows": stats.fresh_rows,
    }


def searches(
    collection: Collection, given: Sequence[ImageRecord], rate: float | None, seconds: float
) -> dict[str, float]:
    """Milliseconds of one search after the other while `rate` entities a second are written (None: none)."""
    stop = threading.Event()
    written = 0

    def keep_writing() -> None:
        nonlocal written
        begun = time.perf_counter()
        for call in itertools.cycle(calls(given, 64)):
            if stop.is_set():
                return
            collection.upsert(call)
            written += ENTITIES * len(call)
            if rate is not None and rate > 0:
                stop.wait(max(0.0, begun + written / rate - time.perf_counter()))

    writer = threading.Thread(target=keep_writing)
    if rate is not None:
        writer.start()
    times = []
    until = time.perf_counter() + seconds
    place = 0
    while time.perf_counter() < until:
        query = given[place % len(given)].vectors[0]
        place += 1
        start = time.perf_counter()
        collection.search(query, 10)
        times.append(1_000 * (time.perf_counter() - start))
    stop.set()
    if rate is not None:
        writer.join()
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "slowest_ms": max(times),
        "searches": len(times),
        "entities_per_second_written": written / seconds,
    }


def beside_a_writer(
    directory: DataDirectory, given: Sequence[ImageRecord], seconds: float
) -> dict[str, dict[str, float]]:
    collection = directory.create_collection(spec("searched"))
    for call in calls(given, 256):
        collection.upsert(call)
    collection.seal()
    rewritten = [replace(each, image_id=f"other {each.image_id}") for each in given[:4_096]]
    return {
        "quiet": searches(collection, rewritten, None, seconds),
        "1,000 entities a second": searches(collection, rewritten, 1_000, seconds),
        "as fast as it can": searches(collection, rewritten, 0, seconds),
        "quiet again": searches(collection, rewritten, None, seconds),
    }


def table(report: dict[str, Any]) -> str:
    lines = [f"{'burst':28}{'entities/s':>12}{'images/s':>10}{'per cpu s':>11}{'floor':>9}"]
    for name, each in report["burst"].items():
        lines.append(
            f"{name:28}{each['entities_per_second']:12,.0f}{each['images_per_second']:10,.0f}"
            f"{each['images_per_cpu_second']:11,.0f}{each['floor_images_per_second']:9,.0f}"
        )
    if "sustained" in report:
        each = report["sustained"]
        lines.append(
            f"sustained: {each['entities']:,} entities, {each['entities_per_second_written']:,.0f} a second; "
            f"sealing included {each['entities_per_second_sealed']:,.0f}; "
            f"slowest call {each['slowest_call_ms']:,.0f} ms; {len(each['segments'])} segments"
        )
    lines.append(
        f"{'searches beside a writer':28}{'p50 ms':>10}{'p99 ms':>10}{'slowest':>10}{'written/s':>12}"
    )
    for name, each in report["searches"].items():
        lines.append(
            f"{name:28}{each['p50_ms']:10.2f}{each['p99_ms']:10.2f}{each['slowest_ms']:10.1f}"
            f"{each['entities_per_second_written']:12,.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, help="of a burst (default: 20000)")
    parser.add_argument("--sustained", type=int, default=125_000, help="images, 0: none (default: 125000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run of searches (default: 10)")
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="a file for the JSON (default: below the table)")
    arguments = parser.parse_args()
    known = outlines(np.random.default_rng(0))
    report: dict[str, Any] = {"machine": machine(), "dimension": DIMENSION, "entities_an_image": ENTITIES}
    given = images(hard_vectors(DIMENSION), 0, arguments.images, known)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        with DataDirectory(Path(folder) / "data", "write") as directory:
            report["burst"] = burst(directory, Path(folder), given)
            report["searches"] = beside_a_writer(directory, given, arguments.seconds)
        if arguments.sustained:
            del given
            with DataDirectory(Path(folder) / "sustained", "write") as directory:
                report["sustained"] = sustained(directory, arguments.sustained, known)
    hand_out(report, table(report), arguments.json)


if __name__ == "__main__":
    main()
