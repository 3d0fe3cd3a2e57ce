"""`regionsearch train virtue`: adapts a VIRTUE model to one's own photos and captions."""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path
from typing import Any

from regionsearch.cli.orderly_stop import OrderlyStop
from regionsearch.cli.train_options import TrainingBars, add_numbers
from regionsearch.models.runtime import Runtime

_PRECISIONS = ("auto", "bf16", "fp32")
_POSITIONS = ("later", "first")


def add_to(kinds: Any) -> None:
    parser = kinds.add_parser(
        "virtue",
        help="train VIRTUE's connector, and adapters in its language model",
        description="Teaches a VIRTUE model, by contrast, which caption belongs to which region of which "
        "picture, and writes a model in the published layout. Can be stopped with Ctrl-C; --resume goes "
        "on. Start it through torchrun to use several GPUs.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model", required=True, metavar="MODEL", help="VIRTUE or Qwen2-VL: a folder or a name on the hub"
    )
    parser.add_argument(
        "--annotations",
        required=True,
        action="append",
        type=Path,
        metavar="FILE",
        help="pairs: SCaR's Parquet, or captions.json as COCO has it; may be repeated",
    )
    parser.add_argument(
        "--images",
        required=True,
        action="append",
        type=Path,
        metavar="DIR",
        help="where the pictures of --annotations are: one folder for all, or one for each file",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="the folder that becomes the model"
    )
    parser.add_argument(
        "--sam", metavar="MODEL", help="SAM 2: a folder, a .pt file or a hub name (default: the model's own)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run that lies in --out, if any")
    _add_numbers(parser)
    parser.add_argument(
        "--positions",
        choices=_POSITIONS,
        default="later",
        help="how tokens are numbered (default: %(default)s)",
    )
    parser.add_argument(
        "--boxes-unscaled",
        action="store_true",
        help="hand boxes over in pixels of the picture, as the published training did",
    )
    parser.add_argument(
        "--device", metavar="D", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N"
    )
    parser.add_argument(
        "--dtype",
        choices=_PRECISIONS,
        default="auto",
        help="precision of what is not trained (default: bf16 on a GPU, fp32 on a CPU)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def _add_numbers(parser: argparse.ArgumentParser) -> None:
    add_numbers(
        parser,
        whole={
            "--steps": (2000, "updates"),
            "--batch": (32, "pairs a step of each process"),
            "--chunk": (2, "pairs encoded at once; less takes less memory"),
            "--warmup": (
                None,
                "steps in which the learning rate rises (default: 200, a tenth of short runs)",
            ),
            "--rank": (8, "of the adapters"),
            "--alpha": (64, "scale of the adapters, times rank"),
            "--limit": (100_000, "pairs taken of each file"),
            "--save-every": (100, "steps between two saved states"),
            "--readers": (4, "threads that read pictures"),
            "--seed": (0, "of everything random"),
        },
        real={
            "--learning-rate": (2e-5, "its peak"),
            "--dropout": (0.1, "of what enters the adapters"),
            "--temperature": (0.02, "divides the cosines"),
            "--feature-memory": (4.0, "GiB for what the frozen parts make of pictures"),
        },
    )


def run(arguments: argparse.Namespace) -> int:
    from regionsearch.training.virtue.adapters import AdapterSettings
    from regionsearch.training.virtue.distribution import announced_team
    from regionsearch.training.virtue.settings import TrainingSettings
    from regionsearch.training.virtue.virtue_training import RunPlan, train_virtue

    settings = TrainingSettings(
        steps=arguments.steps,
        batch=arguments.batch,
        chunk=arguments.chunk,
        learning_rate=arguments.learning_rate,
        warmup=arguments.warmup,
        temperature=arguments.temperature,
        adapters=AdapterSettings(arguments.rank, arguments.alpha, arguments.dropout),
        positions=arguments.positions,
        boxes_unscaled=arguments.boxes_unscaled,
        limit=arguments.limit,
        seed=arguments.seed,
    )
    plan = RunPlan(
        model=arguments.model,
        annotations=arguments.annotations,
        images=arguments.images,
        out=arguments.out,
        settings=settings,
        sam=arguments.sam,
        save_every=arguments.save_every,
        resume=arguments.resume,
        memory=arguments.feature_memory,
        readers=arguments.readers,
    )
    team = announced_team()
    runtime = Runtime(device=arguments.device, dtype=arguments.dtype)
    with OrderlyStop() as asked, TrainingBars() as bars:

        def progress(step: int, loss: float) -> None:
            if team.is_first:
                bars.learnt("steps", step, settings.steps, loss)

        report = train_virtue(plan, runtime, team, progress, asked.event.is_set)
    if team.is_first:
        print(json.dumps(report, indent=2, allow_nan=False) if arguments.json else _summary(report))
    return 128 + (asked.signal_number or signal.SIGTERM) if report["stopped"] else 0


def _summary(report: dict[str, Any]) -> str:
    begun = f", {report['resumed_from']} of them before" if report["resumed_from"] else ""
    lines = [
        f"{report['steps']} of {report['of']} steps{begun} in {report['seconds']:.1f} s (model loaded in "
        f"{report['load_seconds']:.1f} s); {report['processes']} "
        f"process{'es' if report['processes'] > 1 else ''}, {report['batch']} pairs a step of "
        f"{report['pairs']} with {report['images']} pictures; {report['trained_parameters']} trained numbers"
    ]
    if report["first_loss"] is not None:
        lines.append(f"loss {report['first_loss']:.4f} at first, {report['last_loss']:.4f} at last")
    if report["stopped"]:
        lines.append("stopped; run the same command with --resume to go on")
    else:
        lines.append(f"the model is in {report['out']}: use it as virtue:{report['out']}")
    return "\n".join(lines)
