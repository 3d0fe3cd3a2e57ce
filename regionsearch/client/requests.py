"""From what a caller says to the messages of the contract. Pure functions, shared by both clients."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from regionsearch.client.pictures import Picture, encoded
from regionsearch.client.plain_values import text_of, text_or_none, truth, unsigned
from regionsearch.client.write_terms import durability_of, key_of, version_of, versions_of
from regionsearch.contract_names import Durability
from regionsearch.errors import InvalidImage, InvalidRecord, InvalidRequest
from regionsearch.v1 import images_pb2

BATCH_IMAGES = 8
BATCH_BYTES = 24 * 1024 * 1024
"""Of the pictures in one UpsertImages call, unless a single one is larger."""

_MISSING = object()


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


def list_images(
    collection: str,
    prefix: str,
    where: str,
    page_size: int,
    *,
    entities: bool = False,
    masks: bool = False,
    vectors: bool = False,
    pixels: bool = False,
    payload: bool = False,
) -> images_pb2.ListImagesRequest:
    return images_pb2.ListImagesRequest(
        collection=text_of(collection, "collection"),
        prefix=text_of(prefix, "prefix"),
        filter=text_of(where, "where"),
        page_size=unsigned(page_size, "page_size"),
        with_entities=truth(entities, "entities"),
        with_masks=truth(masks, "masks"),
        with_vectors=truth(vectors, "vectors"),
        with_pixels=truth(pixels, "pixels"),
        with_payload=truth(payload, "payload"),
    )


def check_anything_asked(request: images_pb2.ListImagesRequest) -> None:
    """Raises InvalidRequest for a list of records with nothing that a list of images would not have."""
    if not (request.with_entities or request.with_vectors or request.with_pixels or request.with_payload):
        raise InvalidRequest("nothing is asked for of the records; list_images lists them", field="payload")


def export_images(
    collection: str, where: str, *, entities: bool, masks: bool, vectors: bool, pixels: bool, payload: bool
) -> images_pb2.ExportImagesRequest:
    return images_pb2.ExportImagesRequest(
        collection=text_of(collection, "collection"),
        filter=text_of(where, "where"),
        with_entities=truth(entities, "entities"),
        with_masks=truth(masks, "masks"),
        with_vectors=truth(vectors, "vectors"),
        with_pixels=truth(pixels, "pixels"),
        with_payload=truth(payload, "payload"),
    )


def count_images(collection: str, where: str) -> images_pb2.CountImagesRequest:
    return images_pb2.CountImagesRequest(
        collection=text_of(collection, "collection"), filter=text_of(where, "where")
    )


def delete_images(
    collection: str,
    image_ids: Sequence[str],
    if_versions: Mapping[str, int] | None,
    idempotency_key: str,
    durability: Durability,
) -> images_pb2.DeleteImagesRequest:
    return images_pb2.DeleteImagesRequest(
        collection=text_of(collection, "collection"),
        image_ids=_ids(image_ids),
        if_versions=versions_of(if_versions),
        idempotency_key=key_of(idempotency_key, 0),
        durability=durability_of(durability),
    )


def delete_matching(collection: str, where: str, idempotency_key: str) -> images_pb2.DeleteMatchingRequest:
    return images_pb2.DeleteMatchingRequest(
        collection=text_of(collection, "collection"),
        filter=text_of(where, "where"),
        idempotency_key=key_of(idempotency_key, 0),
    )


def purge_images(
    collection: str, image_ids: Sequence[str], snapshots: Sequence[str]
) -> images_pb2.PurgeImagesRequest:
    if isinstance(snapshots, str):
        raise InvalidRequest("snapshots is one text; it must be a list of names", field="snapshots")
    return images_pb2.PurgeImagesRequest(
        collection=text_of(collection, "collection"),
        image_ids=_ids(image_ids),
        snapshots=[text_of(name, f"snapshots[{number}]") for number, name in enumerate(snapshots)],
    )


def update_payload(
    collection: str,
    image_id: str,
    payload: Mapping[str, Any],
    merge: bool,
    if_version: int | None,
    idempotency_key: str,
    durability: Durability,
) -> images_pb2.UpdatePayloadRequest:
    return images_pb2.UpdatePayloadRequest(
        collection=text_of(collection, "collection"),
        image_id=text_of(image_id, "image_id"),
        payload_json=payload_json(payload),
        merge=truth(merge, "merge"),
        if_version=version_of(if_version, "if_version"),
        idempotency_key=key_of(idempotency_key, 0),
        durability=durability_of(durability),
    )


def _ids(image_ids: Sequence[str]) -> list[str]:
    if isinstance(image_ids, str):
        raise InvalidRequest("image_ids is one text; it must be a list of ids", field="image_ids")
    return [text_of(name, f"image_ids[{number}]") for number, name in enumerate(image_ids)]


def uploads(
    images: Iterable[Picture],
    ids: Iterable[str | None] | None,
    payloads: Iterable[Mapping[str, Any] | None] | None,
    if_versions: Iterable[int | None] | None,
    unreadable: dict[int, InvalidImage],
) -> Iterator[images_pb2.ImageUpload]:
    """One message an image, made as they are asked for.

    unreadable: files that cannot be read are noted in it, by their place, and travel without bytes: the
    server counts each as one that failed, and places and keys of the others stay what they are.

    Raises InvalidRequest when there are more or fewer ids, payloads or versions than images.
    """
    together = [images, *(others for others in (ids, payloads, if_versions) if others is not None)]
    for place, row in enumerate(zip_longest(*together, fillvalue=_MISSING)):
        if any(value is _MISSING for value in row):
            raise InvalidRequest("there are not as many ids, payloads or versions as images", field="images")
        rest = list(row[1:])
        image_id: Any = rest.pop(0) if ids is not None else None
        payload: Any = rest.pop(0) if payloads is not None else None
        version: Any = rest.pop(0) if if_versions is not None else None
        picture: Any = row[0]
        try:
            image = encoded(picture)
        except InvalidImage as error:
            if not isinstance(picture, str | Path):
                raise  # no picture at all: the caller's mistake
            unreadable[place], image = error, b""
        yield images_pb2.ImageUpload(
            image_id=text_or_none(image_id, "image_id"),
            image=image,
            payload_json="" if payload is None else payload_json(payload),
            if_version=version_of(version, "if_versions"),
        )


def upload_batches(
    collection: str,
    messages: Iterable[images_pb2.ImageUpload],
    idempotency_key: str = "",
    durability: Durability = "synced",
) -> Iterator[images_pb2.UpsertImagesRequest]:
    """Requests of at most 8 pictures and, with more than one, 24 MiB."""
    text_of(collection, "collection")
    said = durability_of(durability)
    number = 0
    batch: list[images_pb2.ImageUpload] = []
    held = 0

    def request() -> images_pb2.UpsertImagesRequest:
        return images_pb2.UpsertImagesRequest(
            collection=collection,
            images=batch,
            idempotency_key=key_of(idempotency_key, number),
            durability=said,
        )

    for message in messages:
        if batch and (len(batch) == BATCH_IMAGES or held + len(message.image) > BATCH_BYTES):
            yield request()
            number += 1
            batch, held = [], 0
        batch.append(message)
        held += len(message.image)
    if batch:
        yield request()


def upload_stream(
    collection: str, messages: Iterable[images_pb2.ImageUpload]
) -> Iterator[images_pb2.UpsertImageStreamRequest]:
    name = text_of(collection, "collection")
    for message in messages:
        yield images_pb2.UpsertImageStreamRequest(collection=name, image=message)
        name = ""


def payload_json(payload: Mapping[str, Any]) -> str:
    """Raises InvalidRecord for what JSON cannot say."""
    if not isinstance(payload, Mapping):
        raise InvalidRecord(f"the payload is a {type(payload).__name__}, not a mapping", field="payload_json")
    try:
        text = json.dumps(dict(payload), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRecord(f"the payload is not JSON: {error}", field="payload_json") from error
    return text
