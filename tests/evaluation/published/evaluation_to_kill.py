"""`regionsearch ARGUMENTS` with a dummy model that takes its time, to be killed on the way."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from regionsearch.cli import main
from regionsearch.models.dummy import DummyEmbedder

PAUSES_S = {"embed_inputs": 0.02, "embed_images": 0.3}


def slowly(method: Callable[..., Any], pause_s: float) -> Callable[..., Any]:
    def slow(*given: Any) -> Any:
        time.sleep(pause_s)
        return method(*given)

    return slow


if __name__ == "__main__":
    for name, pause_s in PAUSES_S.items():
        setattr(DummyEmbedder, name, slowly(getattr(DummyEmbedder, name), pause_s))
    sys.exit(main(sys.argv[1:]))
