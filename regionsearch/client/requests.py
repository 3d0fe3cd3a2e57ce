"""From what a caller says to the messages of the contract. Pure functions, shared by both clients."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from regionsearch.client.answers import PixelsKept
from regionsearch.client.pictures import Picture, encoded
from regionsearch.client.plain_values import text_of, text_or_none, unsigned
from regionsearch.errors import InvalidRecord, InvalidRequest
from regionsearch.v1 import collections_pb2, images_pb2

BATCH_IMAGES = 8
BATCH_BYTES = 24 * 1024 * 1024
"""Of the pictures in one UpsertImages call, unless a single one is larger."""

PIXELS_KEPT: dict[PixelsKept, collections_pb2.PixelsKept] = {
    "none": collections_pb2.PIXELS_KEPT_NONE,
    "thumbnail": collections_pb2.PIXELS_KEPT_THUMBNAIL,
    "original": collections_pb2.PIXELS_KEPT_ORIGINAL,
}
_MISSING = object()


def create_collection(
    name: str,
    embedder: str | None,
    segmenter: str | None,
    pixels: PixelsKept | None,
    entity_limit: int | None,
) -> collections_pb2.CreateCollectionRequest:
    if pixels is not None and pixels not in PIXELS_KEPT:
        raise InvalidRequest(f"pixels is {pixels!r}; it can be {', '.join(PIXELS_KEPT)}", field="pixels")
    return collections_pb2.CreateCollectionRequest(
        name=text_of(name, "name"),
        embedder=text_of(embedder or "", "embedder"),
        segmenter=text_of(segmenter or "", "segmenter"),
        pixels=PIXELS_KEPT[pixels] if pixels else collections_pb2.PIXELS_KEPT_UNSPECIFIED,
        entity_limit=None if entity_limit is None else unsigned(entity_limit, "entity_limit"),
    )


def get_collection(name: str) -> collections_pb2.GetCollectionRequest:
    return collections_pb2.GetCollectionRequest(name=text_of(name, "name"))


def list_collections(page_size: int) -> collections_pb2.ListCollectionsRequest:
    return collections_pb2.ListCollectionsRequest(page_size=unsigned(page_size, "page_size"))


def delete_collection(name: str) -> collections_pb2.DeleteCollectionRequest:
    return collections_pb2.DeleteCollectionRequest(name=text_of(name, "name"))


def get_image(
    collection: str, image_id: str, *, entities: bool, masks: bool, vectors: bool, pixels: bool
) -> images_pb2.GetImageRequest:
    return images_pb2.GetImageRequest(
        collection=text_of(collection, "collection"),
        image_id=text_of(image_id, "image_id"),
        with_entities=entities,
        with_masks=masks,
        with_vectors=vectors,
        with_pixels=pixels,
    )


def list_images(collection: str, prefix: str, page_size: int) -> images_pb2.ListImagesRequest:
    return images_pb2.ListImagesRequest(
        collection=text_of(collection, "collection"),
        prefix=text_of(prefix, "prefix"),
        page_size=unsigned(page_size, "page_size"),
    )


def delete_images(collection: str, image_ids: Sequence[str]) -> images_pb2.DeleteImagesRequest:
    if isinstance(image_ids, str):
        raise InvalidRequest("image_ids is one text; it must be a list of ids", field="image_ids")
    return images_pb2.DeleteImagesRequest(
        collection=text_of(collection, "collection"),
        image_ids=[text_of(name, f"image_ids[{number}]") for number, name in enumerate(image_ids)],
    )


def uploads(
    images: Iterable[Picture],
    ids: Iterable[str | None] | None,
    payloads: Iterable[Mapping[str, Any] | None] | None,
) -> Iterator[images_pb2.ImageUpload]:
    """One message an image, made as they are asked for.

    Raises InvalidRequest when there are more or fewer ids or payloads than images.
    """
    together = [images, *(others for others in (ids, payloads) if others is not None)]
    for row in zip_longest(*together, fillvalue=_MISSING):
        if any(value is _MISSING for value in row):
            raise InvalidRequest("there are not as many ids or payloads as images", field="images")
        rest = list(row[1:])
        image_id: Any = rest.pop(0) if ids is not None else None
        payload: Any = rest.pop(0) if payloads is not None else None
        picture: Any = row[0]
        yield images_pb2.ImageUpload(
            image_id=text_or_none(image_id, "image_id"),
            image=encoded(picture),
            payload_json="" if payload is None else payload_json(payload),
        )


def upload_batches(
    collection: str, messages: Iterable[images_pb2.ImageUpload]
) -> Iterator[images_pb2.UpsertImagesRequest]:
    """Requests of at most 8 pictures and, with more than one, 24 MiB."""
    text_of(collection, "collection")
    batch: list[images_pb2.ImageUpload] = []
    held = 0
    for message in messages:
        if batch and (len(batch) == BATCH_IMAGES or held + len(message.image) > BATCH_BYTES):
            yield images_pb2.UpsertImagesRequest(collection=collection, images=batch)
            batch, held = [], 0
        batch.append(message)
        held += len(message.image)
    if batch:
        yield images_pb2.UpsertImagesRequest(collection=collection, images=batch)


def upload_stream(
    collection: str, messages: Iterable[images_pb2.ImageUpload]
) -> Iterator[images_pb2.UpsertImageStreamRequest]:
    name = text_of(collection, "collection")
    for message in messages:
        yield images_pb2.UpsertImageStreamRequest(collection=name, image=message)
        name = ""


def payload_json(payload: Mapping[str, Any]) -> str:
    """Raises InvalidRecord for what JSON cannot say."""
    try:
        text = json.dumps(dict(payload), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRecord(f"the payload is not JSON: {error}", field="payload_json") from error
    return text
