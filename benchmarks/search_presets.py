"""What the presets of a search cost and find: fast, balanced and thorough against scoring every image.

    python -m benchmarks.search_presets [--photos FOLDER] [--images N] [--entities N] [--queries N]
        [--json FILE]

Fills a collection with drawn images and, with `--photos` (repeatable), another one with collages: images put
together of two of the photos each, whose vectors the compact models computed, with noise. Each collection
is asked in process with texts, indexed entities, entities with a text, and three entities of an image at
once; the answer of each preset is held against that of a search whose arms bring every image. Per preset: the
images that joint scoring read, milliseconds of a search without the reading of the question (`decode`,
`encode`, `segment`), processor time of all its threads with that reading, and how many of the ten best of all
images are among its ten.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.repeated_photos import collages, drawn_images, photographed
from benchmarks.reports import hand_out, machine
from regionsearch.collection import Candidates, Collection, DataDirectory, ImageRecord
from regionsearch.config import Limits
from regionsearch.evaluation.latency_questions import phrases
from regionsearch.ingest import collection_spec
from regionsearch.models.registry import ModelRegistry
from regionsearch.search import Query, SearchEngine
from regionsearch.search.query import PRESETS

HITS = 10
READING_STAGES = ("decode", "encode", "segment")
EVERYTHING = "every image"
WARM_UP = 3


def questions(collection: Collection, count: int) -> dict[str, list[dict[str, Any]]]:
    """Options of queries by kind; images and entities are seeded."""
    rng = np.random.default_rng(3)
    texts = phrases()
    asked: dict[str, list[dict[str, Any]]] = {"text": [], "entity": [], "entity + text": [], "3 entities": []}
    ids = list(collection.image_ids())
    for number in range(count):
        image_id = ids[rng.integers(len(ids))]
        entities = rng.permutation(len(collection.get(image_id).entities)).tolist()
        text = texts[number % len(texts)]
        asked["text"].append({"text": text})
        asked["entity"].append({"image_id": image_id, "entities": (entities[0],)})
        asked["entity + text"].append({"image_id": image_id, "entities": (entities[0],), "text": text})
        if len(entities) >= 3:
            asked["3 entities"].append({"image_id": image_id, "entities": tuple(entities[:3])})
    return asked


class CountedReads:
    """Counts the images that searches of a collection read for joint scoring."""

    def __init__(self, collection: Collection) -> None:
        self.images = 0
        self._read = collection.candidates
        setattr(collection, "candidates", self._counted)  # noqa: B010 (a method, for this run alone)

    def _counted(self, numbers: Sequence[int], **options: Any) -> Candidates:
        self.images += len(numbers)
        return self._read(numbers, **options)


def measure(collection: Collection, models: ModelRegistry, count: int) -> dict[str, Any]:
    """By kind and preset."""
    images = collection.stats.images
    engine = SearchEngine(models, Limits(candidates=max(images, Limits().candidates)))
    engine.prepare(collection)
    reads = CountedReads(collection)
    ways: dict[str, dict[str, Any]] = {preset: {"preset": preset} for preset in PRESETS}
    ways[EVERYTHING] = {"candidates": images}
    report: dict[str, Any] = {}
    for kind, asked in questions(collection, WARM_UP + count).items():
        figures: dict[str, dict[str, list[float]]] = {
            way: {"ms": [], "processor": [], "candidates": [], "recall": [], "first": []} for way in ways
        }
        for number, options in enumerate(asked):
            found: dict[str, list[str]] = {}
            for way, settings in ways.items():
                reads.images = 0
                started, worked = time.perf_counter(), time.process_time()
                answer = engine.search(collection, Query(**options, **settings, limit=HITS))
                elapsed = 1e3 * (time.perf_counter() - started)
                processor = 1e3 * (time.process_time() - worked)
                found[way] = [hit.image_id for hit in answer.hits]
                if number < WARM_UP:
                    continue
                reading = sum(answer.timing_ms.get(stage, 0.0) for stage in READING_STAGES)
                figures[way]["ms"].append(elapsed - reading)
                figures[way]["processor"].append(processor)
                figures[way]["candidates"].append(reads.images)
            if number >= WARM_UP:
                true = found[EVERYTHING]
                for way, hits in found.items():
                    figures[way]["recall"].append(len(set(hits) & set(true)) / len(true))
                    figures[way]["first"].append(float(hits[0] == true[0]))
        report[kind] = {way: summary(values) for way, values in figures.items()}
    return report


def summary(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    recall = np.array(values["recall"])
    draws = np.random.default_rng(0).choice(recall, (1_000, len(recall))).mean(axis=1)
    return {
        "queries": float(len(recall)),
        "candidates": float(np.mean(values["candidates"])),
        "p50_ms": float(np.median(values["ms"])),
        "p99_ms": float(np.percentile(values["ms"], 99)),
        "processor_p50_ms": float(np.median(values["processor"])),
        "recall": float(recall.mean()),
        "recall_low": float(np.percentile(draws, 2.5)),
        "recall_high": float(np.percentile(draws, 97.5)),
        "same_first": float(np.mean(values["first"])),
    }


def filled(
    directory: DataDirectory, name: str, models: ModelRegistry, batches: Iterable[list[ImageRecord]]
) -> Collection:
    spec = collection_spec(name, models.embedder("compact"), models.segmenter("compact"), pixels="none")
    collection = directory.create_collection(spec)
    for batch in batches:
        collection.upsert(batch)
    return collection


def table(report: Mapping[str, Any]) -> str:
    lines = [f"load {report['load'][0]:.1f} before, {report['load'][1]:.1f} after"]
    for name, collection in report["collections"].items():
        lines.append(
            f"{name}: {collection['images']} images, {collection['entities_per_image']:.1f} entities each"
        )
        lines.append(
            f"{'':<16}{'preset':<13}{'candidates':>11}{'p50 ms':>9}{'p99 ms':>9}{'cpu p50':>9}"
            f"{'recall':>9}{'95%':>15}{'same first':>12}"
        )
        for kind, ways in collection["kinds"].items():
            for way, one in ways.items():
                interval = f"{one['recall_low']:.3f}-{one['recall_high']:.3f}"
                lines.append(
                    f"{kind:<16}{way:<13}{one['candidates']:>11.0f}{one['p50_ms']:>9.1f}{one['p99_ms']:>9.1f}"
                    f"{one['processor_p50_ms']:>9.1f}"
                    f"{one['recall']:>9.3f}{interval:>15}{one['same_first']:>12.2f}"
                )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--photos", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument("--images", type=int, default=4_000)
    parser.add_argument("--entities", type=int, default=16, help="of an image: drawn, or at most of a photo")
    parser.add_argument("--queries", type=int, default=100, help="counted queries of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    options = parser.parse_args(arguments)
    models = ModelRegistry()
    embedder, segmenter = models.embedder("compact"), models.segmenter("compact")
    load = os.getloadavg()[0]
    collections: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="regionsearch-presets-") as folder,
        DataDirectory(Path(folder) / "data", "write") as directory,
    ):
        sources = {
            "drawn": drawn_images(options.images, options.entities, embedder.info.fingerprint.dimension)
        }
        if options.photos:
            photos = photographed(options.photos, embedder, segmenter, options.entities)
            sources["collages"] = collages(photos, options.images)
        for name, batches in sources.items():
            collection = filled(directory, name, models, batches)
            stats = collection.stats
            collections[name] = {
                "images": stats.images,
                "entities_per_image": stats.entities / stats.images,
                "dimension": stats.dimension,
                "kinds": measure(collection, models, options.queries),
            }
    report = {
        "collections": collections,
        "hits": HITS,
        "load": [load, os.getloadavg()[0]],
        "machine": machine(),
    }
    hand_out(report, table(report), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
