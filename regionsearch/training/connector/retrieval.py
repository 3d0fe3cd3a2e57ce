"""How well captions find what they describe."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regionsearch.training.connector.frozen_vectors import CaptionedVectors

MEASURES = ("mrr", "r1", "r5", "r10", "median_rank")


def caption_ranks(vectors: CaptionedVectors) -> NDArray[np.int64]:
    """(m,): the place of each caption's own example among all examples by cosine, from 1. Others that are
    equally near come before it."""
    similarities = vectors.texts @ vectors.pixels.T
    own = similarities[np.arange(len(vectors.owners)), vectors.owners]
    ranks: NDArray[np.int64] = (similarities >= own[:, None]).sum(axis=1)
    return ranks


def measures(ranks: NDArray[np.int64]) -> dict[str, float]:
    """Mean reciprocal rank, the shares of captions whose own is first, among the first 5 and 10, and the
    median rank."""
    return {
        "mrr": float(np.mean(1 / ranks)),
        "r1": float(np.mean(ranks <= 1)),
        "r5": float(np.mean(ranks <= 5)),
        "r10": float(np.mean(ranks <= 10)),
        "median_rank": float(np.median(ranks)),
    }
