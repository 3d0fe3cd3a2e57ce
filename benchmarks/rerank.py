"""What reading the best again brings and costs, on annotated photos.

    python -m benchmarks.rerank --images DIR --annotations FILE [--embedder E] [--segmenter S]
        [--pixels original|thumbnail] [--methods M ...] [--kinds K ...] [--top N ...] [--weights W ...]
        [--questions N] [--timed N] [--folds DIR] [--json FILE]

Indexes the photos with automatic entities and kept pixels, asks the questions of `regionsearch eval coco`
(words; a region; a region with words) once as they are and once for each method of `rerank`, from which all
of its settings follow, and judges all rankings by the same measures, with ratios to joint scoring alone (and
of `pairwise_instructed` to `pairwise`) whose intervals are paired. The settings, for each of --methods that
can read such questions: each of --top at the default weight, and each of --weights at the default number.
Then it times whole searches of the engine, in turns with and without, each model pass computed anew.

Give --images and --annotations several times, in pairs, to judge folders together.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.reports import hand_out, machine
from regionsearch.collection import Collection, DataDirectory
from regionsearch.evaluation.bootstrap import image_weights
from regionsearch.evaluation.coco_annotations import AnnotatedPhotos, read_folders
from regionsearch.evaluation.coco_questions import (
    Question,
    class_questions,
    composed_questions,
    region_questions,
)
from regionsearch.evaluation.cross_fitted import CrossFittedModels, cross_fitted_segmenter
from regionsearch.evaluation.judged_block import Block, ranking_figures, ratio, shown
from regionsearch.evaluation.photo_index import Ranking, weighted_sum
from regionsearch.evaluation.remembered_features import (
    REMEMBERED_PHOTOS,
    RememberingEmbedder,
    RememberingModels,
)
from regionsearch.images import Image, load_image
from regionsearch.ingest import collection_spec
from regionsearch.ingest.pipeline import EncodedImage, Pipeline
from regionsearch.ingest.upserting import upsert_images
from regionsearch.models.embedder import Embedder, ModelInput
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, RegionPrompt
from regionsearch.search import Hit, Query, QueryRegion, Rerank, SearchEngine
from regionsearch.search.calibration import Calibrator
from regionsearch.search.closer_look import closer_embedder
from regionsearch.search.query import DEFAULT_RERANK_WEIGHTS, DEFAULT_RERANKED, RERANK_METHODS
from regionsearch.search.rerank import Reading, answer_again

PLAIN = Calibrator(0.0, 1.0)
"""Only the order of the hits is judged here."""
BATCH = 16
LIMIT = 10
"""Images in a timed answer."""
WARM_UP = 2
KINDS = {
    "text_to_image": class_questions,
    "region_to_image": region_questions,
    "composed": composed_questions,
}


class ReadOnceEmbedder(RememberingEmbedder):
    """Knows the vector of every input it has embedded, so that many settings cost one pass an input. An
    input's vector does not depend on the others, so no answer changes."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(embedder)
        self._reader = embedder
        self._close_ups: dict[tuple[bytes, Box], NDArray[np.float32]] = {}
        self._vectors: dict[tuple[bytes, str | None, RegionPrompt | None], NDArray[np.float32]] = {}

    def embed_inputs(self, inputs: Sequence[ModelInput]) -> NDArray[np.float32]:
        keys = [
            (b"" if i.image is None else hashlib.sha256(i.image.pixels.tobytes()).digest(), i.text, i.region)
            for i in inputs
        ]
        new = {key: given for key, given in zip(keys, inputs, strict=True) if key not in self._vectors}
        if new:
            self._vectors.update(zip(new, super().embed_inputs(list(new.values())), strict=True))
        return np.stack([self._vectors[key] for key in keys])

    def embed_close_ups(self, image: Image, boxes: Sequence[Box]) -> NDArray[np.float32]:
        digest = hashlib.sha256(image.pixels.tobytes()).digest()
        new = [box for box in boxes if (digest, box) not in self._close_ups]
        if new:
            found = closer_embedder(self._reader).embed_close_ups(image, new)
            self._close_ups.update(zip([(digest, box) for box in new], found, strict=True))
        return np.stack([self._close_ups[digest, box] for box in boxes])


