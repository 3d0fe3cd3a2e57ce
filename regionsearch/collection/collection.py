"""One collection: records in LMDB, their vectors in two indexes."""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.candidates import Candidates
from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.deletion_by_filter import delete_matching
from regionsearch.collection.environment import Environment
from regionsearch.collection.export import Export, ExportedPart, export
from regionsearch.collection.fields.declaring import Declaring, resume
from regionsearch.collection.fields.filtering import Filtering
from regionsearch.collection.fields.matching import MatchCount, Matching
from regionsearch.collection.group_commit import GroupCommit
from regionsearch.collection.index import image_numbers, ordinals
from regionsearch.collection.listing import CollectionListing
from regionsearch.collection.long_read import GROWTH_LIMIT
from regionsearch.collection.reads import CollectionReads
from regionsearch.collection.records import (
    CollectionSpec,
    CollectionStats,
    Durability,
    ImageListing,
    ImageRecord,
    IndexedField,
    IndexWish,
    Neighbours,
    UpsertResult,
)
from regionsearch.collection.replaced_images import ReplacedImages
from regionsearch.collection.search_arms import SearchArms
from regionsearch.collection.segments.upkeep import Upkeep
from regionsearch.collection.statistics import collection_stats
from regionsearch.collection.updating import updated_spec
from regionsearch.collection.validation import check_durability, check_query_vector
from regionsearch.collection.writes import CollectionWrites
from regionsearch.errors import InvalidRequest, ReadOnly


