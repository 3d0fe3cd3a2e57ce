"""`regionsearch alias`: second names of collections."""

from __future__ import annotations

import argparse
from typing import Any

from regionsearch.cli.administration import add_place_options, administered
from regionsearch.cli.printed import print_answer
from regionsearch.cli.subcommand import add_subcommand


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "alias",
        help="second names of collections",
        description="Sets, switches, deletes and lists second names of collections. Every command takes an "
        "alias where it takes a collection's name, but for dropping.",
        allow_abbrev=False,
    )
    below = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    setting = add_subcommand(
        below,
        "set",
        _set,
        "lets an alias lead to a collection",
        "Lets an alias lead to a collection from now on; one that exists is switched at once. Searches under "
        "way end on the collection that they began on.",
    )
    setting.add_argument("alias", metavar="ALIAS")
    setting.add_argument("collection", metavar="COLLECTION")
    deleting = add_subcommand(
        below, "delete", _delete, "deletes an alias", "Deletes an alias; its collection stays."
    )
    deleting.add_argument("alias", metavar="ALIAS")
    listing = add_subcommand(below, "list", _list, "all aliases", "Lists all aliases.")
    for one in (setting, deleting, listing):
        add_place_options(one)


def _set(arguments: argparse.Namespace) -> int:
    with administered(arguments, writes=True) as administration:
        answer = administration.set_alias(arguments.alias, arguments.collection)
    before = f", not to {answer['previous']!r} any more" if answer["previous"] else ""
    line = f"{answer['alias']!r} leads to collection {answer['collection']!r} now{before}"
    print_answer(arguments, answer, [line])
    return 0


def _delete(arguments: argparse.Namespace) -> int:
    with administered(arguments, writes=True) as administration:
        answer = administration.delete_alias(arguments.alias)
    print_answer(arguments, answer, [f"alias {answer['alias']!r} of {answer['collection']!r} is gone"])
    return 0


def _list(arguments: argparse.Namespace) -> int:
    with administered(arguments) as administration:
        aliases = administration.aliases()
    lines = [f"{alias} -> {collection}" for alias, collection in aliases.items()]
    print_answer(arguments, {"aliases": aliases}, lines or ["no aliases"])
    return 0
