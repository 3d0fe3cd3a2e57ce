"""How far an evaluation has come, on stderr: a bar for who watches, otherwise a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Never

if TYPE_CHECKING:
    from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0
"""Where nobody watches. A step that takes less says nothing."""


class ShownProgress:
    """Tells what is done, how much of it and of how much, step after step. For one thread."""

    def __init__(self) -> None:
        self._bar: tqdm[Never] | None = None
        self._what = ""

    def __call__(self, what: str, done: int, of: int) -> None:
        if self._bar is None or what != self._what:
            self.close()
            self._bar, self._what = _bar(what, of), what
        self._bar.update(done - self._bar.n)
        if done == of:
            self.close()

    def close(self) -> None:
        """Ends the line of a step that did not come to its end."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[], object]]:
    """Shows one step; what it gives is called whenever one of `total` is done."""
    with _bar(what, total) as bar:
        yield bar.update


def _bar(what: str, total: int) -> tqdm[Never]:
    from tqdm import tqdm

    watched = sys.stderr.isatty()
    seconds = 0.1 if watched else SECONDS_BETWEEN_LINES
    return tqdm(
        total=total,
        desc=what,
        unit="",
        file=sys.stderr,
        delay=0.0 if watched else seconds,
        mininterval=seconds,
        ascii=None if watched else True,
        dynamic_ncols=watched,
        leave=not watched,
    )
