"""How long a collection takes to open with all checksums verified, after a clean stop and after a kill: a
table, and JSON.

    python -m benchmarks.opening [--entities 1000000] [--unsealed 100000] [--times 3] [--folder DIR]
        [--json FILE]

Images of 8 entities with 384-d vectors of the hard generator, sealed into index segments. A process of its
own opens the directory for writing, loads the collection and searches once; the clock runs from before the
open to after the answer, importing left out. Then a process stores `unsealed` more entities without sealing
and kills itself (SIGKILL), and the opening after that is measured, several times: each of these processes
kills itself too. Files are in the page cache, as after the kill of a process; a machine that was off reads
them from disk.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.insertion import DIMENSION, ENTITIES, images, outlines, spec
from benchmarks.reports import hand_out, machine
from regionsearch.collection import DataDirectory
from regionsearch.collection.segments.upkeep import UpkeepSettings
from regionsearch.evaluation.vector_generator import hard_vectors, queries

PIECE = 4_096


def fill(path: Path, entities: int) -> None:
    vectors, known = hard_vectors(DIMENSION), outlines(np.random.default_rng(0))
    with DataDirectory(path, "write") as directory:
        collection = directory.create_collection(spec("c"))
        count = entities // ENTITIES
        for first in range(0, count, PIECE):
            collection.upsert(images(vectors, first, min(PIECE, count - first), known))
        collection.compact()


def opened(path: Path, *, kill: bool) -> None:
    """In a process of its own: prints seconds."""
    import faiss  # the time of loading it is not the collection's

    faiss.omp_set_num_threads(1)
    query = queries(hard_vectors(DIMENSION), 1)[0]
    start = time.perf_counter()
    directory = DataDirectory(path, "write", upkeep=UpkeepSettings(background=False))
    there = time.perf_counter()
    collection = directory.collection("c")
    collection.load()
    loaded = time.perf_counter()
    collection.search(query, 10)
    done = time.perf_counter()
    stats = collection.stats
    print(
        json.dumps(
            {
                "seconds": done - start,
                "directory_seconds": there - start,
                "loading_seconds": loaded - there,
                "entities": stats.entities,
                "fresh_rows": stats.fresh_rows,
                "segments": [segment.entities for segment in stats.segments],
                "segment_bytes": sum(segment.bytes for segment in stats.segments),
            }
        ),
        flush=True,
    )
    if kill:
        os.kill(os.getpid(), signal.SIGKILL)
    directory.close()


def store_and_die(path: Path, entities: int) -> None:
    """In a process of its own."""
    vectors, known = hard_vectors(DIMENSION, 0), outlines(np.random.default_rng(0))
    directory = DataDirectory(path, "write", upkeep=UpkeepSettings(background=False))
    collection = directory.collection("c")
    first = collection.stats.images
    for done in range(0, entities // ENTITIES, PIECE):
        collection.upsert(images(vectors, first + done, min(PIECE, entities // ENTITIES - done), known))
    os.kill(os.getpid(), signal.SIGKILL)


def child(what: str, path: Path, *more: str) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.opening", "--child", what, "--data", str(path), *more],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if run.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"the process that should {what} ended with {run.returncode}")
    return dict(json.loads(run.stdout)) if run.stdout else {}


def table(report: dict[str, Any]) -> str:
    lines = [f"{'opening':20}{'s':>8}{'directory':>11}{'segments, rows':>16}{'unsealed':>10}{'MB':>7}"]
    for name in ("clean stop", "kill"):
        for each in report[name]:
            lines.append(
                f"{'after a ' + name:20}{each['seconds']:8.2f}{each['directory_seconds']:11.2f}"
                f"{each['loading_seconds']:16.2f}{each['fresh_rows']:10,}{each['segment_bytes'] / 1e6:7.0f}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--entities", type=int, default=1_000_000, help="stored (default: 1000000)")
    parser.add_argument("--unsealed", type=int, default=100_000, help="at the kill (default: 100000)")
    parser.add_argument("--times", type=int, default=3, help="each opening (default: 3)")
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="a file for the JSON (default: below the table)")
    parser.add_argument("--child", choices=("open", "open and die", "store and die"), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help="a collection that an earlier run has filled")
    arguments = parser.parse_args()
    if arguments.child == "store and die":
        store_and_die(arguments.data, arguments.unsealed)
    elif arguments.child:
        opened(arguments.data, kill=arguments.child == "open and die")
    else:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            path = arguments.data or Path(folder) / "data"
            if not path.exists():
                fill(path, arguments.entities)
            clean = [child("open", path) for _ in range(arguments.times)]
            child("store and die", path, "--unsealed", str(arguments.unsealed))
            killed = [child("open and die", path) for _ in range(arguments.times)]
        report = {"machine": machine(), "clean stop": clean, "kill": killed}
        hand_out(report, table(report), arguments.json)


if __name__ == "__main__":
    main()
