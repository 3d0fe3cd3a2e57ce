"""Finished records, checked and made into bytes on the caller's thread, all of a call at once.

The checks that look at every number (lengths of vectors, pixels of masks) are made for all records in one
go; whichever record fails one is then checked by itself, which names what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.record_encoding import EncodedRecord, encode_record
from regionsearch.collection.records import CollectionSpec, ImageRecord
from regionsearch.collection.segments.entity_columns import NO_LABEL, EntityColumns
from regionsearch.collection.validation import (
    UNIT_LENGTH_TOLERANCE,
    check_lengths,
    check_payload,
    check_runs,
    check_shape,
)

# Of squared lengths that are surely within the tolerance, whatever float32 rounds away.
_SURELY = 1.8 * UNIT_LENGTH_TOLERANCE


def encode_records(records: Sequence[ImageRecord], spec: CollectionSpec) -> list[EncodedRecord]:
    """In their order. Raises InvalidRecord, naming image and field."""
    if not records:
        return []
    payloads = []
    for record in records:
        check_shape(record, spec)
        payloads.append(check_payload(record.image_id, record.payload))
    _check_all_lengths(records)
    runs, lengths = _checked_runs(records)
    encoded = []
    mask = run = 0
    for record, payload in zip(records, payloads, strict=True):
        own = lengths[mask : mask + len(record.entities)]
        end = run + int(own.sum())
        encoded.append(encode_record(record, payload, own, runs[run:end]))
        mask += len(own)
        run = end
    return encoded


def columns_of(records: Sequence[ImageRecord]) -> list[EntityColumns]:
    """What filters ask of the entities of each, where there are no labels as slices of arrays over all."""
    entities = [record.entities for record in records]
    counts = [len(each) for each in entities]
    sizes = np.array([(record.width, record.height) * 2 for record in records], np.float32)
    areas = np.concatenate([each.areas for each in entities])
    unlabelled = EntityColumns(
        areas,
        np.concatenate([each.objectness for each in entities]),
        np.divide(
            np.concatenate([each.boxes for each in entities]),
            np.repeat(sizes, counts, axis=0),
            dtype=np.float32,
        ),
        np.full(len(areas), NO_LABEL, np.int32),
        np.zeros(len(areas), np.uint8),
        (),
    )
    columns = []
    start = 0
    for record, each, count in zip(records, entities, counts, strict=True):
        if any(label is not None for label in each.labels):
            columns.append(EntityColumns.of(each, record.width, record.height))
        else:
            columns.append(unlabelled.rows(slice(start, start + count)))
        start += count
    return columns


def _check_all_lengths(records: Sequence[ImageRecord]) -> None:
    # A value that is not finite makes its vector's length not finite, and no comparison with it true.
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.concatenate([np.vecdot(record.vectors, record.vectors) for record in records])
        surely = np.abs(squares - 1) <= _SURELY
    if not surely.all():
        for record in records:
            check_lengths(record)


def _checked_runs(records: Sequence[ImageRecord]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The runs of all masks one after the other, and how many each mask has."""
    masks = [mask for record in records for mask in record.entities.masks]
    runs = np.concatenate([mask.counts for mask in masks])
    lengths = np.array([len(mask.counts) for mask in masks], np.uint32)
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    covered = np.add.reduceat(runs, starts, dtype=np.int64)
    if (covered != [mask.height * mask.width for mask in masks]).any():
        for record in records:
            check_runs(record)
    return runs, lengths
