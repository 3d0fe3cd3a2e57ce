"""The report of `regionsearch eval mmeb`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.published import published_scores
from regionsearch.evaluation.published.benchmark_run import (
    BenchmarkRun,
    RunSettings,
    assumption,
    shown_left_out,
)
from regionsearch.evaluation.published.embedded_inputs import Counts
from regionsearch.evaluation.published.hit_rates import Resampled, hits_of, shown_mean
from regionsearch.evaluation.published.mmeb import (
    MEANS,
    MmebSubset,
    read_task,
    retrieval_of,
    task_files,
    tasks_of_mean,
)
from regionsearch.evaluation.published.mmeb_tasks import TASKS

RANKS = (1, 5, 10)
ASSUMPTIONS = (
    assumption(
        "a duplicate of the true candidate counts as true in both published forms",
        "the program of the second form compares names; that of the first compared places",
        "none",
    ),
    assumption(
        "a stored string of the one-string form that names no place for its picture gets it in front",
        "the files could not be read here",
        "--wording",
    ),
    assumption(
        "models that cannot follow an instruction are asked without one, those that take it beside the "
        "picture get the benchmark's, and their candidates have none",
        "how others worded these tasks for such models is not stated, but for ABC's class labels",
        "--wording",
    ),
)


def evaluate_mmeb(
    settings: RunSettings, files: Sequence[Path], tasks: Sequence[str] = ()
) -> tuple[dict[str, Any], Counts]:
    """Hit@1 by task and the published means, JSON-ready, and what was computed."""
    found = task_files(files, tasks)
    with BenchmarkRun(settings) as run:
        report: dict[str, Any] = {"benchmark": "mmeb", **run.about()}
        judged: dict[str, dict[str, Any]] = {}
        left_out = []
        for name, parts in found.items():
            subset = read_task(TASKS[name], parts, settings.limit)
            judged[name], lost = _judged(run, subset)
            left_out.append(lost)
        report["tasks"] = judged
        report["means"] = means(judged)
        report["left_out"] = shown_left_out(left_out)
        report["assumptions"] = list(ASSUMPTIONS)
        counted = {name: (task["queries"], published_scores.MMEB_QUERIES) for name, task in judged.items()}
        report["published"] = published_scores.beside(
            published_scores.MMEB_COLUMNS, published_scores.MMEB, counted
        ) | {"tasks": {"ABC": {n: s for n, s in published_scores.MMEB_TASKS_ABC.items() if n in judged}}}
        return report, run.counts


def _judged(run: BenchmarkRun, subset: MmebSubset) -> tuple[dict[str, Any], Any]:
    task = subset.task
    embedded = run.embedded(retrieval_of(subset, run.wording))
    if not len(embedded.kept):
        raise InvalidRequest(f"no query of {task.name} can be read", field="images")
    retrieval = embedded.retrieval
    hits = hits_of(
        retrieval,
        lambda places: run.vectors.vectors(embedded.query_rows[places]),
        lambda places: run.vectors.vectors(embedded.candidate_rows[places]),
        RANKS,
    )
    # Queries about words have no picture to be drawn by: each is drawn by itself.
    groups = [query.image or f"#{number}" for number, query in enumerate(retrieval.queries)]
    draws = Resampled(groups).means(hits[:, 0])
    return {
        "kind": task.kind,
        "domain": "IND" if task.seen else "OOD",
        "form": "instruct" if subset.is_instruct_form else "one string",
        "queries": len(retrieval.queries),
        "candidates": len(retrieval.candidates),
        "candidates_per_query": float(np.mean([len(places) for places in retrieval.choices or ()])),
        **shown_mean(draws),
        **{f"hit{k}": float(hits[:, place].mean()) for place, k in enumerate(RANKS) if k > 1},
    }, embedded.left_out


def means(judged: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The published means over the tasks that were judged; `tasks` of `of` says over how many."""
    shown = {}
    for mean in MEANS:
        names = tasks_of_mean(mean)
        values = [float(judged[name]["hit1"]) for name in names if name in judged]
        shown[mean] = {
            "hit1": float(np.mean(values)) if values else None,
            "tasks": len(values),
            "of": len(names),
        }
    return shown
