"""One index segment, opened: two FAISS files and the rows they hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.segments.approximate import ApproximateIndex
from regionsearch.collection.segments.checksums import verify_files
from regionsearch.collection.segments.manifest import SegmentRow
from regionsearch.collection.segments.rows_file import NAME, read_rows
from regionsearch.collection.segments.view import Arm, Found, SearchedPart
from regionsearch.errors import DataLoss

ENTITIES_FILE = "entities.faiss"
IMAGES_FILE = "images.faiss"


@dataclass(frozen=True, eq=False)
class SegmentPart(SearchedPart):
    """row: of the manifest. entity_index, image_index: whose rows are the part's."""

    in_memory: ClassVar[bool] = False

    row: SegmentRow
    entity_index: ApproximateIndex
    image_index: ApproximateIndex

    @staticmethod
    def open(folder: Path, row: SegmentRow, *, verified: bool = False) -> SegmentPart:
        """folder: of this segment. verified: whether the caller has just written the files.

        All rows live. Raises DataLoss when a file is missing, cut or damaged, before FAISS sees it, and
        FileNotFoundError when the folder is gone.
        """
        if not verified:
            verify_files(folder, row.files)
        rows = read_rows(folder / NAME)
        try:
            entities = ApproximateIndex.open(folder / ENTITIES_FILE, row.entity_index)
            images = ApproximateIndex.open(folder / IMAGES_FILE, row.image_index)
        except KeyError as error:
            raise DataLoss(f"'{folder}' is of another version, which did not know {error}") from error
        counts = (len(rows.entities), len(rows.image_numbers), entities.rows, images.rows)
        if counts != (row.entities, row.images, row.entities, row.images):
            raise DataLoss(f"'{folder}' has files of other rows than the catalog says")
        live = np.ones(row.images, bool)
        return SegmentPart(rows.image_numbers, rows.starts, live, rows.entities, row, entities, images)

    @cached_property
    def entity_bits(self) -> NDArray[np.uint8]:
        """Bit i of byte i // 8: whether entity row i lives."""
        return np.packbits(np.repeat(self.live, np.diff(self.starts)), bitorder="little")

    @cached_property
    def image_bits(self) -> NDArray[np.uint8]:
        """Bit i of byte i // 8: whether image i lives."""
        return np.packbits(self.live, bitorder="little")

    @property
    def dead_share(self) -> float:
        """Of its entity rows, 0 to 1."""
        return 1 - self.live_row_count / self.row.entities

    def nearest(
        self, arm: Arm, vector: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
    ) -> Found:
        index = self.entity_index if arm == "entities" else self.image_index
        bits: NDArray[np.uint8] | None = None
        count: int | None = None
        if allowed is not None:
            count = int(np.count_nonzero(allowed))
            bits = np.packbits(allowed, bitorder="little")
        elif self.dead_images:
            if arm == "entities":
                bits, count = self.entity_bits, self.live_row_count
            else:
                bits, count = self.image_bits, len(self.live) - self.dead_images
        rows, similarities = index.search(vector, k, allowed=bits, allowed_count=count)
        return Found(rows, similarities, exact=False)

    def without(self, numbers: NDArray[np.int64]) -> Self:
        """As of any part. What searches need of the rows that live is carried over, less those that died:
        counting a million rows anew at every write would cost more than the search."""
        places = self.places(numbers)
        places = places[self.live[places]]
        if not len(places):
            return self
        rows = np.concatenate([np.arange(self.starts[each], self.starts[each + 1]) for each in places])
        live = self.live.copy()
        live[places] = False
        changed = replace(self, live=live)
        carried = changed.__dict__
        carried["dead_images"] = self.dead_images + len(places)
        carried["live_row_count"] = self.live_row_count - len(rows)
        carried["entity_bits"] = _cleared(self.entity_bits, rows)
        carried["image_bits"] = _cleared(self.image_bits, places)
        if "live_rows" in self.__dict__:
            carried["live_rows"] = self.live_rows.copy()
            carried["live_rows"][rows] = False
        return changed

    def living(self, numbers: NDArray[np.int64]) -> SegmentPart:
        """The same rows, those of these images alive, the others dead."""
        return replace(self, live=np.isin(self.image_numbers, numbers, assume_unique=True))


def _cleared(bits: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    cleared = bits.copy()
    np.bitwise_and.at(cleared, rows >> 3, ~(np.uint8(1) << (rows & 7).astype(np.uint8)))
    return cleared
