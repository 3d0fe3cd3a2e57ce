"""The client for ordinary code: each method waits for its answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import grpc

from regionsearch.client import requests, responses, search_requests, search_responses
from regionsearch.client.answers import (
    Answer,
    CollectionInfo,
    DeleteReport,
    Hit,
    ImageSummary,
    PixelsKept,
    ServerInfo,
    StoredImage,
    StreamReport,
    UpsertReport,
)
from regionsearch.client.channel import (
    DEFAULT_MESSAGE_BYTES,
    DEFAULT_TIMEOUT_SECONDS,
    Stubs,
    channel_options,
)
from regionsearch.client.failures import error_from
from regionsearch.client.many_queries import ManyQueries
from regionsearch.client.pictures import Picture
from regionsearch.client.plain_values import seconds_of
from regionsearch.client.query import Query, QueryFields, query_of
from regionsearch.client.remembering import Remembering
from regionsearch.errors import DeadlineExceeded, InvalidRequest, RegionSearchError, Unavailable
from regionsearch.v1 import operations_pb2


class Client:
    """A connection to a RegionSearch server at `HOST:PORT`. Thread-safe; close it, or use `with`.

    timeout: seconds that each call may take; methods take another one. None waits for ever.
    max_message_bytes: of one message, either way; more than the server's own limit is of no use.

    Every method raises the errors of `regionsearch.errors` as the server raised them, Unavailable when
    it cannot be reached and DeadlineExceeded after the timeout. Reads are tried up to four times when
    the server is unavailable, writes once.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
        max_message_bytes: int = DEFAULT_MESSAGE_BYTES,
    ) -> None:
        self.address = address
        self._timeout = seconds_of(timeout)
        self._channel = grpc.insecure_channel(address, options=channel_options(max_message_bytes))
        self._stubs = Stubs(self._channel)

    # collections

    def create_collection(
        self,
        name: str,
        *,
        embedder: str | None = None,
        segmenter: str | None = None,
        pixels: PixelsKept | None = None,
        entity_limit: int | None = None,
        timeout: float | None = None,
    ) -> CollectionInfo:
        """Creates an empty collection; what is not given is the server's default (`compact` models,
        thumbnails, 32 entities an image). Raises CollectionExists, ModelNotFound, ModelUnavailable."""
        request = requests.create_collection(name, embedder, segmenter, pixels, entity_limit)
        response = self._call(self._stubs.collections.CreateCollection, request, timeout)
        return responses.collection_info(response.collection)

    def get_collection(self, name: str, *, timeout: float | None = None) -> CollectionInfo:
        """Raises CollectionNotFound."""
        request = requests.get_collection(name)
        response = self._call(self._stubs.collections.GetCollection, request, timeout)
        return responses.collection_info(response.collection)

    def list_collections(
        self, *, page_size: int = 100, timeout: float | None = None
    ) -> Iterator[CollectionInfo]:
        """All collections in the order of their names, fetched page by page as they are asked for."""
        request = requests.list_collections(page_size)
        while True:
            response = self._call(self._stubs.collections.ListCollections, request, timeout)
            yield from map(responses.collection_info, response.collections)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def delete_collection(self, name: str, *, timeout: float | None = None) -> None:
        """Deletes it with all its images. Raises CollectionNotFound."""
        request = requests.delete_collection(name)
        self._call(self._stubs.collections.DeleteCollection, request, timeout)

    # images

    def upsert(
        self,
        collection: str,
        images: Iterable[Picture],
        *,
        ids: Iterable[str | None] | None = None,
        payloads: Iterable[Mapping[str, Any] | None] | None = None,
        timeout: float | None = None,
    ) -> UpsertReport:
        """Stores pictures in batches of 8 and says what became of each; returns when all are on disk.

        ids, payloads: one for each image. Without an id the sha256 of the encoded bytes serves.
        Files and bytes are sent as they are; PIL images and arrays as lossless PNG. timeout: of a batch.
        A picture that cannot be taken is among the report's failures; the others are stored.
        """
        batches = requests.upload_batches(collection, requests.uploads(images, ids, payloads))
        return responses.upsert_report(
            self._call(self._stubs.images.UpsertImages, batch, timeout) for batch in batches
        )

    def upsert_stream(
        self,
        collection: str,
        images: Iterable[Picture],
        *,
        ids: Iterable[str | None] | None = None,
        payloads: Iterable[Mapping[str, Any] | None] | None = None,
        timeout: float | None = None,
    ) -> StreamReport:
        """Stores any number of pictures in one call, no faster than the server takes them, and counts
        them. timeout: of the whole stream; None waits for ever."""
        seconds = seconds_of(timeout)
        uploads = Remembering(requests.upload_stream(collection, requests.uploads(images, ids, payloads)))
        try:
            response = self._stubs.images.UpsertImageStream(uploads, timeout=seconds)
        except grpc.RpcError as error:
            if uploads.error is not None:
                # The stream ended because a picture of ours could not be read.
                raise uploads.error from None
            raise error_from(error) from error
        return responses.stream_report(response)

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
        self, collection: str, *, prefix: str = "", page_size: int = 100, timeout: float | None = None
    ) -> Iterator[ImageSummary]:
        """All images whose ids start so, in the order of ids, fetched page by page as they are asked for."""
        request = requests.list_images(collection, prefix, page_size)
        while True:
            response = self._call(self._stubs.images.ListImages, request, timeout)
            yield from map(responses.image_summary, response.images)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def delete_images(
        self, collection: str, image_ids: Sequence[str], *, timeout: float | None = None
    ) -> DeleteReport:
        """Deletes up to 1,000 images; ids that do not exist are counted."""
        request = requests.delete_images(collection, image_ids)
        return responses.delete_report(self._call(self._stubs.images.DeleteImages, request, timeout))

    # search

    def search(
        self,
        collection: str,
        query: Query | None = None,
        *,
        timeout: float | None = None,
        **said: Unpack[QueryFields],
    ) -> Answer:
        """The best hits of a collection, and the entity that matched in each: `query`, or its fields by name;
        named ones beside a query take the place of its own. Query says what each field means.

        timeout: seconds. Raises InvalidRequest, InvalidRegion, InvalidImage, NotAccepted, CollectionNotFound,
        ImageNotFound, AnswerTooLarge; FailedPrecondition for a page of what has changed since, or with
        rerank where pixels are missing.
        """
        request = search_requests.search(collection, query_of(query, **said))
        return search_responses.answer(self._call(self._stubs.search.Search, request, timeout))

    def search_pages(
        self,
        collection: str,
        query: Query | None = None,
        *,
        timeout: float | None = None,
        **said: Unpack[QueryFields],
    ) -> Iterator[Answer]:
        """The answers with the first, the next and further hits, `limit` at a time, asked for as they are
        needed, until there are no more. timeout: seconds, of each page.

        Raises what `search` raises; FailedPrecondition when the collection changes meanwhile.
        """
        request = search_requests.search(collection, query_of(query, **said))
        while True:
            page = search_responses.answer(self._call(self._stubs.search.Search, request, timeout))
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def search_all(
        self,
        collection: str,
        query: Query | None = None,
        *,
        timeout: float | None = None,
        **said: Unpack[QueryFields],
    ) -> Iterator[Hit]:
        """The hits of `search_pages`, one by one."""
        for page in self.search_pages(collection, query, timeout=timeout, **said):
            yield from page.hits

    def search_many(
        self, collection: str, queries: Iterable[Query], *, timeout: float | None = None
    ) -> list[Answer | RegionSearchError]:
        """One answer, or one error, for each query, in their order: a query that is refused does not disturb
        the others. Asked in calls of at most 16, or as many as the server takes. timeout: seconds, of each
        call.

        Raises what concerns a call as a whole: CollectionNotFound, Overloaded, DeadlineExceeded, Unavailable.
        """
        many = ManyQueries(collection, queries)
        while (request := many.next_request()) is not None:
            try:
                response = self._call(self._stubs.search.BatchSearch, request, timeout)
            except InvalidRequest as error:
                many.take_refusal(error)
            else:
                many.take(response)
        return many.results()

    # the server

    def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """Version, models and limits of the server."""
        request = operations_pb2.GetServerInfoRequest()
        return responses.server_info(self._call(self._stubs.server.GetServerInfo, request, timeout))

    def wait_until_ready(self, timeout: float = 30.0) -> ServerInfo:
        """Waits until the server answers, at most `timeout` seconds. Raises Unavailable after that."""
        request = operations_pb2.GetServerInfoRequest()
        try:
            response = self._call(self._stubs.server.GetServerInfo, request, timeout, wait_for_ready=True)
        except DeadlineExceeded as error:
            raise Unavailable(f"no server answered at {self.address} within {timeout:g} s") from error
        return responses.server_info(response)

    def close(self) -> None:
        """Ends the connection; calls in flight are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, method: Any, request: Any, timeout: float | None, *, wait_for_ready: bool = False) -> Any:
        try:
            return method(
                request,
                timeout=self._timeout if timeout is None else seconds_of(timeout),
                wait_for_ready=wait_for_ready,
            )
        except grpc.RpcError as error:
            raise error_from(error) from error
