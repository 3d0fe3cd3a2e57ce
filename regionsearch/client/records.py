"""Finished records, from the arrays that people have them in to messages of the contract."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regionsearch.client.pictures import Picture, encoded
from regionsearch.client.plain_values import text_of, text_or_none, unsigned
from regionsearch.client.requests import payload_json
from regionsearch.client.write_terms import durability_of, key_of, version_of
from regionsearch.contract_names import Durability
from regionsearch.errors import InvalidRecord
from regionsearch.protobuf_shapes import at_field, at_record, masks_to_messages
from regionsearch.regions import Mask
from regionsearch.v1 import images_pb2, types_pb2

BATCH_RECORDS = 256
"""Of one message, and so of one transaction: some 2,000 entities are enough that syncing costs little."""
BATCH_BYTES = 8 * 1024 * 1024
"""Of one message, unless a single record is larger, or the client sends only smaller ones. Boxes without
masks count as what the server will hold, of which each run is a byte or more."""


@dataclass(frozen=True, eq=False)
class Record:
    """An image whose entities and vectors were computed by the caller.

    image_id: 1 to 480 bytes of UTF-8; an image of this id is replaced.
    vectors: (1 + n, d) unit vectors of the collection's space, the image's, then those of its n entities; for
        a record without entities (d,) or (1, d). None: the collection's embedder makes them of `image`.
    width, height: pixels of the upright image; None beside `masks`: as theirs; beside `image`: as in the
        picture.
    boxes: (n, 4) pixels, [x0, y0, x1, y1), inside the image; None: the boxes around the masks.
    masks: n Masks, or arrays (height, width) of bool, of the image's size; None: all pixels of the boxes.
        Neither boxes nor masks: the whole frame is the only entity.
    objectness: (n,) 0 to 1; None: 1. labels: n texts or None; predicted: whether a model said so.
    payload: a JSON object. image: the picture, of which the collection keeps what it keeps.
    content_hash: sha256 (hex) of the picture's bytes; "" beside `image`.
    if_version: the version that the image must have now (0: there is none); None: any.
    """

    image_id: str
    vectors: ArrayLike | None = None
    width: int | None = None
    height: int | None = None
    boxes: ArrayLike | None = None
    masks: Sequence[Mask | NDArray[np.bool_]] | None = None
    objectness: ArrayLike | None = None
    labels: Sequence[str | None] | None = None
    predicted: bool = False
    payload: Mapping[str, Any] | None = None
    image: Picture | None = None
    content_hash: str = ""
    if_version: int | None = None


def record_messages(
    collection: str,
    records: Iterable[Record],
    idempotency_key: str,
    durability: Durability,
    *,
    repeat_name: bool,
    most_bytes: int = BATCH_BYTES,
) -> Iterator[images_pb2.UpsertRecordsRequest]:
    """Messages of at most 256 records and, with more than one, `most_bytes`. The key of each tells it from
    the others.

    repeat_name: whether the collection is named in each, or in the first alone, as a stream needs it.
    """
    name = text_of(collection, "collection")
    said = durability_of(durability)
    number = 0
    batch: list[images_pb2.RecordUpload] = []
    held = 0

    def message() -> images_pb2.UpsertRecordsRequest:
        return images_pb2.UpsertRecordsRequest(
            collection=name if repeat_name or number == 0 else "",
            records=batch,
            idempotency_key=key_of(idempotency_key, number),
            durability=said,
        )

    for place, record in enumerate(records):
        with at_record(place, record.image_id):
            upload = record_message(record)
        size = max(upload.ByteSize(), _runs_of_boxes(upload))
        if batch and (len(batch) == BATCH_RECORDS or held + size > most_bytes):
            yield message()
            number += 1
            batch, held = [], 0
        batch.append(upload)
        held += size
    if batch:
        yield message()


def record_message(record: Record) -> images_pb2.RecordUpload:
    """Raises InvalidRecord for arrays of another shape, InvalidImage for a picture that cannot be read."""
    entities = None
    height, width = record.height, record.width
    if record.boxes is not None or record.masks is not None:
        with at_field("masks"):
            masks = [mask if isinstance(mask, Mask) else Mask.from_array(mask) for mask in record.masks or ()]
            height, width = _size_of(masks, height, width)
        entities = _entities_message(record, masks)
    elif record.objectness is not None or record.labels is not None:
        raise InvalidRecord("objectness and labels need boxes or masks", field="boxes")
    return images_pb2.RecordUpload(
        image_id=text_of(record.image_id, "image_id"),
        width=unsigned(width or 0, "width"),
        height=unsigned(height or 0, "height"),
        content_hash=text_of(record.content_hash, "content_hash"),
        payload_json="" if record.payload is None else payload_json(record.payload),
        vectors=None if record.vectors is None else _vectors_message(record.vectors),
        entities=entities,
        image=b"" if record.image is None else encoded(record.image),
        if_version=version_of(record.if_version, "if_version"),
    )


def _runs_of_boxes(upload: images_pb2.RecordUpload) -> int:
    """Of the masks that the server makes of boxes, at most."""
    boxes = upload.entities.boxes
    if upload.entities.masks or not boxes:
        return 0
    edges = np.array(boxes, np.float64)
    if not np.isfinite(edges).all():
        return 0  # which the server refuses
    return int(2 * np.maximum(edges[2::4] - edges[0::4], 0).sum()) + len(boxes)


def _vectors_message(vectors: ArrayLike) -> types_pb2.Vector:
    rows = _numbers(vectors, "vectors")
    if rows.ndim not in (1, 2):
        raise InvalidRecord(f"vectors have shape {rows.shape}; they are (1 + n, d)", field="vectors")
    return types_pb2.Vector(packed=rows.astype("<f4").tobytes())


def _size_of(masks: Sequence[Mask], height: int | None, width: int | None) -> tuple[int | None, int | None]:
    """Height and width of the image, from the masks what was not given: runs travel without it, so that those
    of another size would be read as other pixels. Raises InvalidRecord."""
    for number, mask in enumerate(masks):
        if height not in (None, mask.height) or width not in (None, mask.width):
            raise InvalidRecord(
                f"mask {number} is {mask.width} × {mask.height} pixels, the image or a mask before it "
                f"{width} × {height}"
            )
        height, width = mask.height, mask.width
    return height, width


def _entities_message(record: Record, masks: Sequence[Mask]) -> images_pb2.EntitiesUpload:
    message = images_pb2.EntitiesUpload(
        label_source=types_pb2.LABEL_SOURCE_PREDICTED if record.predicted else types_pb2.LABEL_SOURCE_GIVEN
    )
    if record.boxes is not None:
        boxes = _numbers(record.boxes, "boxes")
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise InvalidRecord(f"boxes have shape {boxes.shape}; they are (n, 4)", field="boxes")
        message.boxes.extend(boxes.ravel().tolist())
    if record.masks is not None:
        message.masks.extend(mask.run_length.counts for mask in masks_to_messages(masks))
    if record.objectness is not None:
        message.objectness.extend(_numbers(record.objectness, "objectness").ravel().tolist())
    if record.labels is not None:
        message.labels.extend(text_or_none(label, "labels") or "" for label in record.labels)
    return message


def _numbers(values: ArrayLike, field: str) -> NDArray[np.float32]:
    try:
        return np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidRecord(f"{field} are not made of numbers: {error}", field=field) from error
