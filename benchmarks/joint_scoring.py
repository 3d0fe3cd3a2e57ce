"""How long joint scoring of 200 candidates with 32 entities each takes, reads from LMDB included.

    python -m benchmarks.joint_scoring [--images N] [--photos FOLDER] [--candidates N] [--entities N]
        [--sets N] [--json FILE]

Fills a collection with drawn images or, with `--photos` (repeatable), with real photos through the compact
models, repeated with noise; reads every record once, so that the page cache is warm; and times, for many
random sets of candidates, what follows the two arms: fetching, comparing with the query, placement,
scoring, ranking. Every set is a new one, so that the processor's caches do not know it.

Beside it, on sets of their own in the same loop: the same with the vectors copied out of LMDB first, and the
obvious program, which reads whole records and scores them one by one. The answers of the first are held
against that program in float64: totals, matched entities, order.

The cores of this machine may be shared: medians are of wall clock, and stand beside the tenth percentile and
the median of the thread's own processor time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.repeated_photos import drawn_images, photographed, repeated, with_noise
from benchmarks.reports import hand_out, machine
from regionsearch.collection import Collection, DataDirectory, ImageRecord
from regionsearch.ingest import collection_spec
from regionsearch.models.embedder import SignalBackground
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box
from regionsearch.search.agreement import EntityFacts, agreements, allowed
from regionsearch.search.joint_scoring import JointQuestion, ranking, score_jointly
from regionsearch.search.placement import Placement
from regionsearch.search.scoring import ScoringProfile, shipped_scoring

Precision = type[np.float32] | type[np.float64]
GOAL_MS = 8.0
CHECKED_SETS = 3
WARM_UP = 3
SAME = 1e-4
"""Of totals that float32 and float64 may order differently."""
BACKGROUND = {
    name: SignalBackground(0.1, 0.05) for name in ("entity", "global", "text_entity", "text_image")
} | {"placement": SignalBackground(0.5, 0.3), "objectness": SignalBackground(0.5, 0.3)}
"""Any will do: what is added does not change the time that adding takes."""
WEIGHTS = {"placement": 1.0, "objectness": 0.2}
"""Put over the shipped ones, so that no part is added for nothing."""


@dataclass(frozen=True, eq=False)
class Asked:
    """One question and what is wanted of its matches."""

    question: JointQuestion
    placements: tuple[Placement, ...] = ()


@dataclass(frozen=True, eq=False)
class Ranked:
    """order: image ids, best first. totals: in that order. entities: (c, p) matched, in that order."""

    order: list[str]
    totals: NDArray[np.float64]
    entities: NDArray[np.int64]


def kinds(rng: np.random.Generator, vectors: NDArray[np.float32]) -> dict[str, Asked]:
    """One question of each kind, near some of the vectors (n, d) that are stored."""
    near = with_noise(vectors[rng.choice(len(vectors), 5, replace=False)], rng)
    regions, image, text = near[:3], near[3], near[4]
    beside = Placement(part="left_half", min_area=0.01, label="thing")
    around = Placement(box=Box(0.2, 0.2, 0.8, 0.8), max_area=0.9)
    return {
        "text": Asked(JointQuestion(regions[:0], None, text)),
        "region": Asked(JointQuestion(regions[:1], image, None)),
        "region + text": Asked(JointQuestion(regions[:1], image, text)),
        "three regions": Asked(JointQuestion(regions, image, None)),
        "region + text, placed": Asked(JointQuestion(regions[:1], image, text), (beside,)),
        "three regions + text, placed": Asked(
            JointQuestion(regions, image, text), (beside, around, Placement())
        ),
    }


def scored(
    collection: Collection, numbers: list[int], asked: Asked, profile: ScoringProfile, *, copied: bool
) -> tuple[Ranked, dict[str, float]]:
    """The ranking, and milliseconds by step."""
    started = time.perf_counter()
    candidates = collection.candidates(
        numbers,
        compared_with=None if copied else asked.question.of_entities,
        images_compared_with=asked.question.of_images,
        labels=any(placement.label is not None for placement in asked.placements),
    )
    fetched = time.perf_counter()
    wanted, may = None, None
    if asked.placements:
        facts = EntityFacts.of(candidates)
        wanted, may = agreements(asked.placements, facts), allowed(asked.placements, facts)
    placed = time.perf_counter()
    scores = score_jointly(candidates, asked.question, BACKGROUND, profile, agreement=wanted, allowed=may)
    joint = time.perf_counter()
    order = [place for place in ranking(scores.totals, candidates.image_ids) if bool(scores.matched[place])]
    ended = time.perf_counter()
    steps = {"fetch": fetched - started, "placement": placed - fetched, "score": joint - placed}
    milliseconds = {name: 1e3 * seconds for name, seconds in {**steps, "rank": ended - joint}.items()}
    ranked = Ranked(
        [candidates.image_ids[place] for place in order], scores.totals[order], scores.measured_on[order, :1]
    )
    return ranked, milliseconds


def one_by_one(
    collection: Collection, numbers: list[int], asked: Asked, profile: ScoringProfile, precision: Precision
) -> Ranked:
    """The obvious program: whole records, one image after the other."""
    found = []
    for record in collection.records(numbers):
        assert record is not None
        best = best_match(record, asked, profile, precision)
        if best is not None:
            found.append((-best[0], record.image_id, best[1]))
    found.sort(key=lambda each: each[:2])
    matches = np.array([entities for _, _, entities in found], np.int64)
    return Ranked([image_id for _, image_id, _ in found], -np.array([each[0] for each in found]), matches)


def best_match(
    record: ImageRecord, asked: Asked, profile: ScoringProfile, precision: Precision
) -> tuple[float, list[int]] | None:
    """The total of one image and the entity that its first part is measured on; None when none may be."""
    from scipy.optimize import linear_sum_assignment

    weights = profile.weights
    vectors: NDArray[Any] = record.vectors.astype(precision)
    question = asked.question
    count, matches = len(vectors) - 1, question.matches

    def z(raw: NDArray[Any], name: str) -> NDArray[Any]:
        standardised: NDArray[Any] = (raw - BACKGROUND[name].mean) / BACKGROUND[name].deviation
        return weights[name] * standardised

    def below(cosines: NDArray[Any], name: str) -> float:
        """What the soft maximum lies below the greatest, in weighted deviations."""
        shares = (record.entities.objectness + 0.01) ** profile.evidence.objectness
        sharpness, deviation = profile.evidence.sharpness, BACKGROUND[name].deviation
        grown = np.exp(sharpness * (cosines - cosines.max()) / deviation)
        return float(weights[name] * -np.log((shares * grown).sum() / shares.sum()) / sharpness)

    values = np.zeros((count, matches))
    whole = 0.0
    if len(question.regions):
        cosines = vectors[1:] @ question.regions.T.astype(precision)
        values += z(cosines, "entity") / matches
        whole -= sum(below(column, "entity") for column in cosines.T) / matches
    if question.image is not None:
        whole += float(z(vectors[0] @ question.image.astype(precision), "global"))
    if question.text is not None:
        words = vectors @ question.text.astype(precision)
        whole -= below(words[1:], "text_entity")
        if len(question.regions):
            whole += float(z(words[1:].max(), "text_entity"))
        else:
            values += z(words[1:, None], "text_entity")
        whole += float(z(words[0], "text_image"))
    values += z(record.entities.objectness[:, None].astype(precision), "objectness") / matches
    if asked.placements:
        sides = np.array([record.width, record.height] * 2, np.float64)
        facts = EntityFacts(
            record.entities.boxes / sides,
            record.entities.areas.astype(np.float64),
            record.entities.labels,
            np.array([0, count]),
        )
        wanted, may = agreements(asked.placements, facts), allowed(asked.placements, facts)
        if wanted is not None:
            values += z(wanted, "placement") / matches
        if may is not None:
            values = np.where(may, values, -1e9)
    if count < matches:
        return None
    entities, columns = linear_sum_assignment(values, maximize=True)
    chosen = values[entities, columns]
    if chosen.min() < -1e8:
        return None
    return whole + float(chosen.sum()), entities[np.argsort(columns)][:1].tolist()


def compared(found: Ranked, true: Ranked) -> dict[str, float]:
    """How far an answer is from the one in float64. Neighbours in the order whose totals differ by less
    than `SAME` may stand either way."""
    same_images = set(found.order) == set(true.order)
    totals = dict(zip(true.order, true.totals.tolist(), strict=True))
    entities = dict(zip(true.order, true.entities.tolist(), strict=True))
    apart = max((abs(total - totals[name]) for name, total in zip(found.order, found.totals, strict=True)))
    true_of_found = np.array([totals[name] for name in found.order])
    return {
        "largest_difference": float(apart),
        "out_of_order": float(np.count_nonzero(np.diff(true_of_found) > SAME)) if same_images else np.inf,
        "other_entities": float(
            sum(row != entities[name] for name, row in zip(found.order, found.entities.tolist(), strict=True))
        ),
    }


def timed(action: Callable[[], Any]) -> tuple[float, float, Any]:
    """Milliseconds of wall clock and of this thread's processor time, and what was done."""
    started, worked = time.perf_counter(), time.thread_time()
    answer = action()
    return 1e3 * (time.perf_counter() - started), 1e3 * (time.thread_time() - worked), answer