class Collection:
    """Made by `DataDirectory`. Every method may be called from any thread, beside any other.

    All raise CollectionNotFound once the collection is dropped, and FailedPrecondition once its
    directory is closed or in a fork of the process that opened it.
    """

    def __init__(
        self,
        environment: Environment,
        number: int,
        spec: CollectionSpec,
        writer: GroupCommit | None,
        upkeep: Upkeep | None,
    ) -> None:
        self._environment = environment
        self._spec = spec
        self._upkeep = upkeep
        self._rows = CollectionRows(environment, spec.name, number)
        self._arms = SearchArms(
            environment, self._rows, spec.embedder.dimension, writer, lambda: self._spec.index, upkeep
        )
        self._filtering = Filtering(environment, self._rows, self._arms.current, self._arms.leave_out)
        if writer is not None:
            resume(Declaring(environment, self._rows, writer, self._arms.publish))
        replaced = ReplacedImages()
        self._listing = CollectionListing(environment, self._rows, self._arms, self._filtering)
        self._reads = CollectionReads(environment, self._rows, spec, replaced, self._arms.leave_out)
        self._export = functools.partial(
            export, environment, self._rows, self._arms, writer, self._filtering, self._reads.decoded
        )
        self._writes = CollectionWrites(environment, self._rows, spec, writer, self._arms, replaced)

    @property
    def number(self) -> int:
        """Of the collection in its data directory, never reused."""
        return self._rows.number

    @property
    def spec(self) -> CollectionSpec:
        return self._spec

    def take_spec(self, spec: CollectionSpec) -> None:
        """What the catalog says now of this collection's indexed fields and index: another process, or
        `rewrite_spec` in a committed transaction, changed it."""
        self._spec = self._reads._spec = self._writes._spec = spec

    @property
    def stats(self) -> CollectionStats:
        failed = self._writes.failed_buffered_writes()
        return collection_stats(self._environment, self._rows, self._spec, self._arms, failed)

    def update(
        self,
        *,
        indexed_fields: Sequence[IndexedField] | None = None,
        index: IndexWish | None = None,
        progress: Callable[[float], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """Declares which fields of payloads have columns (those that are left out lose theirs), and says what
        later index segments should be good at; None leaves either as it is.

        The declaration is kept at once; columns of images that are there are then built piece by piece,
        while a filter on them reads records. When check raises Cancelled, the fields are those of before;
        cut short by a crash, the same call goes on. Raises InvalidRequest, ReadOnly, StorageFull, DataLoss.
        """
        spec = updated_spec(
            self._environment,
            self._rows,
            self._writes.writer(),
            self._arms,
            indexed_fields=indexed_fields,
            index=index,
            progress=progress,
            check=check,
        )
        if spec is not None:
            self.take_spec(spec)

    # writes (each returns when the LMDB transaction is on disk and the rows are searchable, or, with
    # durability "buffered", when it is checked and queued: at most 200 ms before its commit, with which it
    # becomes visible. docs/durability.md has what all of them share.)

    def upsert(
        self,
        records: Sequence[ImageRecord],
        *,
        if_versions: Mapping[str, int] | None = None,
        idempotency_key: str = "",
        durability: Durability = "synced",
    ) -> builtins.list[UpsertResult]:
        """All or none. A repeated image_id within one call: the last wins.

        if_versions: versions that images of this call must have (0: there is none), or nothing is written.
        idempotency_key: the same call again within 24 hours returns the first one's result, writing nothing.
        Returns a result for each record given, in their order; repeated ones share theirs.
        Raises InvalidRecord (names image and what does not fit), InvalidRequest (a key that another request
        came with), VersionMismatch (names image, version wanted and found), ReadOnly, StorageFull.
        """
        return self._writes.upsert(
            records, if_versions=if_versions, idempotency_key=idempotency_key, durability=durability
        )

    def check(self, record: ImageRecord) -> None:
        """Raises InvalidRecord, naming image and field, when `upsert` would refuse this record."""
        self._writes.check(record)

    def update_payload(
        self,
        image_id: str,
        payload: Mapping[str, Any],
        *,
        merge: bool = False,
        if_version: int | None = None,
        idempotency_key: str = "",
        durability: Durability = "synced",
    ) -> UpsertResult:
        """Replaces an image's payload, or merges into it (RFC 7396: null takes a member away). Number,
        entities and vectors stay; version and time move on. The rest as `upsert`.

        Raises ImageNotFound, InvalidRecord (also when the merged payload would be too large), InvalidRequest,
        VersionMismatch, DataLoss (the record is damaged), ReadOnly, StorageFull.
        """
        return self._writes.update_payload(
            image_id,
            payload,
            merge=merge,
            if_version=if_version,
            idempotency_key=idempotency_key,
            durability=durability,
        )

    def delete(
        self,
        image_ids: Sequence[str],
        *,
        if_versions: Mapping[str, int] | None = None,
        idempotency_key: str = "",
        durability: Durability = "synced",
    ) -> int:
        """Returns how many existed (buffered: as of the last commit); all or none. The rest as `upsert`.

        Raises InvalidRequest, VersionMismatch, ReadOnly, StorageFull.
        """
        return self._writes.delete(
            image_ids, if_versions=if_versions, idempotency_key=idempotency_key, durability=durability
        )

    def delete_matching(
        self,
        where: str,
        *,
        idempotency_key: str = "",
        durability: Durability = "synced",
        progress: Callable[[float], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> int:
        """Deletes the images that satisfy a filter when it begins and still do when their turn comes, 500 in
        each transaction. Returns how many.

        An image that is replaced meanwhile, or whose new payload no longer satisfies the filter, stays.
        durability: each piece is waited for with either. Repeated under its key after it was cut short, it
        goes on, and returns the sum. check: called before each piece; what it raises ends the deletion there.
        Raises InvalidFilter, InvalidRequest, ReadOnly, StorageFull, DataLoss.
        """
        check_durability(durability, conditional=False)
        return delete_matching(
            self._writes, self._filtering.matching, where, idempotency_key, progress=progress, check=check
        )

    def flush(self) -> None:
        """Waits until every write queued so far, buffered ones too, is on disk and searchable.

        Raises what a buffered write of this collection failed with since the last call; ReadOnly.
        """
        self._writes.flush()

    def set_background(self, background: dict[str, Any]) -> None:
        """A JSON object kept with the collection (statistics for joint scoring), replaced atomically.

        Counts as a write of the collection. Raises InvalidRequest when it is not JSON, ReadOnly, StorageFull.
        """
        self._writes.set_background(background)

    # reads

    def background(self) -> dict[str, Any] | None:
        """What `set_background` stored last."""
        return self._reads.background()

    def get(self, image_id: str, *, pixels: bool = False) -> ImageRecord:
        """The whole record, its checksum verified. Raises ImageNotFound, DataLoss."""
        return self._reads.get(image_id, pixels=pixels)

    def records(self, numbers: Sequence[int]) -> builtins.list[ImageRecord | None]:
        """By image number; None for those that are gone, and for those whose record is damaged, which
        searches leave out from now on.

        A replaced image is gone under its old number: what was learnt of its entities is no longer true.
        """
        return self._reads.records(numbers)

    def contains(self, image_id: str) -> bool:
        return self._reads.contains(image_id)

    def is_stored(self, image_id: str, content_hash: str) -> bool:
        """Whether the image has these bytes (sha256, hex) and is sound: all that is kept of it is read,
        and a damaged one counts as not stored, so that indexing it again mends it."""
        return self._reads.is_stored(image_id, content_hash)

    def find_content(self, content_hash: str, *, pixels: bool = False) -> ImageRecord | None:
        """Any live image with these bytes (sha256, hex), so that its entities and vectors can be copied.

        pixels: with what is kept of the picture. A damaged image is passed over, as if it were not there.
        """
        return self._reads.find_content(content_hash, pixels=pixels)

    def list(
        self, page_size: int = 100, page_token: str = "", prefix: str = "", where: str = ""
    ) -> tuple[builtins.list[ImageListing], str]:
        """A page in the order of ids and the token of the next ("" at the end).

        page_size: 1 to 1,000. prefix: of the ids. where: a filter (docs/filters.md); each page is exact when
        it is read. An image that is there, and satisfies the filter, throughout a walk over the pages is met
        exactly once, whatever is written meanwhile.
        Raises InvalidRequest on a bad token and on one of another listing, InvalidFilter.
        """
        return self._listing.page(page_size, page_token, prefix, where)

    def export(
        self,
        where: str = "",
        *,
        parts: Sequence[ExportedPart] = ("payload", "masks", "vectors"),
        growth_limit: int = GROWTH_LIMIT,
    ) -> Export:
        """All images, or those that satisfy a filter, as of the moment of this call, in the order of ids,
        while writes go on; every record's checksum is compared.

        parts: of payload, masks, vectors and pixels; what is left out is {}, empty masks, (0, d) and None.
        growth_limit: bytes by which the catalog's file may grow until the export ends with
        FailedPrecondition, for what writes free meanwhile cannot be used again (docs/durability.md).
        Close it, or use it as a context manager, unless it is read to its end.
        Raises InvalidFilter, InvalidRequest; when read, DataLoss (a damaged record), FailedPrecondition.
        """
        return self._export(where, parts, growth_limit)

    def image_ids(self) -> Iterable[str]:
        """All ids in their order, read in pages of 1,000, so that no transaction stays open meanwhile."""
        return self._listing.ids()

    def pixels(self, image_id: str) -> bytes | None:
        """What the collection keeps of the picture (encoded bytes). Raises ImageNotFound, DataLoss."""
        return self._reads.pixels(image_id)

    def candidates(
        self,
        numbers: Sequence[int],
        *,
        compared_with: Sequence[NDArray[np.float32]] | None = None,
        images_compared_with: Sequence[NDArray[np.float32]] = (),
        labels: bool = False,
    ) -> Candidates:
        """In the order asked; images that are gone are left out, and so are, now and in later searches, those
        whose record is damaged.

        An image that was replaced since its number was found comes as it is now, under its new
        number, once. compared_with: queries (d,) whose inner products with all vectors are taken where
        the vectors lie in LMDB's memory, and handed on instead of copies of them; images_compared_with:
        beside those, queries (d,) for the images' own vectors alone. None: the vectors are copied, as
        slices of one array. labels: whether those of the entities are read too.
        """
        return self._reads.candidates(
            numbers, compared_with=compared_with, images_compared_with=images_compared_with, labels=labels
        )

    def sample_numbers(self, count: int, seed: int) -> NDArray[np.int64]:
        """A seeded sample, without repetition, of live image numbers: all when there are no more."""
        return self._reads.sample_numbers(count, seed)

    # search: exact, thread-safe, beside writes

    def load(self) -> None:
        """Builds the indexes now, so that the first search need not."""
        self._arms.current()

    def seal(
        self,
        *,
        progress: Callable[[float], None] | None = None,
        check: Callable[[], None] | None = None,
        wait: bool = True,
    ) -> None:
        """Moves all rows that are searched in memory into index segments, merged until few are left.

        progress: called with 0 to 1. check: called often; what it raises ends the work, and what was
        published before stays. wait: until it is done. Raises ReadOnly, StorageFull, Cancelled.
        """
        self._ordered(compact=False, progress=progress, check=check, wait=wait)

    def compact(
        self,
        *,
        progress: Callable[[float], None] | None = None,
        check: Callable[[], None] | None = None,
        wait: bool = True,
        merge: bool = True,
    ) -> None:
        """As `seal`; afterwards no segment has a row of a deleted image, and there are as few as can be; or,
        without `merge`, only those that have such rows are written anew, and nothing is sealed."""
        self._ordered(compact=True, progress=progress, check=check, wait=wait, merge=merge)

    def _ordered(self, **order: Any) -> None:
        if self._upkeep is None:
            raise ReadOnly(f"collection '{self._spec.name}' is open for reading")
        self._upkeep.order(self._arms, **order)

    def matching(self, where: str) -> Matching:
        """What satisfies a filter (docs/filters.md) now, all of it when it is blank.

        An image whose record had to be read and is damaged is left out, also of later searches.
        Raises InvalidFilter.
        """
        return self._filtering.matching(where)

    def count(self, where: str = "") -> MatchCount:
        """How many images and entities satisfy a filter, exactly. Raises as `matching`."""
        return self._filtering.matching(where).count

    def search(self, vector: NDArray[np.float32], k: int, matching: Matching | None = None) -> Neighbours:
        """Entity arm. vector: (d,) float32, finite; similarities are cosines when it has unit length.

        matching: only what it lets through, of the view that it was made for, which is the one searched.
        Fewer than k when there are fewer. Raises InvalidRequest, ModelUnavailable (no FAISS).
        """
        checked = self._checked_query(vector, k)
        ids, similarities = self._arms.search("entities", checked, k, matching)
        return Neighbours(image_numbers(ids), ordinals(ids), similarities)

    def search_images(
        self, vector: NDArray[np.float32], k: int, matching: Matching | None = None
    ) -> Neighbours:
        """Global arm, as `search`."""
        checked = self._checked_query(vector, k)
        ids, similarities = self._arms.search("images", checked, k, matching)
        return Neighbours(image_numbers(ids), np.zeros_like(ids), similarities)

    def _checked_query(self, vector: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        if k < 1:
            raise InvalidRequest(f"k is {k}; it must be at least 1", field="k")
        return check_query_vector(vector, self._spec.embedder.dimension)
