"""Lists and exports of images, with as much of each as was asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import grpc

from regionsearch.collection import Collection, ImageListing, ImageRecord
from regionsearch.collection.export import EXPORTED_PARTS, ExportedPart
from regionsearch.collection.page_tokens import page_token
from regionsearch.config import Limits
from regionsearch.errors import AnswerTooLarge, ImageNotFound
from regionsearch.serving.calls import check_alive
from regionsearch.serving.image_messages import Selection, listing_to_message, record_to_message, selection_of
from regionsearch.serving.required import page_size_of
from regionsearch.v1 import images_pb2 as pb

EXPORTED_BYTES = 1_000_000
"""Of the records in one message of an export: enough that messages cost little, few enough that a slow reader
makes the server hold little."""
UNREAD_SECONDS = 60.0
"""How long a message of an export may lie unread."""
FRAME_BYTES = 16
"""Tag and length around one record, at most."""
TOKEN_BYTES = 2_000
"""Of everything in a page beside its records: an id of 480 bytes makes a token of 660."""


def listed(
    collection: Collection, request: pb.ListImagesRequest, limits: Limits, context: grpc.ServicerContext
) -> pb.ListImagesResponse:
    """A page. With records it ends where the next one would not fit into a message.

    Raises AnswerTooLarge for a record that is larger than a message by itself.
    """
    size = page_size_of(request.page_size if request.HasField("page_size") else None)
    selection = selection_of(request)
    listings, token = collection.list(size, request.page_token, request.prefix, request.filter)
    if not selection.anything:
        return pb.ListImagesResponse(images=map(listing_to_message, listings), next_page_token=token)
    response = pb.ListImagesResponse(next_page_token=token)
    room = limits.message_bytes - TOKEN_BYTES
    for number, listing in enumerate(listings):
        check_alive(context)
        record = _record(collection, listing, selection)
        if record is None:
            continue  # deleted since the page was listed
        more = record.ByteSize() + FRAME_BYTES
        if more > room:
            if not response.records:
                raise _too_large(listing.image_id, more, limits)
            before = listings[number - 1].image_id
            response.next_page_token = page_token(
                collection.spec.name, request.prefix, before, request.filter
            )
            break
        room -= more
        response.records.append(record)
    return response


def export(
    collection: Collection, request: pb.ExportImagesRequest, limits: Limits, context: grpc.ServicerContext
) -> Iterator[pb.ExportImagesResponse]:
    """Messages of about a megabyte. A reader that takes none for UNREAD_SECONDS ends it, since what writes
    free cannot be used again as long as an export holds its moment.

    Raises InvalidFilter, DataLoss, FailedPrecondition when it held its moment for too long, and
    AnswerTooLarge as `listed` does.
    """
    selection = selection_of(request)
    parts: list[ExportedPart] = [part for part in EXPORTED_PARTS if getattr(selection, part)]
    with collection.export(request.filter, parts=parts) as records:
        for batch in _batches(records, selection, limits):
            check_alive(context)
            impatience = threading.Timer(UNREAD_SECONDS, context.cancel)
            impatience.daemon = True
            impatience.start()
            try:
                yield batch
            finally:
                impatience.cancel()


def _batches(
    records: Iterable[ImageRecord], selection: Selection, limits: Limits
) -> Iterator[pb.ExportImagesResponse]:
    batch = pb.ExportImagesResponse()
    held = 0
    most = min(EXPORTED_BYTES, limits.message_bytes)
    for record in records:
        message = record_to_message(record, selection)
        size = message.ByteSize() + FRAME_BYTES
        if size > limits.message_bytes:
            raise _too_large(record.image_id, size, limits)
        if batch.images and held + size > most:
            yield batch
            batch, held = pb.ExportImagesResponse(), 0
        batch.images.append(message)
        held += size
    if batch.images:
        yield batch


def _record(collection: Collection, listing: ImageListing, selection: Selection) -> pb.ImageRecord | None:
    try:
        record = collection.get(listing.image_id, pixels=selection.pixels)
    except ImageNotFound:
        return None
    return record_to_message(record, selection)


def _too_large(image_id: str, size: int, limits: Limits) -> AnswerTooLarge:
    return AnswerTooLarge(
        f"image {image_id!r:.300} has {size} bytes with what was asked for; a message has at most "
        f"{limits.message_bytes} (limits.message_bytes): ask for less of it"
    )
