"""Argument types that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from regionsearch.errors import InvalidRegion, InvalidRequest
from regionsearch.models.folder_kind import Role
from regionsearch.models.registry import DEFAULT_EMBEDDER, DEFAULT_SEGMENTER
from regionsearch.models.runtime import DEFAULT_TOKEN_BUDGET, PRECISIONS, Runtime
from regionsearch.regions import Box, Mask, Point, RegionPrompt

# One of: four numbers of a box, a point, the path of a mask. Numbers are checked later, where a box
# that is well formed but empty is refused with exit code 1 and not 2.
RegionPart = tuple[float, float, float, float] | Point | Path

RUNTIME_OPTIONS = ("device", "dtype", "token_budget")
"""Their names are those of Runtime's fields; None where nothing was said."""


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def box_numbers(text: str) -> tuple[float, float, float, float]:
    numbers = _numbers(text)
    if len(numbers) != 4:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form x0,y0,x1,y1")
    return (numbers[0], numbers[1], numbers[2], numbers[3])


def click(text: str) -> Point:
    numbers = _numbers(text)
    if len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] not in (0, 1)):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form x,y or x,y,1 or x,y,0")
    try:
        return Point(numbers[0], numbers[1], len(numbers) == 2 or numbers[2] == 1)
    except InvalidRegion as error:
        raise argparse.ArgumentTypeError(error.message) from None


def named_weight(text: str) -> tuple[str, float]:
    name, separator, value = text.partition("=")
    try:
        if not separator:
            raise ValueError
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form PART=NUMBER") from None


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers with commas between them") from None


def add_runtime_options(parser: argparse.ArgumentParser) -> None:
    """Where models of torch compute; `runtime_from` reads the values."""
    parser.add_argument(
        "--device",
        metavar="D",
        help="where models of torch compute: auto (a GPU if there is one), cpu, cuda, cuda:N "
        "(default: auto; the compact models always use the CPU)",
    )
    parser.add_argument(
        "--dtype",
        choices=PRECISIONS,
        help="their precision (default: bf16 or fp16 on a GPU, fp32 on a CPU)",
    )
    parser.add_argument(
        "--token-budget",
        metavar="N",
        type=whole_number,
        help="tokens of one of their forward passes; less takes less memory "
        f"(default: {DEFAULT_TOKEN_BUDGET})",
    )


def runtime_from(arguments: argparse.Namespace, threads: int | None = None) -> Runtime:
    """What was not said is the runtime's own default. Raises InvalidRequest for a token budget below 1."""
    if arguments.token_budget is not None and arguments.token_budget < 1:
        raise InvalidRequest(f"--token-budget is {arguments.token_budget}; it must be at least 1")
    said = {name: getattr(arguments, name) for name in RUNTIME_OPTIONS}
    return Runtime(threads, **{name: value for name, value in said.items() if value is not None})


def refuse_runtime_options(arguments: argparse.Namespace, needs: str) -> None:
    """Raises InvalidRequest when one of them was said where nothing here computes."""
    for name in RUNTIME_OPTIONS:
        if getattr(arguments, name) is not None:
            raise InvalidRequest(f"--{name.replace('_', '-')} {needs}", field=name)


def add_judged_options(parser: argparse.ArgumentParser, *roles: Role) -> None:
    """What every evaluation is told: the models of these roles, where they compute, how to report."""
    for role in roles:
        default = DEFAULT_EMBEDDER if role == "embedder" else DEFAULT_SEGMENTER
        parser.add_argument(f"--{role}", default=default, help="name (default: %(default)s)")
    add_runtime_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON alone")


class AppendRegionPart(argparse.Action):
    """Keeps `--box`, `--point` and `--mask` in the order in which they were written."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        namespace.region = [*(namespace.region or []), values]


def group_regions(parts: Sequence[RegionPart], mask_from: Callable[[Path], Mask]) -> list[RegionPrompt]:
    """Groups the parts of a command line to regions.

    Every box and mask opens a new region; a point belongs to the region opened last before it or,
    when none is open, to one region made of all such points. `mask_from` reads a mask's file.
    Raises InvalidRegion for a region that has no positive part.
    """
    loose: list[Point] = []
    opened: list[RegionPrompt] = []
    for part in parts:
        if isinstance(part, Point):
            if opened:
                opened[-1] = replace(opened[-1], points=(*opened[-1].points, part))
            else:
                loose.append(part)
        elif isinstance(part, Path):
            opened.append(RegionPrompt(mask=mask_from(part)))
        else:
            opened.append(RegionPrompt(box=Box(*part)))
    return [*([RegionPrompt(points=tuple(loose))] if loose else []), *opened]
