"""All images of one moment, one after the other, while writes go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.environment import Environment
from regionsearch.collection.group_commit import GroupCommit
from regionsearch.collection.long_read import LongRead
from regionsearch.collection.records import ImageRecord
from regionsearch.collection.search_arms import SearchArms
from regionsearch.collection.segments.view import View
from regionsearch.errors import InvalidRequest
from regionsearch.regions import Mask

ExportedPart = Literal["payload", "masks", "vectors", "pixels"]
EXPORTED_PARTS: tuple[ExportedPart, ...] = ("payload", "masks", "vectors", "pixels")
_IDS_AT_ONCE = 1_000


class Matched(Protocol):
    """What a filter found in a view."""

    @property
    def view(self) -> View: ...

    def image_numbers(self) -> NDArray[np.int64]: ...


Evaluate = Callable[[View, str, Any], Matched]
"""A filter in a view; the transaction is of the same moment, for what only records know."""
Decode = Callable[[Any, str, int, bool], ImageRecord]
"""Of a transaction, image id, number and whether with pixels."""


def check_parts(parts: Sequence[str]) -> None:
    """Raises InvalidRequest."""
    for part in parts:
        if part not in EXPORTED_PARTS:
            raise InvalidRequest(
                f"an export has {', '.join(EXPORTED_PARTS)} to choose from, not {part!r:.80}", field="parts"
            )


def one_moment(
    environment: Environment,
    rows: CollectionRows,
    arms: SearchArms,
    writer: GroupCommit | None,
    growth_limit: int,
) -> tuple[View, LongRead]:
    """The view and the catalog at the same generation."""
    arms.current()
    if writer is not None:
        # Between two commits on the writer's thread, where everything committed is published.
        def begin(transaction: Any) -> tuple[tuple[View, LongRead], None]:
            return (arms.current(), LongRead(environment, growth_limit)), None

        begun: tuple[View, LongRead] = writer.submit(begin)
        return begun
    while True:
        read = LongRead(environment, growth_limit)
        view = arms.current()
        with read.step() as transaction:
            if rows.counters(transaction).generation == view.generation:
                return view, read
        read.end()


def exported(
    read: LongRead,
    rows: CollectionRows,
    wanted: NDArray[np.int64] | None,
    decoded: Decode,
    parts: Sequence[ExportedPart],
) -> Iterator[ImageRecord]:
    """Records in the order of ids, those of the numbers `wanted` (None: all), with these parts."""
    chosen = None if wanted is None else set(wanted.tolist())
    after = ""
    try:
        while True:
            with read.step() as transaction:
                page: list[tuple[str, int]] = []
                last = after
                for image_id, row in rows.id_rows(transaction, after, ""):
                    last = image_id
                    if chosen is None or row.number in chosen:
                        page.append((image_id, row.number))
                        if len(page) == _IDS_AT_ONCE:
                            break
            for image_id, number in page:
                with read.step() as transaction:
                    record = decoded(transaction, image_id, number, "pixels" in parts)
                yield _with_parts(record, parts)
            if len(page) < _IDS_AT_ONCE:
                return
            after = last
    finally:
        read.end()


def _with_parts(record: ImageRecord, parts: Sequence[ExportedPart]) -> ImageRecord:
    if "payload" not in parts:
        record = replace(record, payload={})
    if "vectors" not in parts:
        record = replace(record, vectors=record.vectors[:0].copy())
    if "masks" not in parts:
        nothing = Mask(record.height, record.width, np.array([record.height * record.width], np.uint32))
        entities = replace(record.entities, masks=(nothing,) * len(record.entities))
        record = replace(record, entities=entities)
    return record