class ReadOnceModels(RememberingModels):
    """The models of another registry, embedders that read an input once."""

    def __init__(self, models: ModelRegistry) -> None:
        super().__init__(models)
        self._readers: dict[str, ReadOnceEmbedder] = {}

    def embedder(self, name: str) -> Embedder:
        if name not in self._readers:
            self._readers[name] = ReadOnceEmbedder(self._models.embedder(name))
        return self._readers[name]


@dataclass(frozen=True, eq=False)
class Indexed:
    """A collection of photos, and their places in the order of ids."""

    collection: Collection
    photos: AnnotatedPhotos
    numbers: Mapping[str, int]

    def ranking(self, hits: Sequence[Hit]) -> Ranking:
        returned = np.array([self.numbers[hit.image_id] for hit in hits], dtype=np.int64)
        others = np.setdiff1d(np.arange(len(self.numbers)), returned)
        return Ranking(
            order=np.concatenate([returned, others]),
            scores=np.array([hit.score for hit in hits]),
            sums=np.array([weighted_sum(hit) for hit in hits]),
            boxes=np.array([hit.entity.box for hit in hits], dtype=np.float64).reshape(-1, 4),
        )


@contextmanager
def indexed(photos: AnnotatedPhotos, models: ModelRegistry, options: argparse.Namespace) -> Iterator[Indexed]:
    """The photos in a temporary data directory, as `regionsearch index --pixels` makes it."""
    embedder, segmenter = models.embedder(options.embedder), models.segmenter(options.segmenter)
    with (
        tempfile.TemporaryDirectory(prefix="regionsearch-rerank-") as folder,
        DataDirectory(Path(folder) / "data", "write") as directory,
    ):
        spec = collection_spec("photos", embedder, segmenter, pixels=options.pixels)
        collection = directory.create_collection(spec)
        pipeline = Pipeline(embedder, segmenter, pixels=options.pixels)
        failed: set[str] = set()
        for start in range(0, len(photos.images), BATCH):
            batch = photos.images[start : start + BATCH]
            encoded = [EncodedImage(image.image_id, image.path.read_bytes()) for image in batch]
            failed |= {failure.source for failure in upsert_images(collection, pipeline, encoded).failures}
            _say(f"indexed {start + len(batch)} of {len(photos.images)}")
        sound = photos.without(frozenset(failed))
        numbers = {image.image_id: number for number, image in enumerate(sound.images)}
        yield Indexed(collection, sound, numbers)


class Asker:
    """Turns questions into queries of one engine."""

    def __init__(self, index: Indexed, models: ModelRegistry) -> None:
        self._engine = SearchEngine(models)
        self._index = index
        self._engine.prepare(index.collection)
        paths = {image.image_id: image.path for image in index.photos.images}

        @lru_cache(maxsize=REMEMBERED_PHOTOS)
        def decoded(image_id: str) -> Image:
            return load_image(paths[image_id])

        self._decoded = decoded

    def ask(self, question: Question, limit: int, again: Rerank | None) -> tuple[Hit, ...]:
        image = None
        regions: tuple[QueryRegion, ...] = ()
        if question.box is not None and question.image_id is not None:
            image = self._decoded(question.image_id)
            regions = (QueryRegion(RegionPrompt(box=Box(*question.box))),)
        query = Query(image=image, regions=regions, text=question.text, limit=limit, rerank=again)
        return self._engine.search(self._index.collection, query).hits

    def ask_all(
        self, question: Question, limit: int, settings: Mapping[str, Rerank]
    ) -> dict[str, tuple[Hit, ...]]:
        """The answer without and with each of the settings, by name. A pairwise method reads once, as many as
        any of its settings wants: what fewer of them, or another weight, would answer follows from that."""
        plain = self.ask(question, limit, None)
        sums = np.array([weighted_sum(hit) for hit in plain])
        answers = {"joint": plain}
        for method in {setting.method: None for setting in settings.values()}:
            asked = {name: setting for name, setting in settings.items() if setting.method == method}
            if method == "closer":
                # What it finds in one image depends on the others that it reads.
                answers |= {name: self.ask(question, limit, setting) for name, setting in asked.items()}
                continue
            deepest = max(setting.top_n for setting in asked.values())
            read = self.ask(question, limit, Rerank(method, top_n=deepest))
            cosines = {hit.image_id: hit.rerank.raw for hit in read if hit.rerank is not None}
            for name, setting in asked.items():
                first = plain[: setting.top_n]
                found = np.array([cosines[hit.image_id] for hit in first])
                reading = Reading(np.arange(len(first)), found)
                answers[name] = answer_again(plain, sums, reading, setting.counted, PLAIN, setting.top_n)
        return answers


