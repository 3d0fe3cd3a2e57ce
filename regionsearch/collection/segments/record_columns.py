"""The columns of one stored image's entities, read from its record without its masks."""

from __future__ import annotations

import numpy as np

from regionsearch.collection.record_layout import Buffer, Header, candidate_parts
from regionsearch.collection.segments.entity_columns import NO_LABEL, EntityColumns


def entity_columns(value: Buffer, key: Buffer, header: Header) -> EntityColumns:
    """key: of the record's row. Copies: nothing of it lies in LMDB's memory.

    Raises DataLoss when the labels cannot be read.
    """
    count = header.entities
    parts = candidate_parts(value, key, labels=True)
    outlines = parts.outlines
    size = np.array([header.width, header.height, header.width, header.height], np.float32)
    sources = np.frombuffer(value, np.uint8, count, header.id_start - count)
    labels = parts.labels or ()
    table = tuple(dict.fromkeys(label for label in labels if label is not None))
    code = {label: place for place, label in enumerate(table)}
    return EntityColumns(
        outlines[4 * count : 5 * count].copy(),
        outlines[5 * count : 6 * count].copy(),
        outlines[: 4 * count].reshape(count, 4) / size,
        np.array([NO_LABEL if label is None else code[label] for label in labels], np.int32),
        sources.copy(),
        table,
    )
