"""The reports of `regionsearch eval ctrlbench`, `flickr30k`, and `coco --karpathy`: recall at 1, 5, 10."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.published import ctrlbench, karpathy, published_scores
from regionsearch.evaluation.published.benchmark_inputs import Retrieval
from regionsearch.evaluation.published.benchmark_run import (
    BenchmarkRun,
    RunSettings,
    assumption,
    shown_left_out,
)
from regionsearch.evaluation.published.embedded_inputs import Counts, LeftOut
from regionsearch.evaluation.published.hit_rates import Resampled, hits_of, shown_mean

RANKS = (1, 5, 10)
CTRLBENCH_ASSUMPTIONS = (
    assumption(
        "the file has the form that docs/benchmarks.md describes",
        "where and in which form the benchmark is published could not be established",
        "none",
    ),
    assumption(
        "models whose strings place the picture get the instruction as MMEB's questions are put",
        "none of them was published on this benchmark with its string",
        "--wording",
    ),
)
CAPTIONS_ASSUMPTIONS = (
    assumption(
        "captions are embedded as they are; pictures without words, or, for models whose strings place "
        "the picture, with the words of VIRTUE's demonstration for a gallery",
        "no published string for this task is known for those models",
        "--wording",
    ),
)


def evaluate_ctrlbench(settings: RunSettings, file: Path) -> tuple[dict[str, Any], Counts]:
    """R@1, 5, 10 over all captions, JSON-ready, and what was computed."""
    pairs = ctrlbench.read_pairs(file, settings.limit)
    with BenchmarkRun(settings) as run:
        recall, left_out = _recall(run, ctrlbench.retrieval_of(pairs, run.wording))
        pictures = len({pair.image for pair in pairs} - set(left_out.images))
        report = {
            "benchmark": "ctrlbench",
            **run.about(),
            **recall,
            "images": len({pair.image for pair in pairs}),
            "left_out": shown_left_out([left_out]),
            "assumptions": list(CTRLBENCH_ASSUMPTIONS),
            "published": published_scores.beside(
                published_scores.CTRLBENCH_COLUMNS,
                published_scores.CTRLBENCH,
                {"pictures": (pictures, published_scores.CTRLBENCH_PICTURES)},
            ),
        }
        return report, run.counts


def evaluate_captions(
    settings: RunSettings, file: Path, dataset: Literal["coco", "flickr30k"], split: str = "test"
) -> tuple[dict[str, Any], Counts]:
    """R@1, 5, 10 from picture to caption and back, JSON-ready, and what was computed."""
    pictures = karpathy.read_split(file, settings.images, split, settings.limit)
    if dataset == "coco":
        scores, of = published_scores.COCO_CAPTIONS, published_scores.COCO_CAPTIONS_PICTURES
    else:
        scores, of = published_scores.FLICKR30K_CAPTIONS, published_scores.FLICKR30K_CAPTIONS_PICTURES
    with BenchmarkRun(settings) as run:
        i2t, t2i = karpathy.retrievals_of(pictures, run.wording)
        to_text, lost = _recall(run, i2t)
        # The same inputs in the other direction, all cached; a lost picture takes its captions along.
        to_image, also_lost = _recall(run, t2i)
        report = {
            "benchmark": f"{dataset}-captions",
            **run.about(),
            "split": split,
            "i2t": to_text,
            "t2i": to_image,
            "left_out": shown_left_out([lost, also_lost]),
            "assumptions": list(CAPTIONS_ASSUMPTIONS),
            "published": published_scores.beside(
                published_scores.CAPTIONS_COLUMNS, scores, {"pictures": (to_text["queries"], of)}
            ),
        }
        return report, run.counts


def _recall(run: BenchmarkRun, retrieval: Retrieval) -> tuple[dict[str, Any], LeftOut]:
    embedded = run.embedded(retrieval)
    kept = embedded.retrieval
    if not len(embedded.kept):
        raise InvalidRequest("no picture of the benchmark can be read", field="images")
    hits = hits_of(
        kept,
        lambda places: run.vectors.vectors(embedded.query_rows[places]),
        lambda places: run.vectors.vectors(embedded.candidate_rows[places]),
        RANKS,
    )
    # Captions of one picture are drawn together, in either direction.
    groups = [query.image or f"#{kept.correct[number][0]}" for number, query in enumerate(kept.queries)]
    resampled = Resampled(groups)
    recall: dict[str, Any] = {"queries": len(kept.queries), "candidates": len(kept.candidates)}
    for place, k in enumerate(RANKS):
        shown = shown_mean(resampled.means(hits[:, place]), f"r{k}")
        recall |= {f"r{k}": shown[f"r{k}"], f"r{k}_ci95": shown["ci95"]}
    return recall, embedded.left_out
