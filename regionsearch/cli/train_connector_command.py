"""`regionsearch train connector`: moves a frozen embedder's pictures to where their captions lie."""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path
from typing import Any

from regionsearch.cli.arguments import add_runtime_options, runtime_from
from regionsearch.cli.orderly_stop import OrderlyStop
from regionsearch.cli.train_options import TrainingBars, add_numbers
from regionsearch.models.registry import DEFAULT_EMBEDDER


def add_to(kinds: Any) -> None:
    parser = kinds.add_parser(
        "connector",
        help="train a small map on top of a frozen embedder",
        description="Learns, by contrast, a small map of an embedder's pictures and regions to where their "
        "captions lie; the embedder itself stays as it is. The folder is then an embedder, connector:FOLDER. "
        "Can be stopped with Ctrl-C; --resume goes on.",
        allow_abbrev=False,
    )
    parser.add_argument("--images", required=True, metavar="DIR", type=Path, help="the pictures")
    parser.add_argument(
        "--annotations",
        required=True,
        metavar="FILE",
        type=Path,
        help="their captions: captions.json as COCO has it, or SCaR's Parquet",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", type=Path, help="what becomes the model")
    parser.add_argument(
        "--embedder",
        metavar="E",
        default=DEFAULT_EMBEDDER,
        help="the frozen one: compact, or a dual_encoder (default: %(default)s)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run that lies in --out")
    parser.add_argument(
        "--start",
        choices=("embedder", "nothing"),
        default="embedder",
        help="add the map to what the embedder knows, or learn it alone (default: %(default)s)",
    )
    _add_numbers(parser)
    add_runtime_options(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def _add_numbers(parser: argparse.ArgumentParser) -> None:
    add_numbers(
        parser,
        whole={
            "--epochs": (100, "times that every example is seen"),
            "--batch": (512, "examples told from one another at once"),
            "--hidden": (128, "width of the map's middle layer"),
            "--seed": (0, "of everything random"),
        },
        real={
            "--dropout": (0.2, "of what goes into the map"),
            "--learning-rate": (3e-4, "of AdamW"),
            "--weight-decay": (0.01, "of AdamW"),
            "--temperature": (0.1, "divides the cosines"),
        },
    )


def run(arguments: argparse.Namespace) -> int:
    from regionsearch.training.connector.settings import ConnectorSettings
    from regionsearch.training.connector.training_run import ConnectorPlan, train_connector

    settings = ConnectorSettings(
        start=arguments.start,
        epochs=arguments.epochs,
        batch=arguments.batch,
        hidden=arguments.hidden,
        dropout=arguments.dropout,
        learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        temperature=arguments.temperature,
        seed=arguments.seed,
    )
    plan = ConnectorPlan(
        images=arguments.images,
        annotations=arguments.annotations,
        embedder=arguments.embedder,
        out=arguments.out,
        settings=settings,
        resume=arguments.resume,
    )
    with OrderlyStop() as asked, TrainingBars() as bars:
        report = train_connector(
            plan,
            runtime_from(arguments),
            bars.read,
            lambda epochs, loss: bars.learnt("epochs", epochs, settings.epochs, loss),
            asked.event.is_set,
        )
    print(json.dumps(report, indent=2, allow_nan=False) if arguments.json else _summary(report))
    return 128 + (asked.signal_number or signal.SIGTERM) if report["stopped"] else 0


def _summary(report: dict[str, Any]) -> str:
    begun = f", {report['resumed_from']} of them before" if report["resumed_from"] else ""
    lines = [
        f"{report['epochs']} epochs{begun} over {report['examples']} examples of {report['pictures']} "
        f"pictures with {report['captions']} captions in {report['seconds']:.1f} s (vectors computed in "
        f"{report['embed_seconds']:.1f} s, models loaded in {report['load_seconds']:.1f} s)"
    ]
    if report["first_loss"] is not None:
        lines.append(
            f"loss {report['first_loss']:.4f} in the first epoch, {report['last_loss']:.4f} in the last"
        )
    if report["stopped"]:
        lines.append("stopped; run the same command with --resume to go on")
        return "\n".join(lines)
    before, after = report["trained_on"]["before"], report["trained_on"]["after"]
    if report["replaced"]:
        lines.append(
            f"it replaces the model of {report['resumed_from']} epochs: collections made with "
            "that one refuse this one, and are to be indexed again"
        )
    lines += [
        f"of the captions trained on, {before['r1']:.0%} found their own first before and {after['r1']:.0%} "
        "do now: that it was learnt, not that it helps with other pictures (docs/training.md: how to tell)",
        f"the model is in {report['out']}: use it as --embedder {report['embedder']}",
    ]
    return "\n".join(lines)
