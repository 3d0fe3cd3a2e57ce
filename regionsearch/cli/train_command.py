"""`regionsearch train`: models for one's own photos. Each kind is a module of its own."""

from __future__ import annotations

import argparse
import importlib

# Each is a module of this package, `train_KIND_command`, with `add_to(kinds)`.
KINDS = ("connector", "virtue")


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "train",
        help="train a model on captioned photos",
        description="Trains a model on photos and what is said of them or of regions in them.",
        allow_abbrev=False,
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind in KINDS:
        importlib.import_module(f"regionsearch.cli.train_{kind}_command").add_to(kinds)
