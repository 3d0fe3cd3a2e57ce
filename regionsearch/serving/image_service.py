"""ImageService."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from regionsearch.collection import ImageListing, ImageRecord
from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest
from regionsearch.protobuf_shapes import mask_to_message, vector_to_message
from regionsearch.serving.answer_messages import LABEL_SOURCES, payload_to_json
from regionsearch.serving.backend import Backend
from regionsearch.serving.required import collection_of, naming_image, page_size_of, required
from regionsearch.serving.uploads import bring_in
from regionsearch.v1 import images_pb2 as pb
from regionsearch.v1 import images_pb2_grpc, types_pb2

REPORTED_FAILURES = 1_000
"""Failures that the answer to a stream names; the others are counted."""
DELETED_AT_ONCE = 1_000


class ImageServicer(images_pb2_grpc.ImageServiceServicer):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def UpsertImages(  # noqa: N802
        self, request: pb.UpsertImagesRequest, context: grpc.ServicerContext
    ) -> pb.UpsertImagesResponse:
        collection = collection_of(self._backend, request.collection)
        limit = self._backend.limits.batch_images
        if not 1 <= len(request.images) <= limit:
            raise InvalidRequest(
                f"the call has {len(request.images)} images; it can have 1 to {limit} (limits.batch_images)",
                field="images",
            )
        response = pb.UpsertImagesResponse()
        for outcome in bring_in(self._backend, collection, request.images, context):
            response.upserted.extend(outcome.upserted)
            response.failures.extend(outcome.failures)
            response.entities += outcome.entities
        response.failures.sort(key=lambda failure: failure.position)
        return response

    def UpsertImageStream(  # noqa: N802
        self, requests: Iterator[pb.UpsertImageStreamRequest], context: grpc.ServicerContext
    ) -> pb.UpsertImageStreamResponse:
        first = next(requests, None)
        if first is None:
            raise InvalidRequest("the stream has no message", field="collection")
        collection = collection_of(self._backend, first.collection)
        response = pb.UpsertImageStreamResponse()
        uploads = _uploads_of(first, requests, response)
        for outcome in bring_in(self._backend, collection, uploads, context):
            created = sum(image.created for image in outcome.upserted)
            response.created += created
            response.replaced += len(outcome.upserted) - created
            response.failed += len(outcome.failures)
            response.failures.extend(outcome.failures[: REPORTED_FAILURES - len(response.failures)])
            response.entities += outcome.entities
        response.failures.sort(key=lambda failure: failure.position)
        return response

    def GetImage(  # noqa: N802
        self, request: pb.GetImageRequest, context: grpc.ServicerContext
    ) -> pb.GetImageResponse:
        collection = collection_of(self._backend, request.collection)
        image_id = required(request.image_id, "image_id")
        if request.with_masks and not request.with_entities:
            raise InvalidRequest("with_masks needs with_entities", field="with_masks")
        if request.vector_form and not request.with_vectors:
            raise InvalidRequest("vector_form needs with_vectors", field="vector_form")
        with naming_image(image_id):
            record = collection.get(image_id, pixels=request.with_pixels)
        return pb.GetImageResponse(image=_record_to_message(record, request))

    def ListImages(  # noqa: N802
        self, request: pb.ListImagesRequest, context: grpc.ServicerContext
    ) -> pb.ListImagesResponse:
        collection = collection_of(self._backend, request.collection)
        size = page_size_of(request.page_size if request.HasField("page_size") else None)
        listings, token = collection.list(size, request.page_token, request.prefix)
        return pb.ListImagesResponse(
            images=[_listing_to_message(listing) for listing in listings], next_page_token=token
        )

    def DeleteImages(  # noqa: N802
        self, request: pb.DeleteImagesRequest, context: grpc.ServicerContext
    ) -> pb.DeleteImagesResponse:
        collection = collection_of(self._backend, request.collection)
        count = len(request.image_ids)
        if not 1 <= count <= DELETED_AT_ONCE:
            raise InvalidRequest(
                f"the call has {count} image ids; it can have 1 to {DELETED_AT_ONCE}", field="image_ids"
            )
        for number, image_id in enumerate(request.image_ids):
            required(image_id, f"image_ids[{number}]")
        deleted = collection.delete(list(request.image_ids))
        return pb.DeleteImagesResponse(deleted=deleted, missing=count - deleted)


def _uploads_of(
    first: pb.UpsertImageStreamRequest,
    rest: Iterator[pb.UpsertImageStreamRequest],
    response: pb.UpsertImageStreamResponse,
) -> Iterator[pb.ImageUpload]:
    """The stream's pictures, counted in the response as they arrive.

    Raises InvalidRequest for a message without a picture, or of another collection than the first.
    """
    message: pb.UpsertImageStreamRequest | None = first
    while message is not None:
        if not message.HasField("image"):
            raise InvalidRequest(f"message {response.received} of the stream has no image", field="image")
        if message.collection not in ("", first.collection):
            raise InvalidRequest(
                f"message {response.received} of the stream is for collection {message.collection!r:.200}, "
                f"the first was for {first.collection!r}",
                field="collection",
            )
        response.received += 1
        yield message.image
        message = next(rest, None)


def _record_to_message(record: ImageRecord, request: pb.GetImageRequest) -> pb.ImageRecord:
    message = pb.ImageRecord(
        image_id=record.image_id,
        width=record.width,
        height=record.height,
        content_hash=record.content_hash,
        payload_json=payload_to_json(record.payload),
        entity_count=len(record.entities),
        version=record.version,
        updated=_timestamp(record.updated),
        pixels=record.pixels if request.with_pixels else None,
    )
    if request.with_entities:
        for index in range(len(record.entities)):
            message.entities.append(_entity_to_message(record.entities, index, masks=request.with_masks))
    if request.with_vectors:
        message.vector.CopyFrom(vector_to_message(record.vectors[0], request.vector_form))
        for entity, vector in zip(message.entities, record.vectors[1:], strict=False):
            entity.vector.CopyFrom(vector_to_message(vector, request.vector_form))
    return message


def _entity_to_message(entities: Entities, index: int, *, masks: bool) -> types_pb2.Entity:
    x0, y0, x1, y1 = (float(value) for value in entities.boxes[index])
    message = types_pb2.Entity(
        index=index,
        box=types_pb2.Box(x0=x0, y0=y0, x1=x1, y1=y1),
        area=float(entities.areas[index]),
        objectness=float(entities.objectness[index]),
        label=entities.labels[index],
        label_source=LABEL_SOURCES[entities.label_sources[index]],
    )
    if masks:
        message.mask.CopyFrom(mask_to_message(entities.masks[index]))
    return message


def _listing_to_message(listing: ImageListing) -> pb.ImageSummary:
    return pb.ImageSummary(
        image_id=listing.image_id,
        width=listing.width,
        height=listing.height,
        content_hash=listing.content_hash,
        entity_count=listing.entities,
        version=listing.version,
        updated=_timestamp(listing.updated),
    )


def _timestamp(text: str) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromJsonString(text)
    return timestamp
