"""Whether a connector helps with pictures that it has not seen, on your own photos.

`python -m regionsearch.training.connector.demonstration --images DIR --annotations FILE` deals the pictures
into folds; each fold is held out once, while a connector is trained on the others. Every caption of a
held-out picture is then looked for among the held-out pictures (and, with --distractors, other pictures
that no caption is of): with an untrained connector, with a trained one, and with one trained in the same
way on captions that were shuffled, which can have learnt nothing true. That is done for several seeds and
for both starts: added to the embedder, when the untrained connector is the embedder as it is, and alone,
when it is random. Settings are fixed beforehand: nothing is chosen by what is held out.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest, RegionSearchError
from regionsearch.images import load_image
from regionsearch.models.connector.connector_folder import check_base
from regionsearch.models.embedder import Embedder
from regionsearch.models.registry import DEFAULT_EMBEDDER, ModelRegistry, resolve
from regionsearch.training.connector.caption_data import read_captioned
from regionsearch.training.connector.connector_training import ConnectorTraining
from regionsearch.training.connector.frozen_vectors import CaptionedVectors, frozen_vectors
from regionsearch.training.connector.retrieval import MEASURES, caption_ranks, measures
from regionsearch.training.connector.settings import STARTS, ConnectorSettings

ARMS = ("untrained", "trained", "shuffled")
_CPU = torch.device("cpu")


def demonstrate(
    vectors: CaptionedVectors,
    settings: ConnectorSettings,
    seeds: int,
    folds: int,
    distractors: NDArray[np.float32],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """`arms`: per arm and measure the mean over seeds and its standard error. `gains`: likewise of the
    difference to the untrained connector, seed by seed; `pictures_standard_error` is that of the mean over
    pictures, whose own gains are averaged over seeds: how far another sample of pictures might differ.

    distractors: (k, d) unit vectors of other pictures, which go through the same connectors.
    The settings' own seed is that of the first; the others follow. Raises InvalidRequest when there are
    fewer than two pictures a fold.
    """
    pictures = np.unique(vectors.pictures)
    if folds < 2 or len(pictures) < 2 * folds:
        raise InvalidRequest(f"{len(pictures)} pictures cannot be dealt into {folds} folds of two or more")
    by_seed: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    gains: list[NDArray[np.float64]] = []
    for number in range(seeds):
        ranks = _ranks_of_seed(vectors, settings, settings.seed + number, folds, distractors)
        for arm in ARMS:
            by_seed[arm].append(measures(ranks[arm]))
        gains.append(1 / ranks["trained"] - 1 / ranks["untrained"])
        progress(number + 1, seeds)
    gain_of_picture = [
        np.mean(np.mean(gains, axis=0)[vectors.pictures[vectors.owners] == picture]) for picture in pictures
    ]
    report: dict[str, Any] = {
        "arms": {arm: _over_seeds(by_seed[arm]) for arm in ARMS},
        "gains": {
            arm: _over_seeds(
                [_less(one, base) for one, base in zip(by_seed[arm], by_seed["untrained"], strict=True)]
            )
            for arm in ARMS[1:]
        },
    }
    report["gains"]["trained"]["mrr"]["pictures_standard_error"] = _standard_error(gain_of_picture)
    report["by_seed"] = by_seed
    return report


def shuffled(vectors: CaptionedVectors, seed: int) -> CaptionedVectors:
    """The same pictures and captions, none with its own: the examples' vectors of pixels change hands."""
    order = np.random.default_rng([seed, 1]).permutation(len(vectors.pixels))
    given = np.empty_like(order)
    given[order] = np.roll(order, 1)
    return vectors.with_pixels(vectors.pixels[given])


def _ranks_of_seed(
    vectors: CaptionedVectors,
    settings: ConnectorSettings,
    seed: int,
    folds: int,
    distractors: NDArray[np.float32],
) -> dict[str, NDArray[np.int64]]:
    """By arm: (m,) the rank of each caption when its picture was held out."""
    pictures = np.random.default_rng([seed, 0]).permutation(np.unique(vectors.pictures))
    ranks = {arm: np.zeros(len(vectors.texts), dtype=np.int64) for arm in ARMS}
    for fold, held_out in enumerate(np.array_split(pictures, folds)):
        seen = vectors.of_pictures(np.setdiff1d(pictures, held_out))
        unseen = vectors.of_pictures(held_out)
        places = np.isin(vectors.pictures[vectors.owners], held_out)
        for arm in ARMS:
            data = shuffled(seen, seed) if arm == "shuffled" else seen
            training = ConnectorTraining(data, replace(settings, seed=seed * folds + fold), _CPU)
            if arm != "untrained":
                for _ in range(settings.epochs):
                    training.run_epoch()
            mapped = training.connector_map()(np.concatenate([unseen.pixels, distractors]))
            ranks[arm][places] = caption_ranks(unseen.with_pixels(mapped))
    return ranks


