"""What filters, strict placements and least scores cost a search: milliseconds, and images that are scored.

    python -m benchmarks.search_conditions --images 20000

Random images with 8 entities each, of the hard vectors (64 dimensions); every eighth entity is a dog. Asked
with vectors, through the engine, limit 10. Conditions that nothing meets are the ones that once made a search
score every image.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.reports import hand_out, machine
from regionsearch.collection import Candidates, Collection, CollectionSpec, DataDirectory, ImageRecord
from regionsearch.collection.records import IndexedField
from regionsearch.entities import Entities
from regionsearch.evaluation.vector_generator import hard_vectors, queries, rows
from regionsearch.models.precomputed import fingerprints_of
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, Mask
from regionsearch.search import Placement, Query, SearchEngine

ENTITIES, DIMENSION = 8, 64
HEIGHT, WIDTH = 40, 60
QUERIES = 5
CONDITIONS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "a label that an eighth have": {"placements": (Placement(label="dog"),)},
    "a label that nobody has": {"placements": (Placement(label="cat"),)},
    "a strict size that nobody has": {"placements": (Placement(min_area=0.99, strict=True),)},
    "least score 0.5": {"min_score": 0.5},
    "least score 0.9": {"min_score": 0.9},
    'where entity.label = "dog"': {"where": 'entity.label = "dog"'},
    "where payload.year = 2007 (5%, indexed)": {"where": "payload.year = 2007"},
    "where payload.number < 20 (not indexed)": {"where": "payload.number < 20"},
    "where entity.area > 0.99 (nothing)": {"where": "entity.area > 0.99"},
}


def records(count: int) -> Iterator[ImageRecord]:
    masks = [Mask.from_box(Box(7 * x, 0, 7 * x + 7, HEIGHT - x), HEIGHT, WIDTH) for x in range(ENTITIES)]
    found = Entities.from_masks(masks, np.full(ENTITIES, 0.5, np.float32))
    labels = ("dog", *[None] * (ENTITIES - 1))
    found = replace(found, labels=labels, label_sources=tuple(label and "given" for label in labels))
    number = 0
    for block in rows(hard_vectors(DIMENSION), 2 * count * ENTITIES):
        for start in range(0, len(block) - ENTITIES + 1, ENTITIES):
            if number == count:
                return
            entities = block[start : start + ENTITIES]
            mean = entities.mean(axis=0)
            vectors = np.concatenate([mean[None] / np.linalg.norm(mean), entities])
            payload = {"year": 2000 + number % 20, "number": number}
            yield ImageRecord(f"{number:07}", WIDTH, HEIGHT, found, vectors, payload=payload)
            number += 1


def fill(collection: Collection, count: int) -> None:
    batch: list[ImageRecord] = []
    for record in records(count):
        batch.append(record)
        if len(batch) == 512:
            collection.upsert(batch)
            batch = []
    if batch:
        collection.upsert(batch)


class Counting:
    """A collection that counts the images that joint scoring reads."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self.read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def candidates(self, numbers: Sequence[int], **named: Any) -> Candidates:
        self.read += len(numbers)
        return self._collection.candidates(numbers, **named)


def measured(engine: SearchEngine, collection: Collection, said: Mapping[str, Any]) -> dict[str, Any]:
    counting = Counting(collection)
    times, scored, hits = [], [], []
    for vector in queries(hard_vectors(DIMENSION), QUERIES):
        counting.read = 0
        start = time.perf_counter()
        answer = engine.search(cast(Collection, counting), Query(vector=vector, **said))
        times.append(1_000 * (time.perf_counter() - start))
        scored.append(counting.read)
        hits.append(len(answer.hits))
    return {
        "p50_ms": float(np.median(times)),
        "most_ms": max(times),
        "images_scored": [min(scored), max(scored)],
        "hits": [min(hits), max(hits)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, help="default: 20000")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the report goes (default: stdout)")
    said = parser.parse_args()
    spec = CollectionSpec(
        "c",
        *fingerprints_of("hard", DIMENSION),
        pixels="none",
        indexed_fields=(IndexedField("year", "number"),),
    )
    with tempfile.TemporaryDirectory() as folder, DataDirectory(Path(folder) / "data", "write") as directory:
        collection = directory.create_collection(spec)
        fill(collection, said.images)
        engine = SearchEngine(ModelRegistry())
        measured(engine, collection, {})  # what is read or allocated at first is no condition's time
        figures = {name: measured(engine, collection, asked) for name, asked in CONDITIONS.items()}
    lines = ["| condition | p50 ms | most ms | images scored | hits |", "| --- | --- | --- | --- | --- |"]
    for name, each in figures.items():
        scored, hits = (f"{low:,} to {high:,}" for low, high in (each["images_scored"], each["hits"]))
        lines.append(f"| {name} | {each['p50_ms']:.1f} | {each['most_ms']:.1f} | {scored} | {hits} |")
    report = {"machine": machine(), "images": said.images, "conditions": figures}
    hand_out(report, "\n".join(lines), said.json)


if __name__ == "__main__":
    main()
