"""Fits the weights and the calibration that ship with the package, on annotated photos.

    python -m regionsearch.evaluation.fit_scoring --folder IMAGES INSTANCES [CAPTIONS] [--folder ...]
        [--folds DIR] --out scoring.json [--report report.json] [--apart DIR]

Of two folders or more it first reports crosswise: fitted on all others, judged on each. The file is then
fitted on every folder alone and on all of them as one collection, so that collections of several sizes have a
say. Questions about the 20 classes that are held out take no part.

`--folds`: as in `cross_fitted`, for photos that the segmenter's weights were fitted on. `--apart`: writes for
every folder the file that was fitted without it, to be judged by `cross_fitted --scoring`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from regionsearch.errors import RegionSearchError
from regionsearch.evaluation.coco_annotations import AnnotatedPhotos, read_folders
from regionsearch.evaluation.cross_fitted import SEGMENTER, cross_fitted_segmenter
from regionsearch.evaluation.fitting_calibration import (
    FirstHits,
    calibration_errors,
    first_hits,
    fit_calibration,
)
from regionsearch.evaluation.fitting_signals import FITTED_PARTS, AskedSignals, encode_photos, signals_of
from regionsearch.evaluation.fitting_weights import curves, fit_per_kind, fit_weights, mean_average_precision
from regionsearch.models.registry import DEFAULT_EMBEDDER, ModelRegistry
from regionsearch.search.scoring import Scoring, shipped_scoring

ALL = "all together"


def read_apart(folders: Sequence[Sequence[Path]]) -> dict[str, AnnotatedPhotos]:
    """By name each folder's photos, and `all together` those of all, with the same ids throughout.

    folders: images, instances and perhaps captions of each.
    """
    together = read_folders([one[0] for one in folders], [one[1] for one in folders])
    captions = {}
    for one in folders:
        if len(one) > 2:
            alone = read_folders([one[0]], [one[1]], [one[2]])
            captions.update({image.path: image.captions for image in alone.images})
    together = replace(
        together,
        images=tuple(replace(image, captions=captions.get(image.path, ())) for image in together.images),
    )
    if len(folders) == 1:
        return {ALL: together}
    sets = {ALL: together}
    for images, *_ in folders:
        own = tuple(image for image in together.images if image.path.parent == images)
        sets[str(images)] = replace(together, images=own)
    return sets


def fit(sets: Sequence[Sequence[AskedSignals]], base: Scoring) -> Scoring:
    """base: what is not fitted here: placement, objectness, the entities' evidence."""
    weights = fit_weights(sets)
    hits = [first_hits(asked, _vector(weights)) for asked in sets]
    return Scoring(
        weights={**base.weights, **weights},
        per_kind={kind: {**base.weights, **own} for kind, own in fit_per_kind(sets, weights).items()},
        evidence=base.evidence,
        calibration=fit_calibration(hits, base.calibration),
    )


def crosswise(by_folder: Mapping[str, Sequence[AskedSignals]], base: Scoring) -> dict[str, Any]:
    """For each folder the figures of what was fitted on the others, beside those of `base`.

    Captions, where only the judged folder has any: what a word costs is fitted on the captions of one half of
    its photos and judged on the other half, both ways.
    """
    report = {}
    for name, judged in by_folder.items():
        others = [asked for other, asked in by_folder.items() if other != name]
        scoring = fit(others, base)
        weights = scoring.weights
        vector = _vector(weights)
        hits = first_hits(judged, vector)
        other_hits = [first_hits(asked, vector) for asked in others]
        errors = calibration_errors(hits, scoring.calibration)
        if "captions" in hits and not any("captions" in one for one in other_hits):
            errors["captions"] = _half_by_half(judged, other_hits, base, vector)
        report[name] = {
            "scoring": scoring.to_json(),
            "map": mean_average_precision(judged, vector),
            "map_before": mean_average_precision(judged, _vector(base.weights)),
            "ece": errors,
        }
    return report


def _half_by_half(
    judged: Sequence[AskedSignals], others: Sequence[Mapping[str, FirstHits]], base: Scoring, vector: Any
) -> float:
    captions = [signals for signals in judged if signals.block == "captions"]
    # The photos of a set have an order that says nothing, so every other photo is one half.
    halves = [[s for s in captions if int(s.relevant.argmax()) % 2 == half] for half in (0, 1)]
    errors = []
    for half in (0, 1):
        seen = first_hits(halves[1 - half], vector)
        calibration = fit_calibration([*others, seen], base.calibration)
        errors.append(calibration_errors(first_hits(halves[half], vector), calibration)["captions"])
    return float(np.mean(errors))


def _vector(weights: Mapping[str, float]) -> Any:
    return np.array([weights[name] for name in FITTED_PARTS])


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except RegionSearchError as error:
        print(f"fit_scoring: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    base = shipped_scoring()
    sets = read_apart(options.folder)
    models = ModelRegistry()
    embedder = models.embedder(DEFAULT_EMBEDDER)
    if options.folds is None:
        segmenter = models.segmenter(SEGMENTER)
    else:
        segmenter = cross_fitted_segmenter(sets[ALL].images, options.folds)
    vectors = encode_photos(list(sets.values()), embedder, segmenter, _tell)
    profile = base.profile({})
    asked = {name: signals_of(photos, vectors, embedder, segmenter, profile) for name, photos in sets.items()}
    by_folder = {name: one for name, one in asked.items() if name != ALL}
    scoring = fit(list(asked.values()), base)
    report: dict[str, Any] = {
        "crosswise": crosswise(by_folder, base) if len(by_folder) > 1 else {},
        "fitted": {
            name: {
                "map": mean_average_precision(one, _vector(scoring.weights)),
                "ece": calibration_errors(first_hits(one, _vector(scoring.weights)), scoring.calibration),
                "questions": {block: sum(s.block == block for s in one) for block in {s.block for s in one}},
            }
            for name, one in asked.items()
        },
        "curves": curves(list(asked.values()), scoring.weights),
    }
    _write(options.out, scoring.to_json())
    if options.apart is not None:
        options.apart.mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(report["crosswise"].values()):
            _write(options.apart / f"without-{number}.json", one["scoring"])
    if options.report is not None:
        _write(options.report, report)
    print(json.dumps(report, indent=2))


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fit_scoring", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--folder",
        type=Path,
        nargs="+",
        action="append",
        required=True,
        metavar="PATH",
        help="images, instances.json and, where there are any, captions.json",
    )
    parser.add_argument("--folds", type=Path, help="folder of fold*.npz and fold*.txt, by fit_segmenter")
    parser.add_argument("--out", type=Path, required=True, help="the scoring file")
    parser.add_argument("--report", type=Path, help="JSON: figures crosswise and as fitted, and curves")
    parser.add_argument(
        "--apart", type=Path, help="folder for without-N.json: fitted without the folder number N, from 0"
    )
    return parser


def _tell(what: str, done: int, of: int) -> None:
    if done % 50 == 0:
        print(f"{what}: {done} of {of}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
