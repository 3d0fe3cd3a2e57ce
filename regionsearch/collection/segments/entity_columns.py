"""What filters ask of entities, as columns beside the vectors."""

from __future__ import annotations

from collections.abc import Sequence
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

    @staticmethod
    def concatenated(parts: Sequence[EntityColumns]) -> EntityColumns:
        """Of all entities one part after the other, with one table of the labels that they use."""
        codes: dict[str, int] = {}
        labels = []
        for part in parts:
            used = np.unique(part.labels[part.labels != NO_LABEL])
            to_code = np.full(len(part.label_table) + 1, NO_LABEL, np.int32)
            for place in used.tolist():
                to_code[place] = codes.setdefault(part.label_table[place], len(codes))
            labels.append(to_code[part.labels])
        return EntityColumns(
            np.concatenate([part.areas for part in parts]),
            np.concatenate([part.objectness for part in parts]),
            np.concatenate([part.boxes for part in parts]),
            np.concatenate(labels),
            np.concatenate([part.sources for part in parts]),
            tuple(codes),
        )

    @staticmethod
    def empty() -> EntityColumns:
        """Of no entity."""
        floats = np.empty(0, np.float32)
        labels, sources = np.empty(0, np.int32), np.empty(0, np.uint8)
        return EntityColumns(floats, floats, floats.reshape(0, 4), labels, sources, ())
