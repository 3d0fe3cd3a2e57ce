"""How far an indexing run has come, for whoever watches."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Never, Self

from tqdm import tqdm


class ProgressBar:
    """A bar with rate and time left on stderr; off a terminal, a line every ten seconds or so."""

    def __init__(self, total: int) -> None:
        watched = sys.stderr.isatty()
        self._bar: tqdm[Never] = tqdm(
            total=total,
            unit="image",
            desc="indexing",
            file=sys.stderr,
            mininterval=0.2 if watched else 10.0,
            ascii=None if watched else True,
            dynamic_ncols=watched,
            smoothing=0.1,
        )

    def advance(self, images: int) -> None:
        self._bar.update(images)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
