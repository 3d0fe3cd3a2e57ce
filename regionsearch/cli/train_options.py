"""What the commands of `regionsearch train` have in common: options that are numbers, and the bars."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any, Self

from regionsearch.cli.arguments import whole_number


def add_numbers(
    parser: argparse.ArgumentParser,
    whole: Mapping[str, tuple[int | None, str]],
    real: Mapping[str, tuple[float, str]],
) -> None:
    """Options by name, each with its default and its help, to which the default is added if there is one."""
    for options, kind, metavar in ((whole, whole_number, "N"), (real, float, "X")):
        for name, (default, words) in options.items():
            words += "" if default is None else " (default: %(default)s)"
            parser.add_argument(name, metavar=metavar, type=kind, default=default, help=words)


class TrainingBars:
    """What is being read, then what was learnt and the loss, on stderr; off a terminal, a line every ten
    seconds or so. A bar appears with the first news, so that a refusal before it stands alone."""

    def __init__(self) -> None:
        self._what = ""
        self._bar: Any = None

    def read(self, what: str, done: int, of: int) -> None:
        self._show(what, done, of, 0)

    def learnt(self, what: str, done: int, of: int, loss: float) -> None:
        # Those of an earlier run were not done in the time that the bar counts.
        self._show(what, done, of, done - 1, loss=f"{loss:.4f}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, what: str, done: int, of: int, before: int, **beside: str) -> None:
        from tqdm import tqdm

        if what != self._what:
            if self._bar is not None:
                self._bar.close()
            watched = sys.stderr.isatty()
            self._what = what
            self._bar = tqdm(
                total=of,
                initial=before,
                desc=what,
                unit="",
                file=sys.stderr,
                mininterval=0.2 if watched else 10.0,
                ascii=None if watched else True,
                dynamic_ncols=watched,
            )
        self._bar.set_postfix(beside, refresh=False)
        self._bar.update(done - self._bar.n)
