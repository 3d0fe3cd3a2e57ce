"""`regionsearch verify`: is all that is stored whole, and can it be mended?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionsearch.cli.printed import print_answer
from regionsearch.cli.share_done import ShareDone

if TYPE_CHECKING:
    from regionsearch.collection.integrity import Problem, VerifyReport

_MENDED_BY = {
    "repair": "`--repair` mends it",
    "drop": "indexing the photo again mends it, `--repair --drop-damaged` takes it out",
    "restore": "only a snapshot brings it back",
}
_BLOCKED = (
    "`--repair` mends nothing here, because of what is marked with !: writing could destroy more. "
    "Collections that do not use the damaged pages can still be taken out of here: `snapshot create` each of "
    "them, and `snapshot restore` it into a fresh directory (docs/storage.md, Rescue)"
)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "verify",
        help="check all that is stored, and mend what is derived",
        description=(
            "Reads every byte of a data directory and says what is damaged, what that costs and what "
            "mends it. Exit code 1 when something is. It may run beside a server; --repair may not."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="data directory")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="what an open after a kill looks at, and the files of index segments; not every record",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="rebuild what is derived from the records: needs the directory alone",
    )
    parser.add_argument(
        "--drop-damaged",
        action="store_true",
        help="with --repair: also delete images whose record is damaged, and damaged kept pictures",
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from regionsearch.collection.integrity import repair, verify
    from regionsearch.errors import InvalidRequest

    if arguments.drop_damaged and not arguments.repair:
        raise InvalidRequest("--drop-damaged is said without --repair", field="drop-damaged")
    if arguments.quick and arguments.repair:
        raise InvalidRequest("--repair looks at everything: it cannot be --quick", field="quick")
    with ShareDone("repairing" if arguments.repair else "verifying") as progress:
        if arguments.repair:
            report = repair(arguments.data, drop_damaged=arguments.drop_damaged, progress=progress)
        else:
            report = verify(arguments.data, thorough=not arguments.quick, progress=progress)
    print_answer(arguments, as_json(report), [as_text(report)])
    return 0 if report.ok else 1


def as_json(report: VerifyReport) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "problems": [_problem_json(problem) for problem in report.problems],
        "mended": [_problem_json(problem) for problem in report.mended],
        "dropped": [
            _problem_json(problem) | {"image_id": problem.image_id}
            for problem in report.mended
            if problem.repair == "drop"
        ],
        "blocked": report.blocked,
        "images": report.images,
        "fill": report.fill,
    }


def as_text(report: VerifyReport) -> str:
    lines = [f"{_done_with(problem)}: {problem}" for problem in report.mended]
    if report.blocked:
        lines.append(_BLOCKED)
    for problem in sorted(report.problems, key=lambda problem: not problem.blocks):
        remedy = "stays while that lasts" if report.blocked else _MENDED_BY[problem.repair]
        if problem.blocks:
            lines.append(f"! {problem}; {_MENDED_BY[problem.repair]}")
        else:
            lines.append(f"{problem}; {remedy}")
    count = len(report.problems)
    lines.append(
        f"{report.images:,} images, all whole" if report.ok else f"{count} problem{'s' if count > 1 else ''}"
    )
    return "\n".join(lines)


def _done_with(problem: Problem) -> str:
    return "dropped" if problem.repair == "drop" else "mended"


def _problem_json(problem: Problem) -> dict[str, Any]:
    return {"what": problem.what, "where": problem.where, "costs": problem.costs, "repair": problem.repair}
