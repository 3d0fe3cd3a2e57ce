"""Images and finished records, for ordinary code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from regionsearch.client import collection_responses, requests, responses
from regionsearch.client.answers import (
    DeleteReport,
    ImageSummary,
    StoredImage,
    StreamReport,
    UpsertReport,
)
from regionsearch.client.blocking_calls import BlockingCalls
from regionsearch.client.pictures import Picture
from regionsearch.client.records import Record, record_messages
from regionsearch.client.remembering import Remembering
from regionsearch.client.stored_answers import ImageCount, Operation, RecordStreamReport
from regionsearch.contract_names import Durability
from regionsearch.errors import InvalidImage


class ImageCalls(BlockingCalls):
    """The methods of `Client` for images.

    What writes have in common. idempotency_key: 1 to 128 bytes; the same call again within 24 hours is
    answered as the first one was and changes nothing. durability: `synced`, acknowledged when it is on disk,
    or `buffered`, at most 200 ms before that. if_version: the version that an image must have now (0: there
    is none).
    """

    def upsert(
        self,
        collection: str,
        images: Iterable[Picture],
        *,
        ids: Iterable[str | None] | None = None,
        payloads: Iterable[Mapping[str, Any] | None] | None = None,
        if_versions: Iterable[int | None] | None = None,
        idempotency_key: str = "",
        durability: Durability = "synced",
        timeout: float | None = None,
    ) -> UpsertReport:
        """Stores pictures in batches of 8 and says what became of each; returns when all are on disk.

        ids, payloads, if_versions: one for each image. Without an id the sha256 of the encoded bytes serves.
        Files and bytes are sent as they are; PIL images and arrays as lossless PNG. timeout: of a batch.
        A picture that cannot be taken, or a file that cannot be read, is among the report's failures; the
        others are stored.
        """
        unreadable: dict[int, InvalidImage] = {}
        uploads = requests.uploads(images, ids, payloads, if_versions, unreadable)
        batches = requests.upload_batches(collection, uploads, idempotency_key, durability)
        answers = (self._call(self._stubs.images.UpsertImages, batch, timeout) for batch in batches)
        return responses.upsert_report(answers, unreadable)

    def upsert_stream(
        self,
        collection: str,
        images: Iterable[Picture],
        *,
        ids: Iterable[str | None] | None = None,
        payloads: Iterable[Mapping[str, Any] | None] | None = None,
        if_versions: Iterable[int | None] | None = None,
        timeout: float | None = None,
    ) -> StreamReport:
        """Stores any number of pictures in one call, no faster than the server takes them, and counts
        them. timeout: of the whole stream; None waits for ever."""
        unreadable: dict[int, InvalidImage] = {}
        uploads = requests.uploads(images, ids, payloads, if_versions, unreadable)
        messages = Remembering(requests.upload_stream(collection, uploads))
        response = self._send(self._stubs.images.UpsertImageStream, messages, timeout)
        return responses.stream_report(response, unreadable)

    def upsert_records(
        self,
        collection: str,
        records: Iterable[Record],
        *,
        idempotency_key: str = "",
        durability: Durability = "synced",
        timeout: float | None = None,
    ) -> UpsertReport:
        """Stores finished records in batches of 256, each all of it or nothing; the report has no failures.

        timeout: of a batch. Raises InvalidRecord, InvalidRegion or InvalidImage, naming the record and its
        field, and VersionMismatch; batches before the one that was refused stay stored.
        """
        batches = record_messages(
            collection,
            records,
            idempotency_key,
            durability,
            repeat_name=True,
            most_bytes=self._record_bytes,
        )
        return responses.records_report(
            self._call(self._stubs.images.UpsertRecords, batch, timeout) for batch in batches
        )

    def upsert_record_stream(
        self,
        collection: str,
        records: Iterable[Record],
        *,
        durability: Durability = "synced",
        timeout: float | None = None,
    ) -> RecordStreamReport:
        """The same in one call, for very many records, no faster than the server takes them.

        timeout: of the whole stream; None waits for ever. Raises what `upsert_records` does; the error's
        `metadata["stored_messages"]` counts the batches before it.
        """
        messages = Remembering(
            record_messages(
                collection, records, "", durability, repeat_name=False, most_bytes=self._record_bytes
            )
        )
        response = self._send(self._stubs.images.UpsertRecordStream, messages, timeout)
        return responses.record_stream_report(response)

    def get_image(
        self,
        collection: str,
        image_id: str,
        *,
        entities: bool = False,
        masks: bool = False,
        vectors: bool = False,
        pixels: bool = False,
        timeout: float | None = None,
    ) -> StoredImage:
        """One image's record, with what is asked for; masks need entities.
        Raises CollectionNotFound, ImageNotFound."""
        request = requests.get_image(
            collection, image_id, entities=entities, masks=masks, vectors=vectors, pixels=pixels
        )
        response = self._call(self._stubs.images.GetImage, request, timeout)
        return responses.stored_image(response.image)

    def list_images(
        self,
        collection: str,
        *,
        prefix: str = "",
        where: str = "",
        page_size: int = 100,
        timeout: float | None = None,
    ) -> Iterator[ImageSummary]:
        """All images whose ids start so and that satisfy the filter, in the order of ids, fetched page by
        page as they are asked for. Raises CollectionNotFound, InvalidFilter."""
        request = requests.list_images(collection, prefix, where, page_size)
        for page in self._pages(self._stubs.images.ListImages, request, timeout):
            for image in page.images:
                yield responses.image_summary(image)

    def list_records(
        self,
        collection: str,
        *,
        prefix: str = "",
        where: str = "",
        payload: bool = True,
        entities: bool = False,
        masks: bool = False,
        vectors: bool = False,
        pixels: bool = False,
        page_size: int = 100,
        timeout: float | None = None,
    ) -> Iterator[StoredImage]:
        """As `list_images`, with what is asked for of each; at least one thing is. Masks need entities."""
        request = requests.list_images(
            collection,
            prefix,
            where,
            page_size,
            entities=entities,
            masks=masks,
            vectors=vectors,
            pixels=pixels,
            payload=payload,
        )
        requests.check_anything_asked(request)
        for page in self._pages(self._stubs.images.ListImages, request, timeout):
            for image in page.records:
                yield responses.stored_image(image)

    def export_images(
        self,
        collection: str,
        *,
        where: str = "",
        payload: bool = True,
        entities: bool = False,
        masks: bool = False,
        vectors: bool = False,
        pixels: bool = False,
        timeout: float | None = None,
    ) -> Iterator[StoredImage]:
        """All images that satisfy the filter, in the order of ids, as of the moment of the call, with what is
        asked for; masks need entities. timeout: seconds, of all of it; None: none.
        Raises CollectionNotFound, InvalidFilter, DataLoss."""
        request = requests.export_images(
            collection,
            where,
            entities=entities,
            masks=masks,
            vectors=vectors,
            pixels=pixels,
            payload=payload,
        )
        for message in self._receive(self._stubs.images.ExportImages, request, timeout):
            for image in message.images:
                yield responses.stored_image(image)

    def count_images(self, collection: str, where: str = "", *, timeout: float | None = None) -> ImageCount:
        """Images and entities that satisfy the filter. Raises CollectionNotFound, InvalidFilter."""
        request = requests.count_images(collection, where)
        return responses.image_count(self._call(self._stubs.images.CountImages, request, timeout))

    def delete_images(
        self,
        collection: str,
        image_ids: Sequence[str],
        *,
        if_versions: Mapping[str, int] | None = None,
        idempotency_key: str = "",
        durability: Durability = "synced",
        timeout: float | None = None,
    ) -> DeleteReport:
        """Deletes up to 1,000 images; ids that do not exist are counted.

        if_versions: by image id; unless all of them fit, VersionMismatch, and nothing is deleted.
        """
        request = requests.delete_images(collection, image_ids, if_versions, idempotency_key, durability)
        return responses.delete_report(self._call(self._stubs.images.DeleteImages, request, timeout))

    def delete_matching(
        self, collection: str, where: str, *, idempotency_key: str = "", timeout: float | None = None
    ) -> Operation:
        """Begins to delete every image that satisfies the filter, which cannot be empty.
        Raises CollectionNotFound, InvalidFilter."""
        request = requests.delete_matching(collection, where, idempotency_key)
        response = self._call(self._stubs.images.DeleteMatching, request, timeout)
        return collection_responses.operation(response.operation)

    def update_payload(
        self,
        collection: str,
        image_id: str,
        payload: Mapping[str, Any],
        *,
        merge: bool = False,
        if_version: int | None = None,
        idempotency_key: str = "",
        durability: Durability = "synced",
        timeout: float | None = None,
    ) -> int:
        """Puts the payload in the place of the image's, or merges it into that (RFC 7396: None takes a field
        away). No model runs. Returns the image's version from then on (0 when buffered).

        Raises CollectionNotFound, ImageNotFound, InvalidRecord, VersionMismatch.
        """
        request = requests.update_payload(
            collection, image_id, payload, merge, if_version, idempotency_key, durability
        )
        response = self._call(self._stubs.images.UpdatePayload, request, timeout)
        return int(response.version)

    def purge_images(
        self,
        collection: str,
        image_ids: Sequence[str],
        *,
        snapshots: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Operation:
        """Begins to delete up to 1,000 images and every trace of them, in the collection's files and in the
        named snapshots. Raises CollectionNotFound, SnapshotNotFound.

        The operation that has ended says whether it is `complete`: not when a reader of an older state, such
        as an export, went on for more than 30 s. Purge again then.
        """
        request = requests.purge_images(collection, image_ids, snapshots)
        response = self._call(self._stubs.images.PurgeImages, request, timeout)
        return collection_responses.operation(response.operation)