def _less(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: one[name] - other[name] for name in MEASURES}


def _over_seeds(measured: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "mean": float(np.mean([each[name] for each in measured])),
            "standard_error": _standard_error([each[name] for each in measured]),
        }
        for name in MEASURES
    }


def _standard_error(values: Sequence[Any]) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def tables(report: dict[str, Any]) -> str:
    """Of the whole report: one for each start."""
    lines = [
        f"{report['pictures']} pictures with {report['captions']} captions, {report['distractors']} others; "
        f"{report['seeds']} seeds, each dealing the pictures into {report['folds']} folds; mean ± standard "
        "error over seeds"
    ]
    for start in STARTS:
        lines += ["", f"start: {start}", _table(report["starts"][start])]
    return "\n".join(lines)


def _table(report: dict[str, Any]) -> str:
    heads = {"mrr": "MRR", "r1": "R@1", "r5": "R@5", "r10": "R@10", "median_rank": "median rank"}
    lines = [
        f"{'':<22}" + "".join(f"{heads[name]:>18}" for name in MEASURES),
    ]
    rows = [
        (f"{arm} connector" if arm != "shuffled" else "shuffled captions", report["arms"][arm])
        for arm in ARMS
    ]
    rows += [(f"gain, {arm}", report["gains"][arm]) for arm in ARMS[1:]]
    for name, row in rows:
        figures = [f"{row[each]['mean']:.3f} ± {row[each]['standard_error']:.3f}" for each in MEASURES]
        lines.append(f"{name:<22}" + "".join(f"{figure:>18}" for figure in figures))
    for arm in ARMS[1:]:
        gain = report["gains"][arm]["mrr"]
        verdict = "rises" if gain["mean"] > 2 * gain["standard_error"] else "does not rise"
        lines.append(f"{arm}: MRR {verdict} above the untrained connector by more than two standard errors")
    beyond = report["gains"]["trained"]["mrr"]["pictures_standard_error"]
    lines.append(f"standard error of the trained gain in MRR over pictures: {beyond:.3f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True, help="captions.json, or SCaR's Parquet")
    parser.add_argument("--embedder", default=DEFAULT_EMBEDDER)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=ConnectorSettings().epochs)
    parser.add_argument("--distractors", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--cache", type=Path, help="keep what the frozen embedder says in this folder")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    parsed = parser.parse_args(arguments)
    if parsed.seeds < 2:
        parser.error("--seeds must be 2 or more: one has no standard error")
    try:
        report = _measured(parsed)
    except RegionSearchError as error:
        print(error.message, file=sys.stderr)
        return 1
    print(json.dumps(report, indent=2, allow_nan=False) if parsed.json else tables(report))
    return 0


def _measured(parsed: argparse.Namespace) -> dict[str, Any]:
    check_base(resolve("embedder", parsed.embedder))
    pictures = read_captioned(parsed.images, parsed.annotations)
    embedder = ModelRegistry().embedder(parsed.embedder)
    with tempfile.TemporaryDirectory() as passing:
        cache = Path(passing) if parsed.cache is None else parsed.cache
        vectors = frozen_vectors(pictures, embedder, cache, _shown)
    distractors = _distractors(parsed.distractors, embedder)
    settings = ConnectorSettings(epochs=parsed.epochs)
    report: dict[str, Any] = {
        "embedder": embedder.info.name,
        "pictures": len(pictures),
        "captions": len(vectors.texts),
        "distractors": len(distractors),
        "seeds": parsed.seeds,
        "folds": parsed.folds,
        "settings": settings.to_json(),
        "starts": {},
    }
    for start in STARTS:
        report["starts"][start] = demonstrate(
            vectors,
            replace(settings, start=start),
            parsed.seeds,
            parsed.folds,
            distractors,
            partial(_shown, f"seeds, start {start}"),
        )
    return report


def _distractors(folders: Sequence[Path], embedder: Embedder) -> NDArray[np.float32]:
    """(k, d): the vectors of all pictures that lie in the folders."""
    rows = [np.empty((0, embedder.info.dimension), dtype=np.float32)]
    for folder in folders:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        for place, file in enumerate(files):
            image = load_image(file)
            whole = Entities.whole_frame(image.height, image.width)
            rows.append(embedder.embed_images([image], [whole])[0].image[None])
            _shown(f"distractors in {folder.name}", place + 1, len(files))
    return np.concatenate(rows)


def _shown(what: str, done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}: {done} of {of}", end="\n" if done == of else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
