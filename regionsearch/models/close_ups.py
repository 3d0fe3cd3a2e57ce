"""Looking at parts of a picture one by one, enlarged: what some embedders can do beside reading it whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from regionsearch.images import Image
from regionsearch.regions import Box


@runtime_checkable
class CloseUpEmbedder(Protocol):
    """An embedder for which a second, closer look at a few things of a picture is worth its time, which is
    a matter of measurement: docs/rerank.md."""

    def embed_close_ups(self, image: Image, boxes: Sequence[Box]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors of what is seen at n boxes, in pixels of the image, each looked at by
        itself; comparable with `embed_texts`. Raises InvalidRegion for a box outside the image."""
