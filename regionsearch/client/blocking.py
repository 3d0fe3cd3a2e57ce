"""The client for ordinary code: each method waits for its answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from regionsearch.client import requests, responses
from regionsearch.client.answers import (
    Answer,
    CollectionInfo,
    DeleteReport,
    ImageSummary,
    PixelsKept,
    RerankMethod,
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
from regionsearch.client.pictures import Picture
from regionsearch.client.plain_values import seconds_of
from regionsearch.client.remembering import Remembering
from regionsearch.client.requests import BoxLike, MaskLike, PointLike, PolygonLike
from regionsearch.errors import DeadlineExceeded, Unavailable
from regionsearch.regions import RegionPrompt
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
        *,
        image: Picture | None = None,
        image_id: str | None = None,
        entity: int | None = None,
        box: BoxLike | None = None,
        points: Sequence[PointLike] = (),
        mask: MaskLike | None = None,
        polygon: PolygonLike | None = None,
        region: RegionPrompt | None = None,
        normalised: bool = False,
        text: str | None = None,
        vector: NDArray[np.floating] | Sequence[float] | None = None,
        limit: int = 10,
        weights: Mapping[str, float] | None = None,
        include_self: bool = False,
        rerank: RerankMethod | None = None,
        rerank_top: int | None = None,
        rerank_weight: float | None = None,
        masks: bool = True,
        payload: bool = True,
        parts: bool = True,
        timeout: float | None = None,
    ) -> Answer:
        """The `limit` best images of a collection, and the entity that matched in each.

        What is looked for: a picture (`image`) or an indexed one (`image_id`), or a ready `vector`; a
        `text`, alone or beside a picture.
        Where in `image`: `points`, and at most one of `box`, `mask` and `polygon`, together one region;
        pixels of the upright image, or with `normalised` fractions of its width and height. Or all of
        it as one `region`.
        Where in `image_id`: one of its entities, by index.
        weights: of the parts of the score by name. include_self: image_id may be among its own hits.
        rerank: `pairwise` reads the best `rerank_top` (1 to 256, 32 unless said) again, each with the
        query, from the pixels that the collection keeps; `rerank_weight` is what that counts (0.5).
        `pairwise_instructed` reads them with the text as well, and needs a text beside a picture.
        masks, payload, parts: whether the answer has them.

        Raises InvalidRequest, InvalidRegion, InvalidImage, NotAccepted, CollectionNotFound, ImageNotFound;
        with rerank FailedPrecondition where pixels are missing.
        """
        request = requests.search(
            collection,
            image=image,
            image_id=image_id,
            entity=entity,
            box=box,
            points=points,
            mask=mask,
            polygon=polygon,
            region=region,
            normalised=normalised,
            text=text,
            vector=vector,
            limit=limit,
            weights=weights,
            include_self=include_self,
            rerank=rerank,
            rerank_top=rerank_top,
            rerank_weight=rerank_weight,
            masks=masks,
            payload=payload,
            parts=parts,
        )
        return responses.answer(self._call(self._stubs.search.Search, request, timeout))

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
