"""How long searches take while rows are written, sealed and merged: a table, and JSON.

    python -m benchmarks.writes_beside_searches [--entities 100000] [--rate 1000] [--seconds 60]
        [--seal-rows 4096] [--fan-in 4] [--folder DIR] [--json FILE]

Images of 8 entities with 384-d vectors of the hard generator. A collection is filled and sealed; then
searches (`Collection.search`, k = 10) leave at appointed times from a thread of their own, and their time
counts from the appointed one: first with nothing beside them, then while another thread upserts `rate`
entities a second in calls of 64 images, and the upkeep seals and merges what is written. With --seal-rows
below the product's 16,384 and its fan-in of 8, seals and merges happen all the time.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.insertion import DIMENSION, ENTITIES, images, outlines, spec
from benchmarks.reports import hand_out, machine
from regionsearch.collection import Collection, DataDirectory, ImageRecord
from regionsearch.collection.segments.upkeep import UpkeepSettings
from regionsearch.evaluation.vector_generator import hard_vectors, queries

CALL_IMAGES = 64
PIECE = 4_096
SEARCHES_A_SECOND = 50.0


class Writer:
    """Upserts images that are made before it begins, `rate` entities a second, until it is stopped."""

    def __init__(self, collection: Collection, given: Sequence[ImageRecord], rate: float) -> None:
        self.written = 0
        self._collection = collection
        self._given = given
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._begun = time.perf_counter()
        self._thread.start()

    def _run(self) -> None:
        for first in range(0, len(self._given), CALL_IMAGES):
            if self._stop.is_set():
                return
            self._collection.upsert(self._given[first : first + CALL_IMAGES])
            self.written += ENTITIES * CALL_IMAGES
            due = self._begun + self.written / self._rate
            self._stop.wait(max(0.0, due - time.perf_counter()))

    def stop(self) -> float:
        """Entities a second that were written."""
        self._stop.set()
        self._thread.join()
        return self.written / (time.perf_counter() - self._begun)


def searched(collection: Collection, asked: NDArray[np.float32], seconds: float) -> dict[str, float]:
    """Milliseconds from the appointed time of each search to its answer."""
    times = []
    begun = time.perf_counter()
    for number in range(int(seconds * SEARCHES_A_SECOND)):
        due = begun + number / SEARCHES_A_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))
        collection.search(asked[number % len(asked)], 10)
        times.append(1_000 * (time.perf_counter() - due))
    p50, p99, p999 = np.percentile(times, [50, 99, 99.9])
    return {"p50_ms": p50, "p99_ms": p99, "p999_ms": p999, "slowest_ms": max(times), "searches": len(times)}


def measured(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    vectors = hard_vectors(DIMENSION)
    known = outlines(np.random.default_rng(0))
    asked = queries(vectors, 500)
    settings = UpkeepSettings(
        seal_rows=arguments.seal_rows, fan_in=arguments.fan_in, settle_seconds=arguments.seconds
    )
    coming = int(arguments.rate * arguments.seconds / ENTITIES) + CALL_IMAGES
    with DataDirectory(folder / "data", "write", upkeep=settings) as directory:
        collection = directory.create_collection(spec("c"))
        stored = arguments.entities // ENTITIES
        for first in range(0, stored, PIECE):
            collection.upsert(images(vectors, first, min(PIECE, stored - first), known))
        collection.compact()
        given = images(vectors, stored, coming, known)
        before = _newest(collection)
        figures = {"quiet": searched(collection, asked, arguments.seconds)}
        writer = Writer(collection, given, arguments.rate)
        figures["beside writes"] = searched(collection, asked, arguments.seconds)
        figures["beside writes"]["entities_written_per_second"] = writer.stop()
        stats = collection.stats
        return {
            "machine": machine(),
            "entities": arguments.entities,
            "rate": arguments.rate,
            "seal_rows": settings.seal_rows,
            "fan_in": settings.fan_in,
            "searches": figures,
            "segments_published": _newest(collection) - before,
            "segments": [segment.entities for segment in stats.segments],
            "fresh_rows": stats.fresh_rows,
        }


def _newest(collection: Collection) -> int:
    return max((segment.number for segment in collection.stats.segments), default=0)


def table(report: dict[str, Any]) -> str:
    lines = [f"{'searches':16}{'p50 ms':>9}{'p99 ms':>9}{'p99.9 ms':>10}{'slowest':>9}"]
    for name, each in report["searches"].items():
        lines.append(
            f"{name:16}{each['p50_ms']:9.2f}{each['p99_ms']:9.2f}{each['p999_ms']:10.2f}"
            f"{each['slowest_ms']:9.2f}"
        )
    beside = report["searches"]["beside writes"]
    lines.append(
        f"{beside['entities_written_per_second']:,.0f} entities a second written; "
        f"{report['segments_published']} segments published meanwhile; now {report['segments']}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--entities", type=int, default=100_000, help="stored before (default: 100000)")
    parser.add_argument("--rate", type=float, default=1_000, help="entities a second (default: 1000)")
    parser.add_argument("--seconds", type=float, default=60, help="of each of the two (default: 60)")
    parser.add_argument("--seal-rows", type=int, default=4_096, help="of the upkeep (default: 4096)")
    parser.add_argument("--fan-in", type=int, default=4, help="of the upkeep (default: 4)")
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="a file for the JSON (default: below the table)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        report = measured(arguments, Path(folder))
    hand_out(report, table(report), arguments.json)


if __name__ == "__main__":
    main()
