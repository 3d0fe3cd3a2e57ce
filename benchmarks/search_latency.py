"""How long a search takes besides reading the question: 5,000 images of 8 entities, synthetic vectors.

    python -m benchmarks.search_latency [--images N] [--entities N] [--requests N] [--json FILE]

Builds a collection for the compact models whose vectors are drawn, not computed; serves it from another
process; asks texts, boxes and points through gRPC, one at a time; and prints what is left of each whole
call, client and network included, when the stages that read the question (`decode`, `encode`, for points
also `segment`) are taken off. Beside it stands the recall of both arms against brute force over all
vectors, which must be 1: what is timed is exact search.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray

from benchmarks.repeated_photos import HEIGHT, WIDTH, drawn_images, unit
from benchmarks.reports import hand_out, machine
from regionsearch.client import Client
from regionsearch.collection import Collection, DataDirectory
from regionsearch.evaluation.latency_questions import phrases
from regionsearch.ingest import collection_spec
from regionsearch.models.registry import ModelRegistry

GOAL_MS = 12.0
READING_STAGES = {
    "text": ("decode", "encode"),
    "box": ("decode", "encode"),
    "point": ("decode", "encode", "segment"),
}
WARM_UP = 10
CHECKED_QUERIES = 50
NEIGHBOURS = 10


def build(path: Path, images: int, entities: int) -> tuple[NDArray[np.float32], dict[str, float]]:
    """Fills a data directory. Returns all vectors, (images, 1 + entities, d), and the recall of both arms."""
    models = ModelRegistry()
    spec = collection_spec(
        "synthetic", models.embedder("compact"), models.segmenter("compact"), pixels="none"
    )
    held = []
    with DataDirectory(path, "write") as directory:
        collection = directory.create_collection(spec)
        for batch in drawn_images(images, entities, spec.embedder.dimension):
            collection.upsert(batch)
            held.append(np.stack([record.vectors for record in batch]))
        vectors = np.concatenate(held)
        return vectors, recall(collection, vectors)


def recall(collection: Collection, vectors: NDArray[np.float32]) -> dict[str, float]:
    """Share of the true nearest that each arm returns, over fresh queries, by brute force in numpy."""
    rng = np.random.default_rng(1)
    images, rows, dimension = vectors.shape
    numbers = [record.number for record in (collection.get(f"{n:06}") for n in range(images))]
    entity_rows = vectors[:, 1:].reshape(-1, dimension)
    found = {"entity_arm": 0, "global_arm": 0}
    for query in unit(rng.normal(size=(CHECKED_QUERIES, dimension))):
        nearest = np.argsort(-(entity_rows @ query), kind="stable")[:NEIGHBOURS]
        true = {(numbers[row // (rows - 1)], row % (rows - 1)) for row in nearest.tolist()}
        arm = collection.search(query, NEIGHBOURS)
        found["entity_arm"] += len(true & set(zip(arm.numbers.tolist(), arm.ordinals.tolist(), strict=True)))
        nearest = np.argsort(-(vectors[:, 0] @ query), kind="stable")[:NEIGHBOURS]
        arm = collection.search_images(query, NEIGHBOURS)
        found["global_arm"] += len({numbers[row] for row in nearest.tolist()} & set(arm.numbers.tolist()))
    return {name: count / (CHECKED_QUERIES * NEIGHBOURS) for name, count in found.items()}


@contextmanager
def served(path: Path) -> Iterator[str]:
    """A server in another process; its address."""
    command = [sys.executable, "-m", "regionsearch", "serve", "--data", str(path), "--address", "127.0.0.1:0"]
    with subprocess.Popen([*command, "--log-level", "error"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            if not address:
                raise RuntimeError("the server did not start")
            yield address
        finally:
            server.terminate()


def picture() -> bytes:
    """A JPEG of a few flat shapes, so that every point of a grid lies on something."""
    image = PIL.Image.new("RGB", (WIDTH, HEIGHT), (90, 140, 190))
    pen = PIL.ImageDraw.Draw(image)
    pen.rectangle((0, 300, WIDTH, HEIGHT), fill=(70, 110, 50))
    pen.ellipse((80, 120, 300, 380), fill=(200, 60, 40))
    pen.rectangle((380, 160, 560, 420), fill=(230, 210, 120))
    coded = io.BytesIO()
    image.save(coded, "JPEG", quality=90)
    return coded.getvalue()


def questions(kind: str, count: int) -> list[Mapping[str, Any]]:
    rng = np.random.default_rng(2)
    if kind == "text":
        texts = phrases()
        return [{"text": texts[n % len(texts)]} for n in range(count)]
    image = picture()
    if kind == "point":
        return [
            {"image": image, "points": [(rng.uniform(120, 260), rng.uniform(180, 320))]} for _ in range(count)
        ]
    corners = rng.uniform((0, 0, 60, 60), (300, 200, 300, 250), size=(count, 4))
    return [{"image": image, "box": (x, y, x + width, y + height)} for x, y, width, height in corners]


def measured(client: Client, kind: str, requests: int) -> dict[str, Any]:
    """Milliseconds of whole calls, one at a time, and of what is left without the reading stages."""
    whole, left, stages = [], [], []
    for number, options in enumerate(questions(kind, WARM_UP + requests)):
        started = time.perf_counter()
        answer = client.search("synthetic", **options)
        elapsed = (time.perf_counter() - started) * 1000
        if number < WARM_UP:
            continue
        whole.append(elapsed)
        left.append(elapsed - sum(answer.timing_ms.get(stage, 0.0) for stage in READING_STAGES[kind]))
        stages.append(answer.timing_ms)
    names = sorted({name for one in stages for name in one})
    return {
        "whole_p50_ms": float(np.median(whole)),
        "left_p50_ms": float(np.median(left)),
        "left_p99_ms": float(np.percentile(left, 99)),
        "stages_ms": {name: float(np.mean([one.get(name, 0.0) for one in stages])) for name in names},
    }


def table(report: Mapping[str, Any]) -> str:
    lines = [
        f"{report['images']} images × {report['entities']} entities, {report['dimension']} dimensions; "
        f"recall at {NEIGHBOURS}: entity arm {report['recall']['entity_arm']:.3f}, global arm "
        f"{report['recall']['global_arm']:.3f}",
        f"{'':<8}{'whole p50':>12}{'left p50':>12}{'left p99':>12}   stages, mean ms",
    ]
    for kind, figures in report["kinds"].items():
        stages = "  ".join(f"{name} {value:.2f}" for name, value in figures["stages_ms"].items())
        lines.append(
            f"{kind:<8}{figures['whole_p50_ms']:>9.1f} ms{figures['left_p50_ms']:>9.1f} ms"
            f"{figures['left_p99_ms']:>9.1f} ms   {stages}"
        )
    lines.append(f"goal for text and box: left p50 of at most {GOAL_MS:g} ms")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--entities", type=int, default=8)
    parser.add_argument("--requests", type=int, default=200, help="counted requests of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="regionsearch-latency-") as folder:
        path = Path(folder) / "data"
        vectors, exact = build(path, options.images, options.entities)
        with served(path) as address, Client(address) as client:
            kinds = {kind: measured(client, kind, options.requests) for kind in READING_STAGES}
    report = {
        "images": options.images,
        "entities": options.entities,
        "dimension": int(vectors.shape[2]),
        "recall": exact,
        "requests": options.requests,
        "kinds": kinds,
        "machine": machine(),
    }
    hand_out(report, table(report), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
