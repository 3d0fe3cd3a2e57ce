"""`regionsearch bench latency`: how quick a running server is."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regionsearch.client import AsyncClient
    from regionsearch.evaluation.latency import Ask

LISTED_IDS = 1_000
"""Ids of the collection's images among which `similar` chooses."""
KINDS = ("text", "box", "point", "similar", "mix")


def add_to(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    latency = kinds.add_parser(
        "latency",
        help="latency of searches at a fixed rate",
        description=(
            "Asks a server at a fixed rate, whether or not it keeps up (an open loop), and prints how long "
            "the answers took from the moment at which each question was due."
        ),
        allow_abbrev=False,
    )
    latency.add_argument("--address", metavar="HOST:PORT", required=True, help="the server")
    latency.add_argument("--collection", metavar="NAME", required=True, help="the collection to ask")
    latency.add_argument("--rate", metavar="R", type=_positive, required=True, help="requests a second")
    latency.add_argument("--duration", metavar="S", type=_positive, required=True, help="seconds")
    latency.add_argument(
        "--queries", choices=KINDS, default="text", help="what is asked (default: %(default)s)"
    )
    latency.add_argument(
        "--images", metavar="DIR", type=Path, help="pictures to ask with, for box, point and mix"
    )
    latency.add_argument("--json", action="store_true", help="print JSON alone")
    latency.set_defaults(run=run, parser=latency)


def run(arguments: argparse.Namespace) -> int:
    if arguments.queries in ("box", "point", "mix") and arguments.images is None:
        arguments.parser.error(f"--queries {arguments.queries} needs --images")
    report = asyncio.run(_measured(arguments))
    print(json.dumps(report, indent=2, allow_nan=False) if arguments.json else table(report))
    return 0


async def _measured(arguments: argparse.Namespace) -> dict[str, Any]:
    from regionsearch.client import AsyncClient
    from regionsearch.evaluation.latency import open_loop, summary, warm_up
    from regionsearch.evaluation.latency_questions import questions, read_pictures

    pictures = [] if arguments.images is None else read_pictures(arguments.images)
    async with AsyncClient(arguments.address) as client:
        ids: list[str] = []
        if arguments.queries in ("similar", "mix"):
            ids = await _image_ids(client, arguments.collection)
        asks = [
            _ask(client, arguments.collection, options)
            for options in questions(arguments.queries, pictures, ids)
        ]
        await warm_up(asks)
        return summary(await open_loop(asks, arguments.rate, arguments.duration))


def _ask(client: AsyncClient, collection: str, options: Mapping[str, Any]) -> Ask:
    async def ask() -> Mapping[str, float]:
        answer = await client.search(collection, **options)
        return answer.timing_ms

    return ask


async def _image_ids(client: AsyncClient, collection: str) -> list[str]:
    ids: list[str] = []
    async for image in client.list_images(collection, page_size=LISTED_IDS):
        ids.append(image.image_id)
        if len(ids) == LISTED_IDS:
            break
    return ids


def table(report: Mapping[str, Any]) -> str:
    """The report as aligned lines."""
    lines = [
        f"sent {report['sent']}, answered {report['ok']}, errors {report['errors']}, "
        f"{report['achieved_rate']:.1f} answers a second"
    ]
    lines += [f"  {status:<22}{count:>8}" for status, count in report["errors_by_status"].items()]
    if report["ok"]:
        lines.append("latency from the due time, ms")
        lines += [
            f"  {name:<22}{report[key]:>8.1f}"
            for name, key in (
                ("median", "p50_ms"),
                ("90%", "p90_ms"),
                ("99%", "p99_ms"),
                ("99.9%", "p999_ms"),
            )
        ]
        lines.append("in the server by stage, mean ms")
        lines += [f"  {stage:<22}{value:>8.2f}" for stage, value in report["stages_ms"].items()]
    lines.append(f"requests left late by {report['late_p99_ms']:.1f} ms at most in 99% of cases")
    return "\n".join(lines)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return value
