"""`regionsearch eval`: how good the answers and the entities are, on annotated photos."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from regionsearch.cli import published_command
from regionsearch.cli.arguments import add_judged_options, runtime_from


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "eval",
        help="judge search, segmentation and embedders on annotated photos and published benchmarks",
        description=(
            "Judges search and segmentation on annotated photos, and embedders on published benchmarks. "
            "Nothing is kept but what --cache names."
        ),
        allow_abbrev=False,
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    _add_coco(kinds)
    _add_segmentation(kinds)
    published_command.add_to(kinds)


def _add_coco(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "coco",
        help="judge search on photos with COCO annotations",
        description=(
            "Indexes the photos with automatic entities into a temporary directory, asks questions that "
            "the annotations answer, and prints how good the rankings are. Give --images, --annotations "
            "and --captions several times, in pairs, to judge folders together. With --karpathy instead of "
            "them: captions to pictures and back on the Karpathy split, as others publish it."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("--images", metavar="DIR", type=Path, action="append", required=True, help="photos")
    parser.add_argument(
        "--annotations", metavar="FILE", type=Path, action="append", default=[], help="instances.json"
    )
    parser.add_argument(
        "--captions", metavar="FILE", type=Path, action="append", default=[], help="captions.json"
    )
    parser.add_argument(
        "--karpathy", metavar="FILE", type=Path, help="dataset_coco.json: judge captions alone, see above"
    )
    published_command.add_embedding_options(parser)
    add_judged_options(parser, "embedder", "segmenter")
    parser.set_defaults(run=run, parser=parser)


def _add_segmentation(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "segmentation",
        help="judge a segmenter on COCO annotations or BSDS500",
        description=(
            "Judges a segmenter: with --images and --annotations by the objects that its entities cover, "
            "with --bsds by how its partitions agree with people's."
        ),
        allow_abbrev=False,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", metavar="DIR", type=Path, help="photos; with --annotations")
    source.add_argument("--bsds", metavar="DIR", type=Path, help="folder with images/ and ground_truth/*.mat")
    parser.add_argument("--annotations", metavar="FILE", type=Path, help="instances.json of --images")
    add_judged_options(parser, "segmenter")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.kind == "coco":
        return _run_coco(arguments)
    return _run_segmentation(arguments)


def _run_coco(arguments: argparse.Namespace) -> int:
    pairs = len(arguments.images)
    if arguments.karpathy is not None:
        if pairs != 1 or arguments.annotations or arguments.captions:
            arguments.parser.error("--karpathy goes with one --images, and without --annotations, --captions")
        return published_command.run_coco_captions(arguments)
    published_command.refuse_embedding_options(arguments)
    if len(arguments.annotations) != pairs or len(arguments.captions) not in (0, pairs):
        arguments.parser.error("--images, --annotations and --captions are given in pairs")
    from regionsearch.evaluation.coco_annotations import read_folders
    from regionsearch.evaluation.coco_evaluation import evaluate
    from regionsearch.evaluation.photo_index import PhotoIndex
    from regionsearch.evaluation.progress import ShownProgress
    from regionsearch.evaluation.report_tables import coco_tables
    from regionsearch.models.registry import ModelRegistry

    photos = read_folders(arguments.images, arguments.annotations, arguments.captions)
    show = ShownProgress()
    models = ModelRegistry(runtime=runtime_from(arguments))
    with PhotoIndex(photos, models, arguments.embedder, arguments.segmenter, show) as index:
        report = evaluate(index, captions=bool(arguments.captions), progress=show)
    _print(report, coco_tables(report), as_json=arguments.json)
    return 0


def _run_segmentation(arguments: argparse.Namespace) -> int:
    if (arguments.images is None) != (arguments.annotations is None):
        arguments.parser.error("--images and --annotations are given together")
    from regionsearch.evaluation.coco_annotations import read_folders
    from regionsearch.evaluation.progress import ShownProgress
    from regionsearch.evaluation.report_tables import partition_table, segmentation_table
    from regionsearch.models.registry import ModelRegistry

    if arguments.bsds is not None:
        from regionsearch.evaluation.bsds import evaluate_partitions

        segmenter = ModelRegistry(runtime=runtime_from(arguments)).segmenter(arguments.segmenter)
        report = evaluate_partitions(arguments.bsds, segmenter, ShownProgress())
        _print(report, partition_table(report), as_json=arguments.json)
        return 0
    from regionsearch.evaluation.segmentation_evaluation import evaluate_segmentation

    photos = read_folders([arguments.images], [arguments.annotations])
    segmenter = ModelRegistry(runtime=runtime_from(arguments)).segmenter(arguments.segmenter)
    report = evaluate_segmentation(photos, segmenter, ShownProgress())
    _print(report, segmentation_table(report), as_json=arguments.json)
    return 0


def _print(report: dict[str, Any], table: str, *, as_json: bool) -> None:
    print(json.dumps(report, indent=2, allow_nan=False) if as_json else table)
