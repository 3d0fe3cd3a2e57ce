"""`regionsearch bench`: how quick a running server is, and how good the kinds of index are."""

from __future__ import annotations

import argparse

from regionsearch.cli import bench_ann_command, bench_latency_command


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure a running server, or kinds of index",
        description="Measures how quick a running server is, or how kinds of index compare.",
        allow_abbrev=False,
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    bench_latency_command.add_to(kinds)
    bench_ann_command.add_to(kinds)
