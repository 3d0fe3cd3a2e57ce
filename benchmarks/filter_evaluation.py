"""What filters cost: a table, and JSON with --json.

    python -m benchmarks.filter_evaluation [--images 125000] [--folder DIR] [--json]

All through the public `Collection`, one thread, warm, in one process. Vectors are short (8 dimensions): no
filter reads one. `new`: every call asks another filter of the same kind (other numbers or names), so
that nothing but columns helps; `again`: the same text on the same state; `after a write`: the same text,
one image was upserted in between.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np

from regionsearch.collection import Collection, CollectionSpec, DataDirectory, ImageRecord
from regionsearch.collection.records import IndexedField
from regionsearch.entities import Entities
from regionsearch.fingerprint import Fingerprint
from regionsearch.regions import Box, Mask

DIMENSION = 8
ENTITIES = 8
SIDE = 256
INDEXED = (
    IndexedField("year", "number"),
    IndexedField("camera.maker", "string"),
    IndexedField("taken", "timestamp"),
    IndexedField("tags", "string"),
    IndexedField("file", "string"),
)
MAKERS = ("Nikon", "Canon", "Sony", "Leica", "Fuji")
LABELS = ("dog", "cat", "car", "tree", "Straße", None, None, None)
FILTERS: dict[str, Callable[[int], str]] = {
    "a number and an area": lambda n: (
        f"payload.year >= {1990 + n % 30}.{n} AND entity.area > 0.0{n % 7 + 1}{n}"
    ),
    "number, label, area": lambda n: (
        f'payload.year >= {1990 + n % 30}.{n} AND entity.label = "dog" AND entity.area > 0.01{n}'
    ),
    "an area": lambda n: f"entity.area > 0.0{n % 7 + 1}{n}",
    "a number": lambda n: f"payload.year >= {1990 + n % 30}.{n}",
    "a text of few kinds": lambda n: f'payload.camera.maker IN ("Nikon", "{n}")',
    "one text of 125,000": lambda n: f'payload.file = "folder/{n:07}.jpg"',
    "a prefix of 125,000 texts": lambda n: f'payload.file = "folder/{n:04}*"',
    "a time": lambda n: f"payload.taken >= 2015-01-01T00:00:00.{n:06}Z",
    "a list": lambda n: f'payload.tags:"tag{n % 100}" AND payload.tags != "x{n}"',
    "middle of the box": lambda n: f"entity.x < 0.5{n} AND entity.y < 0.5{n}",
    "of five kinds, nested": lambda n: (
        f'(payload.year < {1990 + n % 30}.{n} OR payload.camera.maker = "Leica") AND NOT (entity.label:* '
        f"AND entity.index > {n % 8}) AND payload.taken:*"
    ),
}
UNINDEXED: dict[str, Callable[[int], str]] = {
    "all records read": lambda n: f"payload.colour{n} = {n}",
    "records of 1 in 100 read": lambda n: (
        f'payload.colour{n + 1000} = {n} AND payload.tags:"tag{n % 100}" AND payload.year >= 1990'
    ),
}


def drawn(random: np.random.Generator, images: int) -> Iterator[ImageRecord]:
    masks = []
    for _ in range(64):
        x, y = random.integers(0, SIDE - 80, size=2).tolist()
        width, height = random.integers(8, 80, size=2).tolist()
        masks.append(Mask.from_box(Box(x, y, x + width, y + height), SIDE, SIDE))
    kinds = []
    for _ in range(200):
        chosen = [masks[place] for place in random.integers(len(masks), size=ENTITIES)]
        outlined = Entities.from_masks(chosen, random.random(ENTITIES).astype(np.float32))
        labels = tuple(LABELS[place] for place in random.integers(len(LABELS), size=ENTITIES))
        kinds.append(
            Entities(
                outlined.masks,
                outlined.boxes,
                outlined.areas,
                outlined.objectness,
                labels,
                tuple(None if label is None else "predicted" for label in labels),
            )
        )
    vectors = random.standard_normal((1 + ENTITIES, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for number in range(images):
        year = int(random.integers(1990, 2025))
        yield ImageRecord(
            image_id=f"{number:07}.jpg",
            width=SIDE,
            height=SIDE,
            entities=kinds[int(random.integers(len(kinds)))],
            vectors=vectors,
            payload={
                "year": year,
                "camera": {"maker": MAKERS[int(random.integers(len(MAKERS)))]},
                "taken": f"{year}-05-01T12:{number % 60:02}:{number // 60 % 60:02}Z",
                "tags": [f"tag{place}" for place in random.integers(100, size=2)],
                "file": f"folder/{number:07}.jpg",
                "note": "a text that nobody asks for",
            },
        )


def milliseconds(
    action: Callable[[], object], repeat: int, before: Callable[[], object] | None = None
) -> dict[str, float]:
    """Median and best of the clock, and the median of what this thread computed, which other programs on
    the machine disturb least."""
    times, computed = [], []
    for _ in range(repeat):
        if before is not None:
            before()
        start, start_computing = time.perf_counter(), time.thread_time()
        action()
        times.append(1_000 * (time.perf_counter() - start))
        computed.append(1_000 * (time.thread_time() - start_computing))
    return {
        "median": round(float(np.median(times)), 3),
        "best": round(min(times), 3),
        "computing": round(float(np.median(computed)), 3),
    }


def fill(collection: Collection, images: int) -> float:
    """Images a second, in calls of 256."""
    start = time.perf_counter()
    batch = []
    for each in drawn(np.random.default_rng(0), images):
        batch.append(each)
        if len(batch) == 256:
            collection.upsert(batch)
            batch = []
    if batch:
        collection.upsert(batch)
    return images / (time.perf_counter() - start)


def measure(collection: Collection, repeat: int) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    for name, text in FILTERS.items():
        collection.matching(text(999))
        numbers = count()
        figures[f"{name}, new"] = milliseconds(
            lambda t=text, n=numbers: collection.matching(t(next(n))), repeat
        )
    again = FILTERS["a number and an area"](5)
    collection.matching(again)
    figures["again"] = milliseconds(lambda: collection.matching(again), repeat)
    extra = iter(list(drawn(np.random.default_rng(1), 2 * repeat)))

    def write() -> None:
        collection.upsert([next(extra)])
        collection.load()

    figures["after a write"] = milliseconds(lambda: collection.matching(again), repeat, write)
    figures["upsert of one image"] = milliseconds(lambda: collection.upsert([next(extra)]), repeat)
    matching = collection.matching(again)
    some = collection.sample_numbers(200, 0)
    figures["entity_mask of 200 images"] = milliseconds(
        lambda: matching.entity_mask(some, [ENTITIES] * len(some)), repeat
    )
    for name, text in UNINDEXED.items():
        numbers = count()
        figures[name] = milliseconds(lambda t=text, n=numbers: collection.matching(t(next(n))), 3)
    remembered = count()
    figures["all records remembered"] = milliseconds(
        lambda n=remembered: collection.matching(f"payload.colour0 = {next(n)}"), repeat
    )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=125_000, help=f"of {ENTITIES} entities (125000)")
    parser.add_argument("--repeat", type=int, default=20, help="calls of each kind (20)")
    parser.add_argument("--folder", type=Path, help="where to write (the system's temporary folder)")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    arguments = parser.parse_args()
    spec = CollectionSpec(
        "filtered",
        Fingerprint("random", "", DIMENSION, 1),
        Fingerprint("none", "", 0, 1),
        indexed_fields=INDEXED,
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "data"
        with DataDirectory(path, "write") as directory:
            rate = fill(directory.create_collection(spec), arguments.images)
        with DataDirectory(path, "write") as directory:
            collection = directory.collection("filtered")
            start = time.perf_counter()
            collection.load()
            load = time.perf_counter() - start
            figures = measure(collection, arguments.repeat)
            undeclared = collection.spec.indexed_fields[:-1]
            declare = milliseconds(lambda: collection.update(indexed_fields=undeclared), 1)
            declare_again = milliseconds(lambda: collection.update(indexed_fields=INDEXED), 1)
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "images": arguments.images,
        "entities": arguments.images * ENTITIES,
        "upserted_images_per_second": round(rate, 1),
        "load_seconds": round(load, 3),
        "remove_a_field_ms": declare["best"],
        "declare_a_field_ms": declare_again["best"],
        "milliseconds": figures,
    }
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        if name != "milliseconds":
            print(f"{name:40} {value}")
    print(f"{'':40} {'median ms':>12} {'best ms':>12} {'computing ms':>12}")
    for name, each in figures.items():
        print(f"{name:40} {each['median']:12.3f} {each['best']:12.3f} {each['computing']:12.3f}")


if __name__ == "__main__":
    main()
