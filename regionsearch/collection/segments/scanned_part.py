"""What a segment's images are when its files cannot be used: read in their records, one by one.

Slow (a million rows take the time of reading all records), but right, and without memory for their vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.segments.best_rows import best_rows
from regionsearch.collection.segments.manifest import SegmentRow
from regionsearch.collection.segments.record_vectors import RecordVectors
from regionsearch.collection.segments.view import Arm, Found, SearchedPart


@dataclass(frozen=True, eq=False)
class ScannedPart(SearchedPart):
    """row: of the manifest, whose files are damaged or missing."""

    in_memory: ClassVar[bool] = False

    row: SegmentRow
    records: RecordVectors

    def nearest(
        self, arm: Arm, vector: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
    ) -> Found:
        counts = np.diff(self.starts)
        if allowed is None:
            allowed = self.live_rows if arm == "entities" else self.live
        if arm == "entities":
            images = self.live & (np.bincount(np.repeat(np.arange(len(counts)), counts), allowed) > 0)
            places = np.flatnonzero(np.repeat(images, counts))
        else:
            images = allowed
            places = np.flatnonzero(images)
        similarities = self.records.products(arm, self.image_numbers[images], counts[images], vector)
        similarities[~allowed[places]] = -np.inf
        rows = best_rows(similarities, k)
        rows = rows[np.isfinite(similarities[rows])]
        return Found(places[rows], similarities[rows], exact=True)
