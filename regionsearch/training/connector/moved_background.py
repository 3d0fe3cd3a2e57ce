"""How the signals' background distributions move when a connector is put on an embedder."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from regionsearch.models.connector.connector_map import ConnectorMap
from regionsearch.models.embedder import SignalBackground
from regionsearch.training.connector.frozen_vectors import CaptionedVectors

PAIRS = 10_000
LEAST_DEVIATION = 1e-4
"""A smaller one tells nothing; the scale then stays as it was."""
_WORDS = {"text_entity": True, "text_image": True, "entity": False, "global": False}


def moved_background(
    background: Mapping[str, SignalBackground], vectors: CaptionedVectors, connector: ConnectorMap
) -> dict[str, SignalBackground]:
    """The embedder's shipped backgrounds, shifted and scaled as the cosines of random pairs of examples of
    different pictures (for the text signals: of a caption and another picture's example) are by the map.

    An estimate from the training data, for collections of fewer than 50 images; larger ones measure their
    own. Left as they are when all examples are of one picture.
    """
    rng = np.random.default_rng(0)
    count = len(vectors.pixels)
    left, right = rng.integers(count, size=(2, PAIRS))
    apart = vectors.pictures[left] != vectors.pictures[right]
    left, right = left[apart], right[apart]
    if not len(left):
        return dict(background)
    caption = np.searchsorted(vectors.owners, left)
    mapped = connector(vectors.pixels)
    moved = {}
    for part, shipped in background.items():
        asked = vectors.texts[caption] if _WORDS[part] else None
        before = _moments(vectors.pixels[left] if asked is None else asked, vectors.pixels[right])
        after = _moments(mapped[left] if asked is None else asked, mapped[right])
        tells = min(before.deviation, after.deviation) > LEAST_DEVIATION
        scale = after.deviation / before.deviation if tells else 1.0
        mean = after.mean + (shipped.mean - before.mean) * scale
        moved[part] = SignalBackground(mean, shipped.deviation * scale)
    return moved


def _moments(left: NDArray[np.float32], right: NDArray[np.float32]) -> SignalBackground:
    cosines = np.sum(left * right, axis=1, dtype=np.float64)
    return SignalBackground(float(cosines.mean()), float(cosines.std()))
