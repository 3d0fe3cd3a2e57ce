"""`regionsearch snapshot`: copies of collections, taken while they are used, and restored."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from regionsearch.cli.administration import (
    add_answer_options,
    add_place_options,
    administered,
    answer_timeout,
)
from regionsearch.cli.long_work import long_work
from regionsearch.cli.printed import print_answer
from regionsearch.cli.subcommand import add_subcommand
from regionsearch.errors import DataLoss, InvalidRequest, UnsupportedFormat


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "snapshot",
        help="copies of collections",
        description="Takes, restores, verifies, lists and deletes snapshots of collections: with --data they "
        "are folders or .tar files, with --address names of a server's own (serve --snapshots).",
        allow_abbrev=False,
    )
    below = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    create = _add(below, "create", _create, "take a snapshot of a collection while it is used")
    create.add_argument(
        "snapshot", metavar="SNAPSHOT", help="a new folder, or a new file when it ends in .tar"
    )
    create.add_argument("--collection", required=True, metavar="NAME", help="or an alias of it")
    restore = _add(below, "restore", _restore, "make a collection of a snapshot, verified first")
    restore.add_argument("snapshot", metavar="SNAPSHOT")
    restore.add_argument("--collection", default="", metavar="NAME", help="default: as it was called")
    restore.add_argument(
        "--replace", action="store_true", help="the collection of this name gives way to it at once"
    )
    listing = _add(below, "list", _list, "the snapshots in a folder, or of a server", place="address")
    listing.add_argument("folder", metavar="FOLDER", nargs="?", help="not with --address")
    deleting = _add(below, "delete", _delete, "delete a snapshot", place="address")
    deleting.add_argument("snapshot", metavar="SNAPSHOT")
    verify = _add(
        below, "verify", _verify, "read all of a snapshot and say what is wrong with it", place="none"
    )
    verify.add_argument("snapshot", metavar="SNAPSHOT", help="a folder or a .tar file")


def _add(below: Any, name: str, run: Any, text: str, place: str = "either") -> argparse.ArgumentParser:
    """place: where it can look; a data directory has no part in what only reads snapshots."""
    parser = add_subcommand(below, name, run, text)
    if place == "either":
        add_place_options(parser, snapshots=True)
    elif place == "address":
        parser.add_argument("--address", metavar="HOST:PORT", help="a running server's own snapshots")
        add_answer_options(parser)
    else:
        parser.add_argument("--json", action="store_true", help="print JSON alone")
    return parser


def _create(arguments: argparse.Namespace) -> int:
    with long_work("taking the snapshot") as told, administered(arguments) as administration:
        answer = administration.create_snapshot(arguments.collection, arguments.snapshot, *told)
    line = f"{answer['snapshot']}: {answer['images']} images and {answer['entities']} entities of "
    line += f"collection {answer['collection']!r}, {answer['bytes']:,} bytes"
    print_answer(arguments, {"ok": True, "problems": [], **answer}, [line])
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    try:
        with (
            long_work("restoring") as (progress, check),
            administered(arguments, writes=True, makes=True) as administration,
        ):
            answer = administration.restore_snapshot(
                arguments.snapshot,
                arguments.collection,
                replace=arguments.replace,
                progress=progress,
                check=check,
            )
    except (DataLoss, UnsupportedFormat) as error:
        if arguments.json:
            print_answer(arguments, {"ok": False, "problems": [error.message]}, [])
        raise
    line = f"collection {answer['collection']!r} has {answer['images']} images and "
    print_answer(arguments, {"ok": True, "problems": [], **answer}, [f"{line}{answer['entities']} entities"])
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from regionsearch.cli.local_administration import snapshot_json
    from regionsearch.collection import snapshots

    with long_work("verifying") as (progress, check):
        report = snapshots.verify(Path(arguments.snapshot), progress=progress, check=check)
    answer: dict[str, Any] = {"ok": report.ok, "problems": list(report.problems)}
    if report.info is not None:
        answer |= snapshot_json(report.info)
    lines = [f"{arguments.snapshot} is sound"] if report.ok else list(report.problems)
    print_answer(arguments, answer, lines)
    return 0 if report.ok else 1


def _list(arguments: argparse.Namespace) -> int:
    timeout = answer_timeout(arguments)
    if (arguments.folder is None) == (arguments.address is None):
        raise InvalidRequest(
            "name the folder that the snapshots lie in, or a server by --address", field="folder"
        )
    if arguments.address is None:
        from regionsearch.cli.local_administration import snapshot_json
        from regionsearch.collection import snapshots

        found = [snapshot_json(info) for info in snapshots.find(Path(arguments.folder))]
    else:
        from regionsearch.cli.remote_administration import connected

        with connected(arguments.address, timeout) as administration:
            found = administration.snapshots()
    lines = [
        f"{each['snapshot']}: {each['images']} images of {each['collection']!r}, {each['bytes']:,} bytes, "
        f"{each['created']}"
        for each in found
    ]
    print_answer(arguments, {"snapshots": found}, lines or ["no snapshots"])
    return 0


def _delete(arguments: argparse.Namespace) -> int:
    timeout = answer_timeout(arguments)
    if arguments.address is None:
        from regionsearch.collection import snapshots

        snapshots.remove(Path(arguments.snapshot))
    else:
        from regionsearch.cli.remote_administration import connected

        with connected(arguments.address, timeout) as administration:
            administration.delete_snapshot(arguments.snapshot)
    print_answer(arguments, {"snapshot": arguments.snapshot}, [f"{arguments.snapshot} is gone"])
    return 0
