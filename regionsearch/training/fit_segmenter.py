"""Fits the weights of the compact segmenter on COCO photos, and says how good they are on others.

    python -m regionsearch.training.fit_segmenter --images DIR --annotations instances.json \\
        --panoptic panoptic.json --panoptic-masks DIR --out weights.npz [--evaluate] [--folds 3] [--seed 0]

The weights at `--out` are fitted on all photos. With `--evaluate`, the photos are also dealt into folds,
everything is fitted anew without each fold and judged on it; the figures are printed as JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from regionsearch.errors import RegionSearchError
from regionsearch.models.compact.network import CompactNetwork
from regionsearch.models.compact.segmenter import CompactSegmenter
from regionsearch.models.compact.segmenter_weights import SegmenterWeights
from regionsearch.models.compact.single_thread import single_threaded_products
from regionsearch.training.segmenter_examples import Example, read_examples
from regionsearch.training.segmenter_fitting import fit_weights, split
from regionsearch.training.segmenter_recall import Found, judge, report


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # On one thread sums have one order: the same photos and seed give the same file.
    torch.set_num_threads(1)
    try:
        with single_threaded_products():
            _run(options)
    except RegionSearchError as error:
        print(f"fit_segmenter: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    network = CompactNetwork(1)
    examples = read_examples(
        network, options.images, options.annotations, options.panoptic, options.panoptic_masks
    )
    _tell(f"{len(examples)} photos, {sum(len(example.thing_boxes) for example in examples)} things")
    figures: dict[str, object] = {}
    if options.evaluate:
        folder = options.out.with_suffix("")
        figures["cross_fitted"] = report(
            _cross_fitted(network, examples, options.folds, options.seed, folder)
        )
    data = fit_weights(examples, options.seed).to_bytes()
    options.out.write_bytes(data)
    if options.evaluate:
        # What the weights reach on the photos that they were fitted on: the distance shows overfitting.
        figures["fitted_on_all"] = report(judge(CompactSegmenter(network, options.out), examples))
    figures["sha256"] = hashlib.sha256(data).hexdigest()
    figures["bytes"] = len(data)
    print(json.dumps(figures, indent=1))


def _cross_fitted(
    network: CompactNetwork, examples: Sequence[Example], folds: int, seed: int, folder: Path
) -> list[Found]:
    """Each fold judged by weights from the others, which stay in `folder`, with the names of its photos."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, (kept, held) in enumerate(split(examples, folds, seed)):
        started = time.perf_counter()
        weights: SegmenterWeights = fit_weights(kept, seed)
        path = folder / f"fold{number}.npz"
        path.write_bytes(weights.to_bytes())
        (folder / f"fold{number}.txt").write_text("".join(f"{example.path.name}\n" for example in held))
        own = judge(CompactSegmenter(network, path), held)
        found += own
        shares = [np.mean(np.concatenate([one.boxes for one in own])[:, 2] >= 0.5)]
        _tell(f"fold {number}: recall at 32 {shares[0]:.3f}, {time.perf_counter() - started:.0f} s")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fit_segmenter", description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO instances JSON")
    parser.add_argument("--panoptic", type=Path, required=True, help="COCO panoptic JSON")
    parser.add_argument("--panoptic-masks", type=Path, required=True, help="folder of its PNG files")
    parser.add_argument("--out", type=Path, required=True, help="npz file to write")
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="also fit without each fold, judge on it, and keep those weights in a folder beside --out",
    )
    parser.add_argument("--folds", type=int, default=3, choices=range(2, 11), metavar="2..10")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