def settings_of(options: argparse.Namespace, kind: str) -> dict[str, Rerank]:
    """Those of the methods that can read questions of the kind, by name."""
    kinds = {"closer": ("text_to_image",), "pairwise": tuple(KINDS), "pairwise_instructed": ("composed",)}
    methods = [method for method in options.methods if kind in kinds[method]]
    settings = [Rerank(method, top_n=top_n) for method in methods for top_n in options.top]
    settings += [Rerank(method, weight=weight) for method in methods for weight in options.weights]
    return {_named(setting): setting for setting in settings}


def _named(setting: Rerank) -> str:
    return f"{setting.method}, top {setting.top_n}, weight {setting.counted:g}"


def sampled(questions: list[Question], count: int) -> list[Question]:
    """At most so many, drawn by a seed, in the order of their photos so that each is decoded once."""
    if 0 < count < len(questions):
        questions = random.Random(0).sample(questions, count)
    return sorted(questions, key=lambda q: (q.image_id or "", q.group, q.text or ""))


def quality(index: Indexed, models: ModelRegistry, options: argparse.Namespace) -> dict[str, Any]:
    asker = Asker(index, ReadOnceModels(models))
    images = len(index.photos.images)
    weights = np.concatenate([np.ones((1, images), dtype=np.int64), image_weights(images)])
    report: dict[str, Any] = {}
    for kind in options.kinds:
        settings = settings_of(options, kind)
        block = Block(sampled(KINDS[kind](index.photos), options.questions), index.numbers, weights)
        rankings: dict[str, list[Ranking]] = {}
        for done, question in enumerate(block.questions):
            for name, hits in asker.ask_all(question, images, settings).items():
                found = index.ranking(hits)
                rankings.setdefault(name, []).append(found.without(block.left_out(question)))
            _say(f"{kind}: {done + 1} of {len(block.questions)}")
        figures = {name: ranking_figures(block, asked) for name, asked in rankings.items()}
        report[kind] = {"queries": len(block.questions), "chance": block.chance()} | {
            name: {**shown(values), "ratio": ratio(values, [figures["joint"]])}
            for name, values in figures.items()
        }
        for name, setting in settings.items():
            plain = _named(replace(setting, method="pairwise"))
            if plain != name and plain in figures:
                report[kind][name]["ratio_to_pairwise"] = ratio(figures[name], [figures[plain]])
    return report


def cost(index: Indexed, models: ModelRegistry, options: argparse.Namespace) -> dict[str, Any]:
    """Median milliseconds of a whole search with a region, and of what reading adds, in turns.

    The questions have words when a method needs them. `closer` is timed when it is asked for alone.
    """
    asker = Asker(index, models)
    methods = [method for method in options.methods if method != "closer"]
    kind = (
        "composed" if "pairwise_instructed" in methods else "region_to_image" if methods else "text_to_image"
    )
    questions = sampled(KINDS[kind](index.photos), WARM_UP + options.timed)
    again_settings = [
        Rerank(method, top_n=top_n) for method in methods or ["closer"] for top_n in options.top
    ]
    settings = {"joint": None, **{_named(setting): setting for setting in again_settings}}
    spent: dict[str, list[float]] = {name: [] for name in settings}
    for done, question in enumerate(questions):
        for name, again in settings.items():
            started = time.perf_counter()
            asker.ask(question, LIMIT, again)
            elapsed = (time.perf_counter() - started) * 1000
            if done >= WARM_UP:
                spent[name].append(elapsed)
        _say(f"timing: {done + 1} of {len(questions)}")
    plain = np.array(spent["joint"])
    return {
        "kind": kind,
        "queries": len(plain),
        "joint": {"p50_ms": float(np.median(plain))},
        **{
            name: {
                "p50_ms": float(np.median(values)),
                "added_p50_ms": float(np.median(np.array(values) - plain)),
                "added_p50_ms_an_image": float(np.median(np.array(values) - plain)) / again.top_n,
                "times_joint": float(np.median(np.array(values) / plain)),
            }
            for name, values in spent.items()
            if (again := settings[name]) is not None
        },
    }


