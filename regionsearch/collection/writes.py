"""What changes one collection: checked and encoded on the caller's thread, applied by the writer's."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.catalog import CollectionRows, EncodedRecord
from regionsearch.collection.environment import Environment
from regionsearch.collection.group_commit import GroupCommit
from regionsearch.collection.record_layout import encode_body
from regionsearch.collection.records import CollectionSpec, ImageRecord, UpsertResult
from regionsearch.collection.replaced_images import ReplacedImages
from regionsearch.collection.search_arms import Change, SearchArms
from regionsearch.collection.validation import check_record
from regionsearch.errors import InvalidRecord, InvalidRequest, ReadOnly


class CollectionWrites:
    """The writing half of `Collection`, where its methods are documented."""

    def __init__(
        self,
        environment: Environment,
        rows: CollectionRows,
        spec: CollectionSpec,
        writer: GroupCommit | None,
        arms: SearchArms,
        replaced: ReplacedImages,
    ) -> None:
        self._environment = environment
        self._rows = rows
        self._spec = spec
        self._writer = writer
        self._arms = arms
        self._replaced = replaced

    def upsert(self, records: Sequence[ImageRecord]) -> list[UpsertResult]:
        writer = self.writer()
        encoded: dict[str, EncodedRecord] = {}
        for record in records:
            encoded[record.image_id] = self._encoded(record)
        if not encoded:
            return []

        def apply(transaction: Any) -> tuple[dict[str, UpsertResult], Any]:
            counters = self._rows.counters(transaction)
            updated = time.time_ns() // 1_000
            results: dict[str, UpsertResult] = {}
            buried: list[tuple[int, str]] = []
            added: list[tuple[int, NDArray[np.float32]]] = []
            for image_id, each in encoded.items():
                row, old, counters = self._rows.put(transaction, each, counters, updated)
                results[image_id] = UpsertResult(image_id, row.number, row.version, old is None)
                added.append((row.number, _vectors_in_body(each)))
                if old is not None:
                    buried.append((old.number, image_id))
            self._replaced.remember(buried)
            generation = self._rows.commit_counters(transaction, counters)
            self._environment.keep_room(transaction)
            change = Change(generation, [number for number, _ in buried], added)
            return results, lambda: self._arms.publish(change)

        size = sum(len(each.body) + len(each.pixels or b"") for each in encoded.values())
        results = writer.submit(apply, size)
        return [results[record.image_id] for record in records]

    def check(self, record: ImageRecord) -> None:
        check_record(record, self._spec)
        if record.pixels is not None and self._spec.pixels == "none":
            raise InvalidRecord(
                f"image {record.image_id!r}: pixels are given, but the collection keeps none", field="pixels"
            )

    def delete(self, image_ids: Sequence[str]) -> int:
        writer = self.writer()

        def apply(transaction: Any) -> tuple[int, Any]:
            counters = self._rows.counters(transaction)
            buried = []
            for image_id in dict.fromkeys(image_ids):
                row = self._rows.id_row(transaction, image_id)
                if row is not None:
                    counters = self._rows.bury(transaction, image_id, row, counters)
                    buried.append(row.number)
            if not buried:
                return 0, None
            generation = self._rows.commit_counters(transaction, counters)
            return len(buried), lambda: self._arms.publish(Change(generation, buried))

        return int(writer.submit(apply))

    def set_background(self, background: dict[str, Any]) -> None:
        writer = self.writer()
        try:
            coded = json.dumps(background, ensure_ascii=False, allow_nan=False, sort_keys=True).encode()
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"background is not a JSON object: {error}", field="background") from error

        def apply(transaction: Any) -> tuple[None, Any]:
            counters = self._rows.counters(transaction)
            self._rows.put_background(transaction, coded)
            generation = self._rows.commit_counters(transaction, counters)
            return None, lambda: self._arms.publish(Change(generation))

        writer.submit(apply, len(coded))

    def writer(self) -> GroupCommit:
        """Raises ReadOnly."""
        if self._writer is None:
            raise ReadOnly(f"collection '{self._spec.name}' is open for reading")
        return self._writer

    def _encoded(self, record: ImageRecord) -> EncodedRecord:
        self.check(record)
        header, body = encode_body(record)
        return EncodedRecord(record.image_id, header, body, record.pixels)


def _vectors_in_body(encoded: EncodedRecord) -> NDArray[np.float32]:
    rows, dimension = 1 + encoded.header.entities, encoded.header.dimension
    return np.frombuffer(encoded.body, np.float32, rows * dimension).reshape(rows, dimension)
