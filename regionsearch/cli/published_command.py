"""`regionsearch eval scar`, `mmeb`, `ctrlbench`, `flickr30k`, and `coco --karpathy`: published benchmarks."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionsearch.cli.arguments import add_judged_options, runtime_from, whole_number
from regionsearch.evaluation.published.benchmark_inputs import DEFAULT_BATCH
from regionsearch.evaluation.published.karpathy import SPLITS
from regionsearch.evaluation.published.wording import STYLES

if TYPE_CHECKING:
    from regionsearch.evaluation.published.benchmark_run import RunSettings
    from regionsearch.evaluation.published.embedded_inputs import Counts


def add_to(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the benchmarks that have a command of their own."""
    _add_scar(kinds)
    _add_mmeb(kinds)
    _add_ctrlbench(kinds)
    _add_flickr30k(kinds)


def _add_scar(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "scar",
        help="SCaR: choose the caption of a boxed thing among ten",
        description=(
            "Judges an embedder on SCaR: which of ten captions describes a boxed thing in its scene. Prints "
            "hit@1 of each subset beside the published scores."
        ),
        allow_abbrev=False,
    )
    parser.add_argument(
        "--annotations",
        metavar="PARQUET",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        help="files of the subsets",
    )
    _add_run_options(parser)
    parser.add_argument("--crop", action="store_true", help="also with the box's pixels alone")
    parser.add_argument(
        "--as-published",
        action="store_true",
        help="also as virtue's published program does: square pictures, boxes not scaled",
    )
    parser.add_argument(
        "--engine",
        action="store_true",
        help="also by joint scoring in a collection: region alone, picture alone, both",
    )
    parser.add_argument(
        "--segmenter", metavar="NAME", help="with --engine: adds its entities to the collection"
    )
    parser.set_defaults(run=_run_scar, parser=parser)


def _add_mmeb(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "mmeb",
        help="MMEB: 36 tasks of finding the right label, answer, caption or picture",
        description=(
            "Judges an embedder on the tasks of MMEB. Prints hit@1 of each task and the published means "
            "beside the published scores."
        ),
        allow_abbrev=False,
    )
    parser.add_argument(
        "--annotations",
        metavar="PATH",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        help="Parquet files called after their task, or folders of TASK/*.parquet",
    )
    parser.add_argument(
        "--task", metavar="NAME", action="append", default=[], help="this task alone; may be repeated"
    )
    _add_run_options(parser)
    parser.set_defaults(run=_run_mmeb, parser=parser)