def table(report: Mapping[str, Any]) -> str:
    lines = [
        f"{report['images']} photos, {report['entities']} entities; {report['embedder']}, "
        f"{report['segmenter']}, pixels {report['pixels']}"
    ]
    for kind, block in report["kinds"].items():
        lines.append(f"\n{kind}: {block['queries']} questions, chance {block['chance']:.3f}")
        lines.append(f"{'':<44}{'mAP':>7}{'P@1':>8}   {'mAP over joint':<24}over pairwise")
        for name, figures in block.items():
            if isinstance(figures, dict):
                lines.append(
                    f"{name:<44}{figures['map']:>7.3f}{figures['p1']:>8.3f}   "
                    f"{_with_interval(figures['ratio']):<24}"
                    f"{_with_interval(figures.get('ratio_to_pairwise'))}".rstrip()
                )
    lines.append(
        f"\ncost: {report['cost']['queries']} queries ({report['cost']['kind']}) of {LIMIT} images, medians"
    )
    for name, figures in report["cost"].items():
        if isinstance(figures, dict):
            more = (
                f"   {figures['times_joint']:.1f} times joint; added {figures['added_p50_ms']:.0f} ms, "
                f"{figures['added_p50_ms_an_image']:.1f} an image"
                if "times_joint" in figures
                else ""
            )
            lines.append(f"{name:<44}{figures['p50_ms']:>7.0f} ms{more}")
    return "\n".join(lines)


def _with_interval(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    low, high = found["map_ci95"]
    return f"{found['map']:.3f} ({low:.3f} to {high:.3f})"


def _say(what: str) -> None:
    print(f"\r{what:<60}", end="", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--images", type=Path, action="append", required=True, metavar="DIR")
    parser.add_argument("--annotations", type=Path, action="append", required=True, metavar="FILE")
    parser.add_argument("--embedder", default="compact")
    parser.add_argument("--segmenter", default="compact")
    parser.add_argument(
        "--folds", type=Path, metavar="DIR", help="cut photos by cross-fitted weights (docs/evaluation.md)"
    )
    parser.add_argument("--pixels", default="original", choices=("original", "thumbnail"))
    parser.add_argument("--methods", nargs="+", default=list(RERANK_METHODS), choices=RERANK_METHODS)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--top", type=int, nargs="*", default=[8, 16, DEFAULT_RERANKED, 64], metavar="N")
    parser.add_argument("--weights", type=float, nargs="*", default=[0.25, 1.0, 2.0, 1000.0], metavar="W")
    parser.add_argument("--questions", type=int, default=0, help="of each kind at most; 0: all")
    parser.add_argument("--timed", type=int, default=20, help="timed questions of each setting")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    options = parser.parse_args(arguments)
    photos = read_folders(options.images, options.annotations)
    models = ModelRegistry()
    if options.folds is not None:
        models = CrossFittedModels(cross_fitted_segmenter(photos.images, options.folds))
    with indexed(photos, models, options) as index:
        report = {
            "images": len(index.photos.images),
            "entities": index.collection.stats.entities,
            "embedder": options.embedder,
            "segmenter": options.segmenter,
            "pixels": options.pixels,
            "default": {"top_n": DEFAULT_RERANKED, "weight": dict(DEFAULT_RERANK_WEIGHTS)},
            "kinds": quality(index, models, options),
            "cost": cost(index, models, options),
            "machine": machine(),
        }
    _say("")
    print(file=sys.stderr)
    hand_out(report, table(report), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
