"""Commands below another command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def add_subcommand(
    below: Any, name: str, run: Callable[[argparse.Namespace], int], text: str, description: str = ""
) -> argparse.ArgumentParser:
    """The parser of a new one.

    text: what it does, for the list of them. description: the same at length, when there is more to say.
    """
    parser: argparse.ArgumentParser = below.add_parser(
        name, help=text, description=description or f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
    )
    parser.set_defaults(run=run)
    return parser