def measure(
    collection: Collection, vectors: NDArray[np.float32], options: argparse.Namespace
) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    profile = shipped_scoring().profile(WEIGHTS)
    images = collection.sample_numbers(collection.stats.images, 0).tolist()
    for start in range(0, len(images), options.candidates):
        collection.candidates(images[start : start + options.candidates])

    def some() -> list[int]:
        return sorted(rng.choice(images, options.candidates, replace=False).tolist())

    report: dict[str, Any] = {}
    for kind in kinds(rng, vectors):
        exact = [checked(collection, some(), kinds(rng, vectors)[kind], profile) for _ in range(CHECKED_SETS)]
        steps: list[dict[str, float]] = []
        times: dict[str, list[tuple[float, float]]] = {"in place": [], "copied": [], "one by one": []}
        for number in range(WARM_UP + options.sets):
            asked = kinds(rng, vectors)[kind]
            ways: dict[str, Callable[[], Any]] = {
                "in place": partial(scored, collection, some(), asked, profile, copied=False),
                "copied": partial(scored, collection, some(), asked, profile, copied=True),
                "one by one": partial(one_by_one, collection, some(), asked, profile, np.float32),
            }
            if (number - WARM_UP) % options.naive_every:
                del ways["one by one"]
            for way, action in ways.items():
                wall, processor, answer = timed(action)
                if number < WARM_UP:
                    continue
                times[way].append((wall, processor))
                if way == "in place":
                    steps.append(answer[1])
        report[kind] = {
            **{way: summary(values) for way, values in times.items()},
            "steps_p50_ms": {name: float(np.median([step[name] for step in steps])) for name in steps[0]},
            "exact": {name: max(each[name] for each in exact) for name in exact[0]},
        }
    return report


