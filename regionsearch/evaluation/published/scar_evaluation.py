"""The report of `regionsearch eval scar`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.published import published_scores
from regionsearch.evaluation.published.benchmark_run import (
    BenchmarkRun,
    RunSettings,
    assumption,
    shown_left_out,
)
from regionsearch.evaluation.published.embedded_inputs import Counts, EmbeddedRetrieval
from regionsearch.evaluation.published.hit_rates import Resampled, hits_of, shown_mean
from regionsearch.evaluation.published.image_files import ImageFiles
from regionsearch.evaluation.published.scar import SUBSETS, ScarSubset, read_subsets, retrieval_of
from regionsearch.evaluation.published.scar_engine import engine_hits
from regionsearch.models.registry import resolve

Hits = dict[str, NDArray[np.float64]]
AS_PUBLISHED = "as_published"
OVERHANG = 1.0
"""Pixels by which a box may leave its picture through rounding."""

ASSUMPTIONS = (
    assumption(
        "boxes in the file are pixels of the picture (x, y, width, height)",
        "the published program hands them unscaled to a frame of 1024 × 1024; in which unit the file holds "
        "them is not stated (`boxes` in this report counts those that leave their picture)",
        "--as-published hands them over unscaled, for virtue",
    ),
    assumption(
        "`crop` shows the model the box's pixels alone and keeps the words",
        "how the published +crop rows were made is not stated",
        "none",
    ),
    assumption(
        "qry_image_path is below --images",
        "the published program prepends a folder of its own machine",
        "point --images elsewhere",
    ),
)


def evaluate_scar(
    settings: RunSettings,
    files: Sequence[Path],
    *,
    crop: bool = False,
    as_published: bool = False,
    engine: bool = False,
    segmenter: str | None = None,
) -> tuple[dict[str, Any], Counts]:
    """Hit@1 by subset and column, JSON-ready, and what was computed.

    Columns: `embedding`; with `crop`, `as_published` and `engine` also `crop`, `as_published`, and
    `region_only`, `image_only`, `joint`. segmenter: adds its entities to the engine's collection.
    Raises InvalidRequest for `as_published` with another model than virtue, and what readers raise.
    """
    published = _as_published(settings.embedder) if as_published else None
    subsets = read_subsets(files, settings.limit)
    hits: dict[str, Hits] = {}
    about: dict[str, dict[str, Any]] = {}
    with BenchmarkRun(settings) as run:
        report: dict[str, Any] = {"benchmark": "scar", **run.about()}
        directory = run.data_directory() if engine else None
        embedded = {}
        for subset in subsets:
            whole = run.embedded(retrieval_of(subset, run.wording))
            embedded[subset.name] = whole
            hits[subset.name] = {"embedding": _hits(run, whole)}
            about[subset.name] = {**_kept(subset, whole).about(), "boxes": _boxes(subset, whole, run.images)}
            if crop:
                cropped = run.embedded(retrieval_of(subset, run.wording, crop=True))
                hits[subset.name]["crop"] = _hits(run, cropped)
            if directory is not None:
                found = engine_hits(
                    subset,
                    whole.kept,
                    run.models,
                    run.embedder_name,
                    segmenter,
                    run.images,
                    run.vectors,
                    directory,
                )
                hits[subset.name].update(found.hits)
                about[subset.name] |= {"background": found.background, "entities": found.entities}
        counts = run.counts
    if published is not None:
        with BenchmarkRun(settings, published) as run:
            for subset in subsets:
                whole = run.embedded(retrieval_of(subset, run.wording))
                hits[subset.name][AS_PUBLISHED] = _hits(run, whole)
            counts = Counts(counts.computed + run.counts.computed, counts.known + run.counts.known)
    groups = {name: [subset.rows[n].image for n in embedded[name].kept] for name, subset in _named(subsets)}
    report |= _scores(hits, groups, about)
    report["left_out"] = shown_left_out([one.left_out for one in embedded.values()])
    report["assumptions"] = list(ASSUMPTIONS)
    report["published"] = _published(about)
    return report, counts


def _as_published(name: str) -> str:
    reference = resolve("embedder", name)
    if reference.kind != "virtue":
        raise InvalidRequest(
            f"--as-published is a way of virtue's published program; the embedder is {reference.kind!r}",
            field="embedder",
        )
    return str(replace(reference, options={**reference.options, AS_PUBLISHED: "yes"}))


def _named(subsets: Sequence[ScarSubset]) -> list[tuple[str, ScarSubset]]:
    return [(subset.name, subset) for subset in subsets]


def _hits(run: BenchmarkRun, embedded: EmbeddedRetrieval) -> NDArray[np.float64]:
    return hits_of(
        embedded.retrieval,
        lambda places: run.vectors.vectors(embedded.query_rows[places]),
        lambda places: run.vectors.vectors(embedded.candidate_rows[places]),
        (1,),
    )[:, 0]


def _kept(subset: ScarSubset, embedded: EmbeddedRetrieval) -> ScarSubset:
    if not len(embedded.kept):
        raise InvalidRequest(f"no picture of the subset {subset.name} can be read", field="images")
    return ScarSubset(subset.name, [subset.rows[number] for number in embedded.kept])


def _boxes(subset: ScarSubset, embedded: EmbeddedRetrieval, images: ImageFiles) -> dict[str, Any]:
    """Whether boxes are in pixels of their pictures: how many leave them, on any side, and how far the
    farthest right or lower edge lies in widths or heights of the picture."""
    reach, beyond = 0.0, 0
    for number in embedded.kept:
        row = subset.rows[number]
        height, width = images.size(row.image)
        x0, y0, x1, y1 = row.box
        reach = max(reach, x1 / width, y1 / height)
        beyond += min(x0, y0) < -OVERHANG or x1 > width + OVERHANG or y1 > height + OVERHANG
    return {"beyond_picture": beyond, "farthest_edge": reach}


def _scores(
    hits: Mapping[str, Hits], groups: Mapping[str, list[str]], about: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    draws: dict[str, dict[str, NDArray[np.float64]]] = {}
    for seed, (name, columns) in enumerate(hits.items()):
        # Another seed for each subset: they are drawn independently of each other.
        resampled = Resampled(groups[name], seed)
        draws[name] = {column: resampled.means(values) for column, values in columns.items()}
    judged = list(next(iter(draws.values())))
    overall = {column: np.mean([one[column] for one in draws.values()], axis=0) for column in judged}
    return {
        "subsets": {
            name: {**about[name], "accuracy": {column: shown_mean(one[column]) for column in judged}}
            for name, one in draws.items()
        },
        "overall": {column: shown_mean(values) for column, values in overall.items()},
        "gain": _gains(overall),
    }


def _gains(overall: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Overall hit@1 of joint scoring less that of each other column, on the same draws."""
    if "joint" not in overall:
        return {}
    return {
        f"joint_over_{column}": shown_mean(overall["joint"] - values)
        for column, values in overall.items()
        if column != "joint"
    }


def _published(about: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Rows of the published table in the columns that were judged; `overall` when all five were."""
    columns = [
        column
        for column in published_scores.SCAR_COLUMNS
        if column in about or (column == "overall" and set(SUBSETS.values()) <= set(about))
    ]
    judged = {
        name: (about[name]["queries"], count)
        for name, count in published_scores.SCAR_QUERIES.items()
        if name in about
    }
    return published_scores.beside(
        published_scores.SCAR_COLUMNS, published_scores.SCAR, judged, wanted=columns
    )
