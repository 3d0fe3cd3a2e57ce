"""The file that says which images and entities a segment's rows are; docs/index-segments.md specifies it.

32 bytes of head, then arrays, little endian, each beginning at a multiple of 8: image numbers (m,) int64,
starts (m + 1,) int64, boxes (n, 4), areas (n,), objectness (n,) float32, places of labels (n,) int32, label
sources (n,) uint8, the table of labels as JSON.
"""

from __future__ import annotations

import json
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.segments.entity_columns import EntityColumns
from regionsearch.errors import DataLoss

NAME = "rows"
_HEAD = struct.Struct("<8sQQQ")
_MAGIC = b"RSROWS01"
_ALIGNED = 8


@dataclass(frozen=True, eq=False)
class SegmentRows:
    """image_numbers: (m,) int64, ascending. starts: (m + 1,) int64. entities: n rows."""

    image_numbers: NDArray[np.int64]
    starts: NDArray[np.int64]
    entities: EntityColumns


def write_rows(path: Path, rows: SegmentRows) -> None:
    """Not synced."""
    entities = rows.entities
    table = json.dumps(list(entities.label_table), ensure_ascii=False).encode()
    with path.open("wb") as file:
        file.write(_HEAD.pack(_MAGIC, len(rows.image_numbers), len(entities), len(table)))
        for dtype, array in (
            ("<i8", rows.image_numbers),
            ("<i8", rows.starts),
            ("<f4", entities.boxes),
            ("<f4", entities.areas),
            ("<f4", entities.objectness),
            ("<i4", entities.labels),
            ("u1", entities.sources),
        ):
            array = np.ascontiguousarray(array, dtype)
            file.write(array.data)
            file.write(bytes(-array.nbytes % _ALIGNED))
        file.write(table)


def read_rows(path: Path) -> SegmentRows:
    """Arrays in the mapped file, which lives as long as they do. The caller has verified the checksum.

    Raises DataLoss when the file is not one of these.
    """
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    magic, images, count, table_bytes = _HEAD.unpack_from(mapped)
    if magic != _MAGIC:
        raise DataLoss(f"'{path}' is no file of rows of this version")
    at = _HEAD.size

    def array(dtype: str, rows: int, width: int = 1) -> NDArray[Any]:
        nonlocal at
        values = np.frombuffer(mapped, dtype, rows * width, at)
        at += values.nbytes + -values.nbytes % _ALIGNED
        return values

    numbers, starts = array("<i8", images), array("<i8", images + 1)
    boxes = array("<f4", count, 4).reshape(count, 4)
    areas, objectness = array("<f4", count), array("<f4", count)
    labels, sources = array("<i4", count), array("u1", count)
    table = tuple(json.loads(mapped[at : at + table_bytes]))
    return SegmentRows(numbers, starts, EntityColumns(areas, objectness, boxes, labels, sources, table))