def checked(
    collection: Collection, numbers: list[int], asked: Asked, profile: ScoringProfile
) -> dict[str, float]:
    found, _ = scored(collection, numbers, asked, profile, copied=False)
    return compared(found, one_by_one(collection, numbers, asked, profile, np.float64))


def summary(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    wall, processor = np.array(times).T
    return {
        "p10_ms": float(np.percentile(wall, 10)),
        "p50_ms": float(np.median(wall)),
        "p99_ms": float(np.percentile(wall, 99)),
        "processor_p50_ms": float(np.median(processor)),
    }


def batches(
    options: argparse.Namespace, models: ModelRegistry, dimension: int
) -> Iterator[list[ImageRecord]]:
    if not options.photos:
        return drawn_images(options.images, options.entities, dimension)
    embedder, segmenter = models.embedder(options.embedder), models.segmenter(options.embedder)
    return repeated(photographed(options.photos, embedder, segmenter, options.entities), options.images)


def table(report: Mapping[str, Any]) -> str:
    lines = [
        f"{report['candidates']} candidates of {report['images']} images, {report['entities_per_image']:.1f} "
        f"entities each, {report['dimension']} dimensions; load {report['load'][0]:.1f} before, "
        f"{report['load'][1]:.1f} after",
        f"{'ms':<30}{'p10':>7}{'p50':>7}{'p99':>7}{'cpu p50':>9}{'copied':>9}{'one by one':>12}{'ratio':>8}"
        "   p50 of fetch, placement, score, rank",
    ]
    for kind, figures in report["kinds"].items():
        own, copied, naive = figures["in place"], figures["copied"], figures["one by one"]
        steps = "  ".join(f"{value:.2f}" for value in figures["steps_p50_ms"].values())
        lines.append(
            f"{kind:<30}{own['p10_ms']:>7.2f}{own['p50_ms']:>7.2f}{own['p99_ms']:>7.2f}"
            f"{own['processor_p50_ms']:>9.2f}{copied['p50_ms']:>9.2f}{naive['p50_ms']:>12.1f}"
            f"{naive['p50_ms'] / own['p50_ms']:>8.1f}   {steps}"
        )
    lines.append("against float64:")
    for kind, figures in report["kinds"].items():
        exact = figures["exact"]
        lines.append(
            f"{kind:<30}totals differ by {exact['largest_difference']:.1e} at most, "
            f"{exact['out_of_order']:g} out of order, {exact['other_entities']:g} other entities"
        )
    lines.append(f"goal: p50 of at most {GOAL_MS:g} ms")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--images", type=int, default=3_000)
    parser.add_argument("--photos", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument("--embedder", default="compact", help="embedder and segmenter for the photos")
    parser.add_argument("--entities", type=int, default=32, help="of an image, at most")
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--sets", type=int, default=100, help="random sets of candidates for each kind")
    parser.add_argument("--naive-every", type=int, default=5, help="sets for each that is scored one by one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    options = parser.parse_args(arguments)
    models = ModelRegistry()
    spec = collection_spec(
        "joint", models.embedder(options.embedder), models.segmenter(options.embedder), pixels="none"
    )
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="regionsearch-joint-") as folder,
        DataDirectory(Path(folder) / "data", "write") as directory,
    ):
        collection = directory.create_collection(spec)
        seen = []
        for batch in batches(options, models, spec.embedder.dimension):
            collection.upsert(batch)
            seen += [record.vectors[number % len(record.vectors)] for number, record in enumerate(batch)]
        stats = collection.stats
        found = measure(collection, np.stack(seen), options)
    report = {
        "images": stats.images,
        "entities_per_image": stats.entities / stats.images,
        "dimension": stats.dimension,
        "candidates": options.candidates,
        "sets": options.sets,
        "photos": [str(folder) for folder in options.photos],
        "load": [load, os.getloadavg()[0]],
        "machine": machine(),
        "kinds": found,
    }
    hand_out(report, table(report), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
