"""`regionsearch purge`: removes every trace of images."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from regionsearch.cli.administration import add_place_options, administered
from regionsearch.cli.long_work import long_work
from regionsearch.cli.printed import print_answer


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "purge",
        help="delete images and every trace of them",
        description="Deletes images, rewrites index segments and the named snapshots without them, and "
        "overwrites what deletion leaves in the catalog's file. Can be repeated. Backups and what the file "
        "system keeps of freed blocks are out of its reach.",
        allow_abbrev=False,
    )
    parser.add_argument("id", metavar="ID", nargs="+", help="of the images")
    parser.add_argument("--collection", required=True, metavar="NAME", help="or an alias of it")
    parser.add_argument(
        "--snapshot",
        action="append",
        default=[],
        metavar="SNAPSHOT",
        help="one that is rewritten without them; can be repeated. With --data a path, with --address a name",
    )
    add_place_options(parser, snapshots=True)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    with long_work("purging") as told, administered(arguments, writes=True) as administration:
        answer = administration.purge(arguments.collection, arguments.id, arguments.snapshot, *told)
    lines = [f"{answer['deleted']} images deleted"]
    lines += [f"rewritten: {path}" for path in answer.get("rewritten", ())]
    lines += [f"not found: {image_id}" for image_id in answer.get("missing", ())]
    print_answer(arguments, answer, [*lines, *answer["notes"]])
    if answer["complete"]:
        return 0
    print("regionsearch purge: not complete; see the notes, and purge again", file=sys.stderr)
    return 1
