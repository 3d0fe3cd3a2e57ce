"""What changes one collection: checked and encoded on the caller's thread, applied by the writer's."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.changed_payloads import ChangedPayloads
from regionsearch.collection.encoding import columns_of, encode_records
from regionsearch.collection.environment import Environment
from regionsearch.collection.fields.field_rows import FieldRows
from regionsearch.collection.group_commit import GroupCommit, Publish
from regionsearch.collection.idempotency import OnceOnly, StoredResults, check_key, digest_of
from regionsearch.collection.merge_patch import merged
from regionsearch.collection.record_encoding import EncodedRecord
from regionsearch.collection.record_layout import image_id_of, payload_of
from regionsearch.collection.records import CollectionSpec, Durability, ImageRecord, UpsertResult
from regionsearch.collection.replaced_images import ReplacedImages
from regionsearch.collection.search_arms import Change, SearchArms
from regionsearch.collection.validation import check_durability, check_payload, check_record, check_versions
from regionsearch.errors import ImageNotFound, InvalidRequest, ReadOnly, VersionMismatch

NOT_YET = (-1, 0, False)
"""Number, version and whether it is new, of a buffered write when it is acknowledged."""


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
        self._fields = FieldRows(environment, rows)
        self._results = StoredResults(environment, rows.number)
        self.changed_payloads = ChangedPayloads()

    def upsert(
        self,
        records: Sequence[ImageRecord],
        *,
        if_versions: Mapping[str, int] | None,
        idempotency_key: str,
        durability: Durability,
    ) -> list[UpsertResult]:
        self.writer()
        check_durability(durability, conditional=if_versions is not None)
        expected = check_versions(if_versions, (record.image_id for record in records))
        encoded = {each.image_id: each for each in encode_records(records, self._spec)}
        if not encoded:
            return []

        def apply(transaction: Any) -> tuple[list[Any], Publish | None]:
            counters = self._rows.counters(transaction)
            self._check_versions(transaction, expected)
            rows, buried, counters = self._rows.put(
                transaction, encoded.values(), counters, time.time_ns() // 1_000
            )
            results = [[row.number, row.version, row.version == 1] for row in rows]
            added = [(row.number, each.vectors) for row, each in zip(rows, encoded.values(), strict=True)]
            self._replaced.remember(buried)
            gone = [number for number, _ in buried]
            given = zip((number for number, _ in added), payloads, strict=True)
            fields = self._fields.write(transaction, added=given, buried=gone)
            generation = self._rows.commit_counters(transaction, counters)
            self._environment.keep_room(transaction, size, len(encoded))
            change = Change(generation, gone, added, columns, fields)
            return results, lambda: self._arms.publish(change)

        last = list({record.image_id: record for record in records}.values())
        payloads = [record.payload for record in last]
        columns = columns_of(last)
        size = sum(len(each.value) + len(each.pixels or b"") for each in encoded.values())
        digest = digest_of("upsert", _parts(encoded.values(), expected)) if idempotency_key else b""
        self._arms.wait_for_room()
        results = self._perform(apply, size, durability, idempotency_key, digest)
        if results is None:
            results = [NOT_YET] * len(encoded)
        of_image = {each: UpsertResult(each, *result) for each, result in zip(encoded, results, strict=True)}
        return [of_image[record.image_id] for record in records]

    def update_payload(
        self,
        image_id: str,
        payload: Mapping[str, Any],
        *,
        merge: bool,
        if_version: int | None,
        idempotency_key: str,
        durability: Durability,
    ) -> UpsertResult:
        self.writer()
        check_durability(durability, conditional=if_version is not None)
        expected = check_versions({} if if_version is None else {image_id: if_version}, [image_id])
        given = check_payload(image_id, payload)

        def apply(transaction: Any) -> tuple[list[Any], Publish | None]:
            counters = self._rows.counters(transaction)
            self._check_versions(transaction, expected)
            row = self._rows.id_row(transaction, image_id)
            if row is None:
                raise ImageNotFound(f"collection '{self._spec.name}' has no image {image_id!r:.600}")
            coded = given
            if merge:
                old = self._rows.record(transaction, row.number)
                stored = {} if old is None else payload_of(old, self._rows.record_key(row.number))
                coded = check_payload(image_id, merged(stored, payload))
            updated = time.time_ns() // 1_000
            row, counters = self._rows.put_payload(transaction, image_id, row, coded, counters, updated)
            now = json.loads(coded) if coded else {}
            fields = self._fields.write(transaction, added=[(row.number, now)])
            generation = self._rows.commit_counters(transaction, counters)
            self.changed_payloads.remember(row.number, generation)
            written = self._rows.record(transaction, row.number) or b""
            self._environment.keep_room(transaction, len(written), 1)
            change = Change(generation, fields=fields)
            return [row.number, row.version, False], lambda: self._arms.publish(change)

        parts = [
            image_id.encode("utf-8", "surrogatepass"),
            given,
            b"merge" if merge else b"",
            *_versions_parts(expected),
        ]
        digest = digest_of("update_payload", parts) if idempotency_key else b""
        if durability == "buffered" and not self._is_there(image_id):
            durability = "synced"  # It may be in the queue; only its commit tells whether it is there.
        result = self._perform(apply, len(given), durability, idempotency_key, digest)
        return UpsertResult(image_id, *(NOT_YET if result is None else result))

    def check(self, record: ImageRecord) -> None:
        check_record(record, self._spec)

    def delete(
        self,
        image_ids: Sequence[str],
        *,
        if_versions: Mapping[str, int] | None,
        idempotency_key: str,
        durability: Durability,
    ) -> int:
        self.writer()
        check_durability(durability, conditional=if_versions is not None)
        expected = check_versions(if_versions, image_ids)
        ids = list(dict.fromkeys(image_ids))

        def apply(transaction: Any) -> tuple[int, Publish | None]:
            self._rows.counters(transaction)
            self._check_versions(transaction, expected)
            return self.bury(transaction, ids)

        parts = [
            *(image_id.encode("utf-8", "surrogatepass") for image_id in ids),
            b"",
            *_versions_parts(expected),
        ]
        digest = digest_of("delete", parts) if idempotency_key else b""
        deleted = self._perform(apply, 0, durability, idempotency_key, digest)
        if deleted is not None:
            return int(deleted)
        return sum(self._is_there(image_id) for image_id in ids)

    def bury(self, transaction: Any, image_ids: Iterable[str]) -> tuple[int, Publish | None]:
        """Takes those out that are there: how many, and what makes searches see it."""
        counters = self._rows.counters(transaction)
        buried = []
        for image_id in image_ids:
            row = self._rows.id_row(transaction, image_id)
            if row is not None:
                counters = self._rows.bury(transaction, image_id, row, counters)
                buried.append(row.number)
        if not buried:
            return 0, None
        fields = self._fields.write(transaction, buried=buried)
        generation = self._rows.commit_counters(transaction, counters)
        change = Change(generation, buried, fields=fields)
        return len(buried), lambda: self._arms.publish(change)

    def bury_unchanged(
        self,
        numbers: Iterable[int],
        seen: int,
        once: OnceOnly | None,
        before: int,
    ) -> tuple[int, list[int]]:
        """One transaction of a deletion by filter: takes out those of these numbers whose image is still as
        it was at generation `seen`.

        once, before: under which key what was deleted so far, these included, is remembered, and how many
        there were before. Returns how many it took out, and the numbers whose payload changed since.
        """
        writer = self.writer()

        def apply(transaction: Any) -> tuple[tuple[int, list[int]], Publish | None]:
            self._rows.counters(transaction)
            ids: list[str] = []
            changed: list[int] = []
            for number in numbers:
                value = self._rows.record(transaction, number)
                if value is None:
                    continue  # deleted, or replaced by an image that nobody asked to delete
                if self.changed_payloads.since(number, seen):
                    changed.append(number)
                else:
                    ids.append(image_id_of(value, self._rows.record_key(number)))
            deleted, publish = self.bury(transaction, ids)
            if once is not None:
                self._results.remember(transaction, once, {"deleted": before + deleted, "done": False})
            return (deleted, changed), publish

        deleted, changed = writer.submit(apply)
        return deleted, changed

    def set_background(self, background: dict[str, Any]) -> None:
        writer = self.writer()
        try:
            coded = json.dumps(background, ensure_ascii=False, allow_nan=False, sort_keys=True).encode()
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"background is not a JSON object: {error}", field="background") from error

        def apply(transaction: Any) -> tuple[None, Publish | None]:
            counters = self._rows.counters(transaction)
            self._rows.put_background(transaction, coded)
            generation = self._rows.commit_counters(transaction, counters)
            return None, lambda: self._arms.publish(Change(generation))

        writer.submit(apply, len(coded))

    def flush(self) -> None:
        writer = self.writer()
        writer.flush()
        writer.failures.tell(self._spec.name)

    def failed_buffered_writes(self) -> int:
        return 0 if self._writer is None else self._writer.failures.count(self._spec.name)

    def writer(self) -> GroupCommit:
        """Raises ReadOnly."""
        if self._writer is None:
            raise ReadOnly(f"collection '{self._spec.name}' is open for reading")
        return self._writer

    # what the methods above share

    def once(self, key: str, digest: bytes) -> OnceOnly:
        """Raises InvalidRequest when the key cannot be one."""
        check_key(key)
        return OnceOnly(key, digest, time.time_ns() // 1_000)

    def earlier(self, once: OnceOnly) -> Any | None:
        """The result remembered under the key, as of the last commit."""
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            return self._results.earlier(transaction, once)

    def remember(self, once: OnceOnly, result: Any) -> None:
        def apply(transaction: Any) -> tuple[None, None]:
            self._rows.counters(transaction)
            self._results.remember(transaction, once, result)
            return None, None

        self.writer().submit(apply)

    def _perform(
        self,
        apply: Callable[[Any], tuple[Any, Publish | None]],
        size: int,
        durability: Durability,
        key: str,
        digest: bytes,
    ) -> Any:
        """Has the writer apply it, once for all requests with this key. The result, or None when buffered."""
        writer = self.writer()
        apply_once = apply
        if key:
            once = self.once(key, digest)

            def remembered(transaction: Any) -> tuple[Any, Publish | None]:
                self._rows.counters(transaction)
                earlier = self._results.earlier(transaction, once)
                if earlier is not None:
                    return earlier, None
                result, publish = apply(transaction)
                self._results.remember(transaction, once, result)
                return result, publish

            apply_once = remembered
            if durability == "buffered":
                earlier = self.earlier(once)
                if earlier is not None:
                    return earlier
        if durability == "buffered":
            writer.submit_buffered(apply_once, size, self._spec.name)
            return None
        return writer.submit(apply_once, size)

    def _check_versions(self, transaction: Any, expected: Mapping[str, int]) -> None:
        for image_id, version in expected.items():
            row = self._rows.id_row(transaction, image_id)
            found = 0 if row is None else row.version
            if found != version:
                raise VersionMismatch(
                    f"image {image_id!r:.600} of collection '{self._spec.name}' has version {found}"
                    f"{' (there is none)' if row is None else ''}; the write is for version {version}"
                    f"{' (there must be none)' if version == 0 else ''}",
                    metadata={"image_id": image_id, "wanted": str(version), "found": str(found)},
                )

    def _is_there(self, image_id: str) -> bool:
        with self._environment.transaction() as transaction:
            return self._rows.id_row(transaction, image_id) is not None


def _parts(encoded: Iterable[EncodedRecord], expected: Mapping[str, int]) -> Iterable[bytes]:
    """All that an upsert says."""
    for each in encoded:
        yield each.without_number()
        yield each.pixels or b""
    yield from _versions_parts(expected)


def _versions_parts(expected: Mapping[str, int]) -> list[bytes]:
    return [
        f"{image_id}\0{version}".encode("utf-8", "surrogatepass")
        for image_id, version in sorted(expected.items())
    ]
