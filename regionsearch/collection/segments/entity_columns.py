"""What filters ask of entities, as columns beside the vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import LABEL_SOURCES, Entities

NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class EntityColumns:
    """Of n entities, one image's after the other's.

    areas, objectness: (n,) float32, 0 to 1. boxes: (n, 4) float32, fractions of the image's width and
    height, [x0, y0, x1, y1). labels: (n,) int32, places in label_table, NO_LABEL for none. sources: (n,)
    uint8, 0 none, 1 given, 2 predicted. label_table: distinct labels.
    """

    areas: NDArray[np.float32]
    objectness: NDArray[np.float32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int32]
    sources: NDArray[np.uint8]
    label_table: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.areas)

    @staticmethod
    def of(entities: Entities, width: int, height: int) -> EntityColumns:
        """Of one image, width and height in pixels."""
        table = tuple(dict.fromkeys(label for label in entities.labels if label is not None))
        code = {label: place for place, label in enumerate(table)}
        return EntityColumns(
            entities.areas,
            entities.objectness,
            np.divide(entities.boxes, np.array([width, height, width, height], np.float32), dtype=np.float32),
            np.array([NO_LABEL if label is None else code[label] for label in entities.labels], np.int32),
            np.array(
                [
                    0 if source is None else 1 + LABEL_SOURCES.index(source)
                    for source in entities.label_sources
                ],
                np.uint8,
            ),
            table,
        )

    def rows(self, which: slice | NDArray[np.int64]) -> EntityColumns:
        """Of these entities alone, with the same table of labels; of a slice views, not copies."""
        return EntityColumns(
            self.areas[which],
            self.objectness[which],
            self.boxes[which],
            self.labels[which],
            self.sources[which],
            self.label_table,
        )