def _add_ctrlbench(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "ctrlbench",
        help="CtrlBench: the caption that an instruction asks for",
        description=(
            "Judges an embedder on CtrlBench: pictures with several instructions, each of which has its own "
            "caption. Prints R@1, 5 and 10 over all captions beside the published scores."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("--annotations", metavar="FILE", type=Path, required=True, help="JSON or JSON lines")
    _add_run_options(parser)
    parser.set_defaults(run=_run_ctrlbench, parser=parser)


def _add_flickr30k(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "flickr30k",
        help="Flickr30k: captions to pictures and back",
        description=(
            "Judges an embedder on captions and pictures of Flickr30k, each found by the other. Prints R@1, "
            "5 and 10 beside the published scores."
        ),
        allow_abbrev=False,
    )
    parser.add_argument(
        "--annotations", metavar="FILE", type=Path, required=True, help="dataset_flickr30k.json"
    )
    parser.add_argument("--split", choices=SPLITS, default=SPLITS[0], help="default: %(default)s")
    _add_run_options(parser)
    parser.set_defaults(run=_run_flickr30k, parser=parser)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", metavar="DIR", type=Path, required=True, help="folder of the pictures")
    add_embedding_options(parser)
    add_judged_options(parser, "embedder")


def add_embedding_options(parser: argparse.ArgumentParser) -> None:
    """The options of every benchmark that embeds inputs: what is kept, how much is asked."""
    parser.add_argument(
        "--cache", metavar="DIR", type=Path, help="keep vectors here: a run that was killed goes on"
    )
    parser.add_argument("--limit", metavar="N", type=_count, help="rows or pictures of each subset")
    parser.add_argument(
        "--batch",
        metavar="N",
        type=_count,
        help=f"inputs handed to the model together (default: {DEFAULT_BATCH})",
    )
    parser.add_argument("--wording", choices=STYLES, help="how inputs are worded; default: as the kind wants")
    parser.add_argument(
        "--skip-missing", action="store_true", help="go on without pictures that cannot be read"
    )


def refuse_embedding_options(arguments: argparse.Namespace) -> None:
    """Ends the command when one of these options is given where nothing listens to it."""
    for name in ("cache", "limit", "batch", "wording", "skip_missing"):
        if getattr(arguments, name):
            arguments.parser.error(f"--{name.replace('_', '-')} needs --karpathy")


def settings_of(arguments: argparse.Namespace, images: Path) -> RunSettings:
    from regionsearch.evaluation.published.benchmark_run import RunSettings

    return RunSettings(
        images=images,
        embedder=arguments.embedder,
        cache=arguments.cache,
        limit=arguments.limit,
        batch=DEFAULT_BATCH if arguments.batch is None else arguments.batch,
        style=arguments.wording,
        skip_missing=arguments.skip_missing,
        runtime=runtime_from(arguments),
    )


def _run_scar(arguments: argparse.Namespace) -> int:
    if arguments.segmenter is not None and not arguments.engine:
        arguments.parser.error("--segmenter needs --engine")
    from regionsearch.evaluation.published.benchmark_tables import scar_table
    from regionsearch.evaluation.published.scar_evaluation import evaluate_scar

    report, counts = evaluate_scar(
        settings_of(arguments, arguments.images),
        arguments.annotations,
        crop=arguments.crop,
        as_published=arguments.as_published,
        engine=arguments.engine,
        segmenter=arguments.segmenter,
    )
    return _finish(arguments, report, counts, scar_table(report))


def _run_mmeb(arguments: argparse.Namespace) -> int:
    from regionsearch.evaluation.published.benchmark_tables import mmeb_table
    from regionsearch.evaluation.published.mmeb import folders_of_no_task
    from regionsearch.evaluation.published.mmeb_evaluation import evaluate_mmeb

    settings = settings_of(arguments, arguments.images)
    passed_over = [] if arguments.task else folders_of_no_task(arguments.annotations)
    if passed_over:
        named = ", ".join(map(str, passed_over))
        print(f"regionsearch eval mmeb: passed over, called after no task of MMEB: {named}", file=sys.stderr)
    report, counts = evaluate_mmeb(settings, arguments.annotations, arguments.task)
    return _finish(arguments, report, counts, mmeb_table(report))


def _run_ctrlbench(arguments: argparse.Namespace) -> int:
    from regionsearch.evaluation.published.benchmark_tables import ctrlbench_table
    from regionsearch.evaluation.published.recall_evaluation import evaluate_ctrlbench

    settings = settings_of(arguments, arguments.images)
    report, counts = evaluate_ctrlbench(settings, arguments.annotations)
    return _finish(arguments, report, counts, ctrlbench_table(report))


def _run_flickr30k(arguments: argparse.Namespace) -> int:
    from regionsearch.evaluation.published.benchmark_tables import captions_table
    from regionsearch.evaluation.published.recall_evaluation import evaluate_captions

    settings = settings_of(arguments, arguments.images)
    report, counts = evaluate_captions(settings, arguments.annotations, "flickr30k", arguments.split)
    return _finish(arguments, report, counts, captions_table(report))


def run_coco_captions(arguments: argparse.Namespace) -> int:
    """`eval coco --karpathy`."""
    from regionsearch.evaluation.published.benchmark_tables import captions_table
    from regionsearch.evaluation.published.recall_evaluation import evaluate_captions

    settings = settings_of(arguments, arguments.images[0])
    report, counts = evaluate_captions(settings, arguments.karpathy, "coco")
    return _finish(arguments, report, counts, captions_table(report))


def _finish(arguments: argparse.Namespace, report: dict[str, Any], counts: Counts, table: str) -> int:
    if arguments.cache is not None:
        known = f"{counts.computed} inputs embedded, {counts.known} from {arguments.cache}"
        print(known, file=sys.stderr)
    print(json.dumps(report, indent=2, allow_nan=False) if arguments.json else table)
    return 0


def _count(text: str) -> int:
    value = whole_number(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return value
