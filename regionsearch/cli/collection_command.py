"""`regionsearch collection`: lists, describes, makes, changes, drops collections; deletes from them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from regionsearch.cli.administration import Administration, add_place_options, administered
from regionsearch.cli.arguments import finite_number, whole_number
from regionsearch.cli.long_work import long_work
from regionsearch.cli.printed import print_answer, printed_pairs
from regionsearch.cli.subcommand import add_subcommand
from regionsearch.errors import InvalidRequest

# As regionsearch.contract_names has them, which every command would wait 20 ms for.
FIELD_KINDS = ("number", "string", "boolean", "timestamp")
FAVOURS = ("memory", "speed")


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "collection",
        help="look after collections",
        description="Looks after the collections of a data directory or a server.",
        allow_abbrev=False,
    )
    below = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    _add(below, "list", _list, "all collections", named=False)
    _add(below, "stats", _stats, "what is in a collection and what it takes")
    count = _add(below, "count", _count, "how many images, or those that meet a filter")
    count.add_argument("--where", default="", metavar="FILTER", help="only what meets this (docs/filters.md)")
    create = _add(below, "create", _create, "an empty collection")
    create.add_argument("--embedder", metavar="E", help="default: compact")
    create.add_argument("--segmenter", metavar="S", help="default: compact")
    create.add_argument(
        "--space", metavar="NAME", help="of vectors that are computed elsewhere, instead of an embedder"
    )
    create.add_argument("--dimension", metavar="D", type=whole_number, help="of the vectors of --space")
    create.add_argument(
        "--pixels",
        choices=("none", "thumbnail", "original"),
        help="what it keeps of each photo (default: thumbnail)",
    )
    create.add_argument(
        "--entity-limit", metavar="N", type=whole_number, help="most entities of a photo (default: 32)"
    )
    _add_wishes(create)
    update = _add(below, "update", _update, "change indexed fields, and what the index should be good at")
    _add_wishes(update)
    update.add_argument(
        "--add-field",
        action="append",
        default=[],
        type=_field_kind,
        metavar="PATH=KIND",
        help="a field that is indexed beside those that are; can be repeated",
    )
    update.add_argument("--no-fields", action="store_true", help="no field is indexed from then on")
    drop = _add(below, "drop", _drop, "delete a collection with all its images")
    drop.add_argument("--aliases", action="store_true", help="delete the aliases that lead to it as well")
    _add(below, "seal", _seal, "put the rows that are searched exactly into an index segment now")
    _add(below, "compact", _compact, "build index segments anew without deleted rows now")
    delete = _add(below, "delete", _delete, "delete images by their ids or by a filter")
    delete.add_argument("--id", action="append", default=[], metavar="ID", help="an image; can be repeated")
    delete.add_argument("--where", default="", metavar="FILTER", help="every image that meets this")


def _add(below: Any, name: str, run: Any, text: str, *, named: bool = True) -> argparse.ArgumentParser:
    parser = add_subcommand(below, name, run, text)
    if named:
        parser.add_argument("name", metavar="NAME", help="the collection, or an alias")
    add_place_options(parser)
    return parser


def _add_wishes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--field",
        action="append",
        default=[],
        type=_field_kind,
        metavar="PATH=KIND",
        help="a field of the payload that is indexed for filters; can be repeated. KIND: number, string, "
        "boolean or timestamp",
    )
    parser.add_argument(
        "--recall-target",
        metavar="SHARE",
        type=finite_number,
        help="of the true nearest, the share that a search should find, 0.5 to 0.999 (default: 0.95)",
    )
    parser.add_argument(
        "--favour", choices=FAVOURS, help="what the index should spare or give (default: speed)"
    )


def _field_kind(text: str) -> tuple[str, str]:
    """PATH=KIND."""
    path, mark, kind = text.rpartition("=")
    if not mark or not path or kind not in FIELD_KINDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form PATH=KIND ({', '.join(FIELD_KINDS)})")
    return path, kind


def _list(arguments: argparse.Namespace) -> int:
    with administered(arguments) as administration:
        found = administration.collections()
    lines = [
        f"{each['name']}: {each['images']} images, {each['entities']} entities"
        + (f"; also called {', '.join(each['aliases'])}" if each["aliases"] else "")
        for each in found
    ]
    print_answer(arguments, {"collections": found}, lines or ["no collections"])
    return 0


def _stats(arguments: argparse.Namespace) -> int:
    with administered(arguments) as administration:
        stats = administration.stats(arguments.name)
    print_answer(arguments, stats, _stats_lines(stats))
    return 0


def _count(arguments: argparse.Namespace) -> int:
    with administered(arguments) as administration:
        found = administration.count(arguments.name, arguments.where)
    print_answer(
        arguments, found, [f"{found['images']} images, {found['entities']} entities", *found["notes"]]
    )
    return 0


def _create(arguments: argparse.Namespace) -> int:
    if (arguments.space is None) != (arguments.dimension is None):
        raise InvalidRequest("--space and --dimension come together", field="space")
    if arguments.space is not None and (arguments.embedder is not None or arguments.segmenter is not None):
        raise InvalidRequest("--space is instead of --embedder and --segmenter", field="space")
    with administered(arguments, writes=True, makes=True) as administration:
        stats = administration.create(arguments)
    print_answer(arguments, stats, [f"collection {stats['name']!r} is made"])
    return 0


def _update(arguments: argparse.Namespace) -> int:
    if bool(arguments.field) + bool(arguments.add_field) + arguments.no_fields > 1:
        raise InvalidRequest("--field, --add-field and --no-fields contradict one another", field="field")
    changes: Mapping[str, Any] = {
        "fields": arguments.field if arguments.field or arguments.no_fields else None,
        "recall_target": arguments.recall_target,
        "favour": arguments.favour,
    }
    if all(value is None for value in changes.values()) and not arguments.add_field:
        raise InvalidRequest(
            "nothing is to be changed: say --field, --add-field, --no-fields, --recall-target or --favour"
        )

    def update(who: Administration, *told: Any) -> dict[str, Any]:
        if not arguments.add_field:
            return who.update(arguments.name, changes, *told)
        fields = {**who.stats(arguments.name)["indexed_fields"], **dict(arguments.add_field)}
        return who.update(arguments.name, {**changes, "fields": list(fields.items())}, *told)

    return _long(arguments, "indexing fields", update)


def _seal(arguments: argparse.Namespace) -> int:
    return _long(arguments, "sealing", lambda who, *rest: who.seal(arguments.name, *rest))


def _compact(arguments: argparse.Namespace) -> int:
    return _long(arguments, "compacting", lambda who, *rest: who.compact(arguments.name, *rest))


def _long(arguments: argparse.Namespace, what: str, work: Any) -> int:
    """Work with progress that Ctrl-C ends in order; its answer is what the collection is afterwards."""
    with long_work(what) as told, administered(arguments, writes=True) as administration:
        stats = work(administration, *told)
    print_answer(arguments, stats, _stats_lines(stats))
    return 0


def _drop(arguments: argparse.Namespace) -> int:
    with administered(arguments, writes=True) as administration:
        dropped = administration.drop(arguments.name, aliases=arguments.aliases)
    print_answer(arguments, dropped, [f"collection {arguments.name!r} is gone"])
    return 0


def _delete(arguments: argparse.Namespace) -> int:
    if bool(arguments.id) == bool(arguments.where.strip()):
        raise InvalidRequest(
            "say which images: --id ID, or --where FILTER, which cannot be blank here (to delete all: "
            "collection drop)",
            field="id",
        )
    with long_work("deleting") as told, administered(arguments, writes=True) as administration:
        if arguments.id:
            answer = administration.delete(arguments.name, arguments.id)
        else:
            answer = administration.delete_matching(arguments.name, arguments.where, *told)
    print_answer(arguments, answer, [f"{answer['deleted']} images deleted"])
    return 0


def _stats_lines(stats: dict[str, Any]) -> list[str]:
    of_segments = [
        f"segment {each['number']}: {each['images']} images, {each['entities']} entities "
        f"({each['deleted_images']} images deleted), {each['entity_index']} and {each['image_index']}, "
        f"{each['bytes']:,} bytes"
        for each in stats["segments"]
    ]
    fields = ", ".join(f"{path} ({kind})" for path, kind in stats["indexed_fields"].items())
    return [
        *printed_pairs(
            {
                "collection": stats["name"],
                "images": f"{stats['images']:,}",
                "entities": f"{stats['entities']:,}",
                "bytes": ", ".join(f"{name} {size:,}" for name, size in stats["bytes"].items()),
                "fresh rows": f"{stats['fresh_rows']:,}",
                "deleted rows": f"{stats['deleted_rows']:,}",
                "embedder": f"{stats['embedder']['name']}, dimension {stats['dimension']}",
                "segmenter": stats["segmenter"]["name"],
                "indexed fields": fields or "none",
                "index": f"recall {stats['recall_target']:g}, favours {stats['favour']}",
                "fill": f"{100 * stats['fill']:.1f}%",
            }
        ),
        *of_segments,
        *(f"warning: {warning}" for warning in stats["warnings"]),
    ]
