"""Argument types that several commands share."""

from __future__ import annotations

import argparse
import math

from regionsearch.errors import InvalidRegion, InvalidRequest
from regionsearch.models.folder_kind import Role
from regionsearch.models.registry import DEFAULT_EMBEDDER, DEFAULT_SEGMENTER
from regionsearch.models.runtime import DEFAULT_TOKEN_BUDGET, PRECISIONS, Runtime
from regionsearch.regions import Point

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


def polygon_rings(text: str) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Rings of corners (x, y). Whether they are an outline is checked later, as for boxes."""
    rings = []
    for part in text.split(";"):
        numbers = _numbers(part)
        if len(numbers) < 6 or len(numbers) % 2:
            raise argparse.ArgumentTypeError(f"{part!r} is not of the form x0,y0,x1,y1,x2,y2,...")
        rings.append(tuple(zip(numbers[::2], numbers[1::2], strict=True)))
    return tuple(rings)


def finite_number(text: str) -> float:
    """A number of which only its bounds are left to be checked."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return number


def example(text: str) -> tuple[str, int | None]:
    """An image's id and perhaps an entity's index, ID or ID#INDEX. `ID#` is an id that has a # itself."""
    name, mark, index = text.rpartition("#")
    if mark and index == "":
        return name, None
    if mark and index.isascii() and index.isdigit():
        return name, int(index)
    return text, None


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
