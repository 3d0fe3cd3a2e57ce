"""How well a search counts things, and what liked and disliked examples bring, on annotated photos.

    python -m benchmarks.counts_and_examples --images DIR --annotations FILE [--embedder E] [--segmenter S]
        [--json FILE]

Indexes the photos with automatic entities and asks for every class by name.

Counts: the answer to `min_count` k for k from 1 to 5 says how many such things the engine sees in each photo.
Judged on the photos that hold the class with boxes of at least 1% of the photo: how often the number is right
(5 and more are one number), and how well two or more are told from one: the area under the curve, and the
shares of photos with several and with one that a strict `min_count=2` lets through; and how well photos with
several are ranked by the words alone, with `min_count=2`, and with that as a condition.

Examples: of the first 20 answers to the words, the two best right ones are liked and the two best wrong ones
disliked. Mean average precision over the photos that were not examples, of the words alone and with the
examples, of the first liked entity by its id alone and with the other examples, and of liked examples alone;
the gain is over what was asked without examples. Intervals from 1,000 draws of classes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regionsearch.collection import Collection
from regionsearch.config import Limits
from regionsearch.evaluation.coco_annotations import AnnotatedPhotos, read_folders
from regionsearch.evaluation.photo_index import PhotoIndex
from regionsearch.models.registry import ModelRegistry
from regionsearch.search import Example, Placement, Query, SearchEngine

LEAST_BOX_AREA = 0.01
MOST_COUNTED = 5
LEAST_PHOTOS = 6
"""Of a class that examples are asked for: two of them are used up."""
LOOKED_THROUGH = 20
EACH_KIND = 2
DRAWS = 1_000


def seen_counts(engine: SearchEngine, collection: Collection, text: str) -> dict[str, int]:
    """By image id how many such things the engine sees, MOST_COUNTED at most."""
    counts: dict[str, int] = {}
    for least in range(1, MOST_COUNTED + 1):
        wanted = Placement(min_count=least, strict=True)
        query = Query(text=text, placements=(wanted,), limit=min(Limits().hits, collection.stats.images))
        for hit in engine.search(collection, query).hits:
            counts[hit.image_id] = least
    return counts


def judged_counts(engine: SearchEngine, collection: Collection, photos: AnnotatedPhotos) -> dict[str, Any]:
    seen: list[int] = []
    true: list[int] = []
    for name in photos.classes:
        held = {
            image.image_id: sum(thing.box_area >= LEAST_BOX_AREA for thing in image.of_class(name))
            for image in photos.images
        }
        if not any(held.values()):
            continue
        counted = seen_counts(engine, collection, f"a photo of a {name}")
        for image_id, number in held.items():
            if number:
                seen.append(counted[image_id])
                true.append(min(number, MOST_COUNTED))
    found, held_by = np.array(seen), np.array(true)
    several, one = found[held_by >= 2], found[held_by == 1]
    above = (several[:, None] > one[None]).mean() + 0.5 * (several[:, None] == one[None]).mean()
    return {
        "photos with one": len(one),
        "photos with several": len(several),
        "right": float((found == held_by).mean()),
        "right if always one": float((held_by == 1).mean()),
        "mean seen": float(found.mean()),
        "mean true": float(held_by.mean()),
        "area under the curve": float(above),
        "several let through": float((several >= 2).mean()),
        "one let through": float((one >= 2).mean()),
    }


def judged_rankings(engine: SearchEngine, collection: Collection, photos: AnnotatedPhotos) -> dict[str, Any]:
    """How well photos with several things are ranked: by words, with `min_count` 2, and strictly so. Of
    classes that some photos hold one of and others several."""
    everything = min(Limits().hits, collection.stats.images)
    precisions: dict[str, list[float]] = {}
    for name in photos.classes:
        held = {
            image.image_id: sum(thing.box_area >= LEAST_BOX_AREA for thing in image.of_class(name))
            for image in photos.images
        }
        several = frozenset(image_id for image_id, number in held.items() if number >= 2)
        if not several or not any(number == 1 for number in held.values()):
            continue
        asked = {
            "words": (),
            "several": (Placement(min_count=2),),
            "several, strictly": (Placement(min_count=2, strict=True),),
        }
        for what, placements in asked.items():
            query = Query(text=f"a photo of a {name}", placements=placements, limit=everything)
            order = [hit.image_id for hit in engine.search(collection, query).hits]
            precisions.setdefault(what, []).append(average_precision(order, several))
    return _compared(precisions, lambda what: "words")


def average_precision(order: Sequence[str], relevant: frozenset[str]) -> float:
    found = [place for place, image_id in enumerate(order, start=1) if image_id in relevant]
    return sum(number / place for number, place in enumerate(found, start=1)) / len(relevant)


def judged_examples(engine: SearchEngine, collection: Collection, photos: AnnotatedPhotos) -> dict[str, Any]:
    everything = min(Limits().hits, collection.stats.images)
    precisions: dict[str, list[float]] = {}
    for name in photos.classes:
        relevant = {image.image_id for image in photos.images if name in image.classes}
        if len(relevant) < LEAST_PHOTOS:
            continue
        words = f"a photo of a {name}"
        first = engine.search(collection, Query(text=words, limit=LOOKED_THROUGH)).hits
        named = [Example(hit.image_id, hit.entity.index) for hit in first]
        liked = tuple(each for each in named if each.image_id in relevant)[:EACH_KIND]
        disliked = tuple(each for each in named if each.image_id not in relevant)[:EACH_KIND]
        if not liked or not disliked:
            continue
        used = {each.image_id for each in (*liked, *disliked)}
        by_id: Mapping[str, Any] = {"image_id": liked[0].image_id, "entities": (liked[0].entity,)}
        asked: dict[str, Mapping[str, Any]] = {
            "words": {"text": words},
            "words + liked": {"text": words, "liked": liked},
            "words - disliked": {"text": words, "disliked": disliked},
            "words + liked - disliked": {"text": words, "liked": liked, "disliked": disliked},
            "first liked by its id": by_id,
            "first liked by its id + liked": {**by_id, "liked": liked[1:]},
            "first liked by its id - disliked": {**by_id, "disliked": disliked},
            "liked alone": {"liked": liked},
            "liked - disliked": {"liked": liked, "disliked": disliked},
        }
        for what, said in asked.items():
            hits = engine.search(collection, Query(**said, limit=everything)).hits
            order = [hit.image_id for hit in hits if hit.image_id not in used]
            precisions.setdefault(what, []).append(average_precision(order, frozenset(relevant - used)))
    return _compared(precisions, _without_examples)


def _compared(precisions: Mapping[str, list[float]], base: Callable[[str], str]) -> dict[str, Any]:
    """base: by what is asked, what it is compared with."""
    return {
        what: {
            "classes": len(values),
            "map": _mean(values),
            "ci95": _interval(values),
            "gain": _mean(gains := np.subtract(values, precisions[base(what)])),
            "gain_ci95": _interval(gains),
        }
        for what, values in precisions.items()
    }


def _without_examples(what: str) -> str:
    return "first liked by its id" if what.startswith("first liked") else "words"


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values))


def _interval(values: Sequence[float] | np.ndarray) -> list[float]:
    drawn = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(np.asarray(values)[drawn].mean(axis=1), [2.5, 97.5])
    return [float(low), float(high)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--embedder", default="compact")
    parser.add_argument("--segmenter", default="compact")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    photos = read_folders([arguments.images], [arguments.annotations])
    models = ModelRegistry()
    with PhotoIndex(photos, models, arguments.embedder, arguments.segmenter) as index:
        engine = SearchEngine(models)
        report = {
            "counts": judged_counts(engine, index.collection, index.photos),
            "several": judged_rankings(engine, index.collection, index.photos),
            "examples": judged_examples(engine, index.collection, index.photos),
        }
    for what, figure in report["counts"].items():
        print(f"{what:24} {figure:.3f}" if isinstance(figure, float) else f"{what:24} {figure}")
    for what, figures in (*report["several"].items(), *report["examples"].items()):
        low, high = figures["ci95"]
        least, most = figures["gain_ci95"]
        print(
            f"{what:34} mAP {figures['map']:.3f} [{low:.3f}, {high:.3f}]  "
            f"{figures['gain']:+.3f} [{least:+.3f}, {most:+.3f}]  {figures['classes']} classes"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
