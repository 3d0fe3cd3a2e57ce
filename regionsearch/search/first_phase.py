"""First phase: the entity arm and the global arm propose candidate images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Collection
from regionsearch.models.embedder import QueryVectors
from regionsearch.search.stopwatch import Stopwatch

CANDIDATES_PER_ARM = 50
"""Distinct images that each arm brings at least, when the collection has them: five for every hit of
the default limit. Twice as many make a search over 5,000 images 2 ms slower (docs/evaluation.md)."""
CANDIDATES_PER_HIT = 2
"""At large limits: distinct images of each arm for every image in the answer."""


def candidate_numbers(
    collection: Collection, vectors: QueryVectors, limit: int, own_number: int, stopwatch: Stopwatch
) -> NDArray[np.int64]:
    """(c,) distinct image numbers, ascending: the union of both arms without the query's own image.

    At least `limit` of them whenever the collection has that many others.
    """
    wanted = max(CANDIDATES_PER_ARM, CANDIDATES_PER_HIT * limit) + 1
    with stopwatch.stage("entity_arm"):
        by_entity = _distinct_images(collection, vectors.entity_arm, wanted)
    with stopwatch.stage("global_arm"):
        by_image = collection.search_images(vectors.global_arm, wanted).numbers
    union: NDArray[np.int64] = np.union1d(by_entity, by_image)
    others: NDArray[np.int64] = union[union != own_number]
    return others


def _distinct_images(collection: Collection, vector: NDArray[np.float32], wanted: int) -> NDArray[np.int64]:
    """Widens the entity arm until `wanted` distinct images are seen or no entity is left.

    Many entities of one image can crowd the top, so how many rows are enough is not known before.
    """
    rows = 4 * wanted
    while True:
        found = collection.search(vector, rows).numbers
        # A dict keeps the order in which the images were met, which is from near to far.
        distinct = list(dict.fromkeys(found.tolist()))
        if len(distinct) >= wanted or len(found) < rows:
            # More than wanted would only cost scoring time.
            return np.array(distinct[:wanted], dtype=np.int64)
        rows *= 4
