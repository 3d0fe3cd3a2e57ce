"""`regionsearch fit`: weights and calibration from one's own judgements."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from regionsearch.cli.arguments import add_runtime_options, runtime_from


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "fit",
        help="fit the weights of the score to your own judgements",
        description=(
            "Fits the weights and the calibration of the score to judged answers and writes a scoring file, "
            "which search and serve take with --scoring. JUDGEMENTS has a JSON object a line: "
            '{"query": {"text": ..., "image": FILE or "image_id": ID, "box": [x0, y0, x1, y1], "entity": N}, '
            '"good": [ids], "bad": [ids]}. Prints how many judged pairs stand in the right order before and '
            "after, each judged by weights that were fitted without it."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="data directory")
    parser.add_argument("--collection", metavar="NAME", required=True, help="collection that was judged")
    parser.add_argument(
        "--judgements", metavar="FILE", type=Path, required=True, help="JSON lines, see above"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="scoring file to write")
    parser.add_argument(
        "--scoring", metavar="FILE", type=Path, help="where to start from (default: what the package ships)"
    )
    add_runtime_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from regionsearch.collection import DataDirectory
    from regionsearch.errors import InvalidRequest
    from regionsearch.evaluation.fitting_judgements import fit_judgements
    from regionsearch.evaluation.judgements import measure, read_judgements
    from regionsearch.evaluation.progress import ShownProgress
    from regionsearch.models.registry import ModelRegistry
    from regionsearch.search import SearchEngine
    from regionsearch.search.scoring import load_scoring, shipped_scoring

    # Before all the work, not after it.
    if arguments.out.is_dir() or not arguments.out.absolute().parent.is_dir():
        raise InvalidRequest(f"--out {arguments.out} is no file in a folder that exists", field="out")
    base = shipped_scoring() if arguments.scoring is None else load_scoring(arguments.scoring)
    show = ShownProgress()
    with DataDirectory(arguments.data, "read") as directory:
        collection = directory.collection(arguments.collection)
        judgements = read_judgements(arguments.judgements, collection)
        engine = SearchEngine(ModelRegistry(runtime=runtime_from(arguments)), scoring=base)
        judged = []
        for number, judgement in enumerate(judgements):
            show("judgements", number, len(judgements))
            judged.append(measure(engine, collection, judgement))
        show("judgements", len(judgements), len(judgements))
    found = fit_judgements(judged, base)
    try:
        arguments.out.write_text(json.dumps(found.scoring.to_json(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"--out {arguments.out} cannot be written: {error}", field="out") from error
    report: dict[str, Any] = {
        "judgements": found.judgements,
        "unseen_images": found.unseen,
        "in_order_before": found.before,
        "in_order_after": found.after,
        "weights": dict(found.scoring.weights),
        "changes": dict(found.changes),
        "calibration": found.scoring.version,
        "out": str(arguments.out),
    }
    print(json.dumps(report, indent=2, allow_nan=False) if arguments.json else _told(report))
    return 0


def _told(report: dict[str, Any]) -> str:
    lines = [
        f"{report['judgements']} judgements; pairs in the right order: {report['in_order_before']:.3f} "
        f"before, {report['in_order_after']:.3f} after (each judged by weights fitted without it)"
    ]
    if report["unseen_images"]:
        lines.append(f"{report['unseen_images']} judged images were beyond the reach of one answer")
    if report["in_order_after"] <= report["in_order_before"]:
        lines.append("the weights before are as good on these judgements: there is no reason to use the file")
    lines += [
        f"  {name}: {report['weights'][name]:g} (× {change:g})" for name, change in report["changes"].items()
    ]
    lines.append(f"written to {report['out']} (calibration {report['calibration']})")
    return "\n".join(lines)
