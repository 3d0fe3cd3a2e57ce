"""What is read of one collection, each call in a transaction of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.array_pool import ArrayPool
from regionsearch.collection.candidates import Candidates
from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.environment import Environment
from regionsearch.collection.record_layout import Buffer, CandidateParts, candidate_parts, decode
from regionsearch.collection.records import CollectionSpec, ImageRecord
from regionsearch.collection.replaced_images import ReplacedImages
from regionsearch.collection.segments.record_vectors import LeaveOut
from regionsearch.errors import DataLoss, ImageNotFound


class CollectionReads:
    """The reading half of `Collection`, where its methods are documented."""

    def __init__(
        self,
        environment: Environment,
        rows: CollectionRows,
        spec: CollectionSpec,
        replaced: ReplacedImages,
        leave_out: LeaveOut,
    ) -> None:
        self._environment = environment
        self._rows = rows
        self._spec = spec
        self._replaced = replaced
        self._leave_out = leave_out
        self._pool = ArrayPool()

    def background(self) -> dict[str, Any] | None:
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            coded = self._rows.background(transaction)
        return None if coded is None else dict(json.loads(coded))

    def get(self, image_id: str, *, pixels: bool) -> ImageRecord:
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            return self.decoded(transaction, image_id, self._number_of(transaction, image_id), pixels)

    def records(self, numbers: Sequence[int]) -> list[ImageRecord | None]:
        found: list[ImageRecord | None] = []
        damaged: dict[int, DataLoss] = {}
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            for number in map(int, numbers):
                value = self._rows.record(transaction, number)
                try:
                    found.append(None if value is None else decode(value, self._rows.record_key(number)))
                except DataLoss as error:
                    found.append(None)
                    damaged[number] = error
        if damaged:
            self._leave_out(damaged)
        return found

    def contains(self, image_id: str) -> bool:
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            return self._rows.id_row(transaction, image_id) is not None

    def is_stored(self, image_id: str, content_hash: str) -> bool:
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            row = self._rows.id_row(transaction, image_id)
            if row is None or row.content_hash != content_hash:
                return False
            return self._rows.sound_record(transaction, row.number) is not None

    def find_content(self, content_hash: str, *, pixels: bool) -> ImageRecord | None:
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            for number in self._rows.numbers_with_content(transaction, content_hash):
                value = self._rows.sound_record(transaction, number)
                if value is not None:
                    return self._decoded(transaction, value, number, pixels=pixels)
        return None

    def pixels(self, image_id: str) -> bytes | None:
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            return self._rows.pixels(transaction, self._number_of(transaction, image_id))

    def candidates(
        self,
        numbers: Sequence[int],
        *,
        compared_with: Sequence[NDArray[np.float32]] | None,
        images_compared_with: Sequence[NDArray[np.float32]],
        labels: bool,
    ) -> Candidates:
        found: dict[int, CandidateParts] = {}
        damaged: dict[int, DataLoss] = {}
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            for asked in map(int, numbers):
                record = self._find(transaction, asked)
                if record is None or record[0] in found:
                    continue
                number, value = record
                try:
                    found[number] = candidate_parts(value, self._rows.record_key(number), labels=labels)
                except DataLoss as error:
                    damaged[number] = error
            # Everything is copied or compared while the transaction keeps LMDB's pages.
            if compared_with is not None:
                candidates = Candidates.compared(found, compared_with, images_compared_with)
            else:
                rows = sum(len(parts.vectors) for parts in found.values())
                candidates = Candidates.copied(found, self._pool.empty(rows, self._spec.embedder.dimension))
        if damaged:
            self._leave_out(damaged)
        return candidates

    def sample_numbers(self, count: int, seed: int) -> NDArray[np.int64]:
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            live = np.fromiter(self._rows.numbers(transaction), np.int64)
        random = np.random.default_rng(seed)
        return random.choice(live, size=min(count, len(live)), replace=False)

    def decoded(self, transaction: Any, image_id: str, number: int, pixels: bool) -> ImageRecord:
        """In a transaction that the caller holds. Raises DataLoss."""
        value = self._rows.record(transaction, number)
        if value is None:
            raise DataLoss(f"{self._named(image_id, number)}: its record is missing")
        return self._decoded(transaction, value, number, pixels=pixels)

    # what the methods above share

    def _find(self, transaction: Any, number: int) -> tuple[int, Buffer] | None:
        """The record of a number, or of the one that replaced it lately, with its number."""
        value = self._rows.record(transaction, number)
        if value is not None:
            return number, value
        image_id = self._replaced.image_id(number)
        row = None if image_id is None else self._rows.id_row(transaction, image_id)
        value = None if row is None else self._rows.record(transaction, row.number)
        return None if row is None or value is None else (row.number, value)

    def _number_of(self, transaction: Any, image_id: str) -> int:
        row = self._rows.id_row(transaction, image_id)
        if row is None:
            raise ImageNotFound(f"collection '{self._spec.name}' has no image {image_id!r:.600}")
        return row.number

    def _decoded(self, transaction: Any, value: Buffer, number: int, *, pixels: bool) -> ImageRecord:
        try:
            kept = self._rows.pixels(transaction, number) if pixels else None
            return decode(value, self._rows.record_key(number), kept)
        except DataLoss as error:
            raise self._loss(number, error) from error

    def _loss(self, number: int, error: DataLoss) -> DataLoss:
        image_id = ""
        with self._environment.transaction() as transaction:
            for each, row in self._rows.id_rows(transaction, "", ""):
                if row.number == number:
                    image_id = each
        return DataLoss(
            f"{self._named(image_id, number)}: {error.message}; delete it or index it again",
            metadata={"image_id": image_id},
        )

    def _named(self, image_id: str, number: int) -> str:
        return f"image '{image_id}' (number {number}) of collection '{self._spec.name}'"
