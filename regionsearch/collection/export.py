"""All images of one moment, one after the other, while writes go on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.environment import Environment
from regionsearch.collection.fields.filtering import Filtering
from regionsearch.collection.group_commit import GroupCommit
from regionsearch.collection.long_read import LongRead
from regionsearch.collection.records import ImageRecord
from regionsearch.collection.search_arms import SearchArms
from regionsearch.collection.segments.view import View
from regionsearch.errors import InvalidRequest
from regionsearch.filters import parse
from regionsearch.regions import Mask

ExportedPart = Literal["payload", "masks", "vectors", "pixels"]
EXPORTED_PARTS: tuple[ExportedPart, ...] = ("payload", "masks", "vectors", "pixels")
_IDS_AT_ONCE = 1_000


Decode = Callable[[Any, str, int, bool], ImageRecord]
"""Of a transaction, image id, number and whether with pixels."""


def export(
    environment: Environment,
    rows: CollectionRows,
    arms: SearchArms,
    writer: GroupCommit | None,
    filtering: Filtering,
    decoded: Decode,
    where: str,
    parts: Sequence[ExportedPart],
    growth_limit: int,
) -> Export:
    """See `Collection.export`."""
    _check_parts(parts)
    parse(where)
    view, read = one_moment(environment, rows, arms, writer, growth_limit)
    try:
        wanted = None
        if where.strip():
            with read.step() as transaction:
                wanted = filtering.matching_in(view, where, transaction).image_numbers()
        return Export(read, rows, wanted, decoded, parts)
    except BaseException:
        read.end()
        raise


def _check_parts(parts: Sequence[str]) -> None:
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
        begun: list[LongRead] = []

        # Between two commits on the writer's thread, where everything committed is published.
        def begin(transaction: Any) -> tuple[View, None]:
            end_begun()  # of an earlier try, when the group of requests began anew
            begun.append(LongRead(environment, growth_limit))
            return arms.current(), None

        def end_begun() -> None:
            while begun:
                begun.pop().end()

        try:
            return writer.submit(begin), begun[-1]
        except BaseException:
            end_begun()
            raise
    while True:
        read = LongRead(environment, growth_limit)
        view = arms.current()
        with read.step() as transaction:
            if rows.counters(transaction).generation == view.generation:
                return view, read
        read.end()


class Export(Iterator[ImageRecord]):
    """Records in the order of ids, as they were when it began. Exhausted, closed or forgotten, it lets go of
    that moment; so does closing the directory, and then the next step raises FailedPrecondition."""

    def __init__(
        self,
        read: LongRead,
        rows: CollectionRows,
        wanted: NDArray[np.int64] | None,
        decoded: Decode,
        parts: Sequence[ExportedPart],
    ) -> None:
        """wanted: numbers of the images; None: all."""
        self._read = read
        self._records = _records(read, rows, wanted, decoded, parts)

    def __next__(self) -> ImageRecord:
        return next(self._records)

    def close(self) -> None:
        self._records.close()
        self._read.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _records(
    read: LongRead,
    rows: CollectionRows,
    wanted: NDArray[np.int64] | None,
    decoded: Decode,
    parts: Sequence[ExportedPart],
) -> Generator[ImageRecord]:
    chosen = None if wanted is None else set(wanted.tolist())
    after = ""
    try:
        while True:
            with read.step() as transaction:
                ids = list(itertools.islice(rows.id_rows(transaction, after, ""), _IDS_AT_ONCE))
            for image_id, row in ids:
                if chosen is None or row.number in chosen:
                    with read.step() as transaction:
                        record = decoded(transaction, image_id, row.number, "pixels" in parts)
                    yield _with_parts(record, parts)
            if len(ids) < _IDS_AT_ONCE:
                return
            after = ids[-1][0]
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
