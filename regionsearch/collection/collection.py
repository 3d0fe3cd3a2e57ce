"""One collection: records in LMDB, their vectors in two indexes."""

from __future__ import annotations

import builtins
import json
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import page_tokens
from regionsearch.collection.array_pool import ArrayPool
from regionsearch.collection.candidates import Candidates
from regionsearch.collection.catalog import CollectionRows, EncodedRecord
from regionsearch.collection.environment import Environment
from regionsearch.collection.group_commit import GroupCommit
from regionsearch.collection.index import VectorIndex, image_numbers, ordinals
from regionsearch.collection.record_layout import (
    Buffer,
    CandidateParts,
    candidate_parts,
    decode,
    encode_body,
)
from regionsearch.collection.records import (
    CollectionSpec,
    CollectionStats,
    ImageListing,
    ImageRecord,
    Neighbours,
    UpsertResult,
)
from regionsearch.collection.search_arms import Change, SearchArms
from regionsearch.collection.validation import check_query_vector, check_record
from regionsearch.errors import DataLoss, ImageNotFound, InvalidRecord, InvalidRequest, ReadOnly

MAX_PAGE_SIZE = 1_000
_SUCCESSORS_KEPT = 16_384


class Collection:
    """Made by `DataDirectory`. Every method may be called from any thread, beside any other.

    All raise CollectionNotFound once the collection is dropped, and FailedPrecondition once its
    directory is closed or in a fork of the process that opened it.
    """

    def __init__(
        self, environment: Environment, number: int, spec: CollectionSpec, writer: GroupCommit | None
    ) -> None:
        self._environment = environment
        self._spec = spec
        self._writer = writer
        self._rows = CollectionRows(environment, spec.name, number)
        self._arms = SearchArms(
            environment, self._rows, spec.embedder.dimension, is_writer=writer is not None
        )
        self._pool = ArrayPool()
        # Numbers that were buried lately, and whose they were: a search that began before a replacement
        # still finds the image, under its new number.
        self._buried: OrderedDict[int, str] = OrderedDict()

    @property
    def number(self) -> int:
        """Of the collection in its data directory, never reused."""
        return self._rows.number

    @property
    def spec(self) -> CollectionSpec:
        return self._spec

    @property
    def stats(self) -> CollectionStats:
        with self._environment.transaction() as transaction:
            counters = self._rows.counters(transaction)
        return CollectionStats(
            name=self._spec.name,
            images=counters.images,
            entities=counters.entities,
            dimension=self._spec.embedder.dimension,
            bytes=counters.stored_bytes,
            generation=counters.generation,
        )

    # writes (each returns when the LMDB transaction is on disk and the rows are searchable)

    def upsert(self, records: Sequence[ImageRecord]) -> builtins.list[UpsertResult]:
        """All or none. A repeated image_id within one call: the last wins.

        Returns a result for each record given, in their order; repeated ones share theirs.
        Raises InvalidRecord (names image and what does not fit), ReadOnly, StorageFull.
        """
        writer = self._writing()
        encoded: dict[str, EncodedRecord] = {}
        for record in records:
            encoded[record.image_id] = self._encoded(record)
        if not encoded:
            return []

        def apply(transaction: Any) -> tuple[dict[str, UpsertResult], Any]:
            counters = self._rows.counters(transaction)
            updated = time.time_ns() // 1_000
            results: dict[str, UpsertResult] = {}
            buried: builtins.list[int] = []
            added: builtins.list[tuple[int, NDArray[np.float32]]] = []
            for image_id, each in encoded.items():
                row, old, counters = self._rows.put(transaction, each, counters, updated)
                results[image_id] = UpsertResult(image_id, row.number, row.version, old is None)
                added.append((row.number, _vectors_in_body(each)))
                if old is not None:
                    buried.append(old.number)
                    self._remember_buried(old.number, image_id)
            generation = self._rows.commit_counters(transaction, counters)
            self._environment.keep_room(transaction)
            return results, lambda: self._arms.publish(Change(generation, buried, added))

        size = sum(len(each.body) + len(each.pixels or b"") for each in encoded.values())
        results = writer.submit(apply, size)
        return [results[record.image_id] for record in records]

    def check(self, record: ImageRecord) -> None:
        """Raises InvalidRecord, naming image and field, when `upsert` would refuse this record."""
        check_record(record, self._spec)
        if record.pixels is not None and self._spec.pixels == "none":
            raise InvalidRecord(
                f"image {record.image_id!r}: pixels are given, but the collection keeps none", field="pixels"
            )

    def delete(self, image_ids: Sequence[str]) -> int:
        """Returns how many existed. Raises ReadOnly, StorageFull."""
        writer = self._writing()

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
        """A JSON object kept with the collection (statistics for joint scoring), replaced atomically.

        Counts as a write of the collection. Raises InvalidRequest when it is not JSON, ReadOnly, StorageFull.
        """
        writer = self._writing()
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

    # reads

    def background(self) -> dict[str, Any] | None:
        """What `set_background` stored last."""
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            coded = self._rows.background(transaction)
        return None if coded is None else dict(json.loads(coded))

    def get(self, image_id: str, *, pixels: bool = False) -> ImageRecord:
        """The whole record, its checksum verified. Raises ImageNotFound, DataLoss."""
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            number = self._number_of(transaction, image_id)
            value = self._rows.record(transaction, number)
            if value is None:
                raise DataLoss(f"{self._named(image_id, number)}: its record is missing")
            return self._decoded(transaction, value, number, pixels=pixels)

    def records(self, numbers: Sequence[int]) -> builtins.list[ImageRecord | None]:
        """By image number; None for those that are gone. Raises DataLoss.

        A replaced image is gone under its old number: what was learnt of its entities is no longer true.
        """
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            values = ((int(number), self._rows.record(transaction, int(number))) for number in numbers)
            return [
                None if value is None else self._decoded(transaction, value, number, pixels=False)
                for number, value in values
            ]

    def contains(self, image_id: str) -> bool:
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            return self._rows.id_row(transaction, image_id) is not None

    def is_stored(self, image_id: str, content_hash: str) -> bool:
        """Whether the image has these bytes (sha256, hex) and is sound: all that is kept of it is read,
        and a damaged one counts as not stored, so that indexing it again mends it."""
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            row = self._rows.id_row(transaction, image_id)
            if row is None or row.content_hash != content_hash:
                return False
            return self._rows.sound_record(transaction, row.number) is not None

    def find_content(self, content_hash: str, *, pixels: bool = False) -> ImageRecord | None:
        """Any live image with these bytes (sha256, hex), so that its entities and vectors can be copied.

        pixels: with what is kept of the picture. A damaged image is passed over, as if it were not there.
        """
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            for number in self._rows.numbers_with_content(transaction, content_hash):
                value = self._rows.sound_record(transaction, number)
                if value is not None:
                    return self._decoded(transaction, value, number, pixels=pixels)
        return None

    def list(
        self, page_size: int = 100, page_token: str = "", prefix: str = ""
    ) -> tuple[builtins.list[ImageListing], str]:
        """A page in the order of ids and the token of the next ("" at the end).

        page_size: 1 to 1,000. prefix: of the ids. An image that is there throughout a walk over the
        pages is met exactly once, whatever is written meanwhile.
        Raises InvalidRequest on a bad token, and on one of another collection or prefix.
        """
        if not 1 <= page_size <= MAX_PAGE_SIZE:
            raise InvalidRequest(f"page_size is {page_size}, outside 1 to {MAX_PAGE_SIZE}", field="page_size")
        after = page_tokens.last_id_of(page_token, self._spec.name, prefix) if page_token else ""
        listings: builtins.list[ImageListing] = []
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            for image_id, row in self._rows.id_rows(transaction, after, prefix):
                if len(listings) == page_size:
                    return listings, page_tokens.page_token(self._spec.name, prefix, listings[-1].image_id)
                listings.append(row.listing(image_id))
        return listings, ""

    def image_ids(self) -> Iterable[str]:
        """All ids in their order, read in pages of 1,000, so that no transaction stays open meanwhile."""
        token = ""
        while True:
            listings, token = self.list(MAX_PAGE_SIZE, token)
            yield from (listing.image_id for listing in listings)
            if not token:
                return

    def pixels(self, image_id: str) -> bytes | None:
        """What the collection keeps of the picture (encoded bytes). Raises ImageNotFound, DataLoss."""
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            return self._rows.pixels(transaction, self._number_of(transaction, image_id))

    # search: exact, thread-safe, beside writes

    def load(self) -> None:
        """Builds the indexes now, so that the first search need not."""
        self._arms.current()

    def search(self, vector: NDArray[np.float32], k: int) -> Neighbours:
        """Entity arm. vector: (d,) float32, finite; similarities are cosines when it has unit length.

        Fewer than k when there are fewer. Raises InvalidRequest, ModelUnavailable (no FAISS).
        """
        checked = self._checked_query(vector, k)
        return _neighbours(self._arms.current().entities, checked, k)

    def search_images(self, vector: NDArray[np.float32], k: int) -> Neighbours:
        """Global arm, as `search`."""
        checked = self._checked_query(vector, k)
        found = _neighbours(self._arms.current().images, checked, k)
        return Neighbours(found.numbers, np.zeros_like(found.ordinals), found.similarities)

    def candidates(
        self,
        numbers: Sequence[int],
        *,
        compared_with: Sequence[NDArray[np.float32]] | None = None,
        images_compared_with: Sequence[NDArray[np.float32]] = (),
        labels: bool = False,
    ) -> Candidates:
        """In the order asked; images that are gone are left out.

        An image that was replaced since its number was found comes as it is now, under its new
        number, once. compared_with: queries (d,) whose inner products with all vectors are taken where
        the vectors lie in LMDB's memory, and handed on instead of copies of them; images_compared_with:
        beside those, queries (d,) for the images' own vectors alone. None: the vectors are copied, as
        slices of one array. labels: whether those of the entities are read too.
        Raises DataLoss.
        """
        found: dict[int, CandidateParts] = {}
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            for number in numbers:
                record = self._find(transaction, int(number))
                if record is None or record[0] in found:
                    continue
                try:
                    found[record[0]] = candidate_parts(record[1], labels=labels)
                except DataLoss as error:
                    raise self._loss(record[0], error) from error
            # Everything is copied or compared while the transaction keeps LMDB's pages.
            if compared_with is not None:
                return Candidates.compared(found, compared_with, images_compared_with)
            rows = sum(len(parts.vectors) for parts in found.values())
            return Candidates.copied(found, self._pool.empty(rows, self._spec.embedder.dimension))

    def sample_numbers(self, count: int, seed: int) -> NDArray[np.int64]:
        """A seeded sample, without repetition, of live image numbers: all when there are no more."""
        with self._environment.transaction() as transaction:
            self._rows.counters(transaction)
            live = np.fromiter(self._rows.numbers(transaction), np.int64)
        random = np.random.default_rng(seed)
        return random.choice(live, size=min(count, len(live)), replace=False)

    # what the methods above share

    def _writing(self) -> GroupCommit:
        if self._writer is None:
            raise ReadOnly(f"collection '{self._spec.name}' is open for reading")
        return self._writer

    def _encoded(self, record: ImageRecord) -> EncodedRecord:
        self.check(record)
        header, body = encode_body(record)
        return EncodedRecord(record.image_id, header, body, record.pixels)

    def _remember_buried(self, number: int, image_id: str) -> None:
        self._buried[number] = image_id
        while len(self._buried) > _SUCCESSORS_KEPT:
            self._buried.popitem(last=False)

    def _find(self, transaction: Any, number: int) -> tuple[int, Buffer] | None:
        """The record of a number, or of the one that replaced it lately, with its number."""
        value = self._rows.record(transaction, number)
        if value is not None:
            return number, value
        image_id = self._buried.get(number)
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
            record = decode(value, kept)
            if record.number != number:
                raise DataLoss(f"it holds the record of image number {record.number}")
        except DataLoss as error:
            raise self._loss(number, error) from error
        return record

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

    def _checked_query(self, vector: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        if k < 1:
            raise InvalidRequest(f"k is {k}; it must be at least 1", field="k")
        return check_query_vector(vector, self._spec.embedder.dimension)


def _neighbours(index: VectorIndex, vector: NDArray[np.float32], k: int) -> Neighbours:
    ids, similarities = index.search(vector, k)
    return Neighbours(image_numbers(ids), ordinals(ids), similarities)


def _vectors_in_body(encoded: EncodedRecord) -> NDArray[np.float32]:
    rows, dimension = 1 + encoded.header.entities, encoded.header.dimension
    return np.frombuffer(encoded.body, np.float32, rows * dimension).reshape(rows, dimension)
