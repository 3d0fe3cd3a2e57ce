"""Finished records that arrive in calls: from columns of a message to records of a collection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import ImageRecord
from regionsearch.collection.records import MAX_ENTITIES, CollectionSpec
from regionsearch.collection.validation import check_image_id
from regionsearch.config import Limits
from regionsearch.entities import Entities
from regionsearch.errors import InvalidRecord, InvalidRequest
from regionsearch.images import Image, content_hash, decode_image, thumbnail_jpeg
from regionsearch.protobuf_shapes import at_field, vector_from_message
from regionsearch.regions import Mask
from regionsearch.run_length import decompress_all
from regionsearch.serving.uploads import payload_of
from regionsearch.v1 import images_pb2 as pb
from regionsearch.v1 import types_pb2

RECORDS_AT_ONCE = 1_000
MOST_RUNS = 4_000_000
"""Of a record's masks together, 16 MB: a mask made of a box has two for each column, however few bytes the
box came in."""
MOST_CHARACTERS = 2 * MOST_RUNS
"""Of a record's masks together as text: a run takes one character or two, and hardly ever seven."""
CHARACTERS_AT_ONCE = 1_000_000
"""Read together: each takes some 50 bytes meanwhile."""
_CONTINUED = bytes(range(48 + 0x20, 48 + 0x40))
"""Characters of run lengths that others of the same number follow."""


@dataclass(frozen=True, eq=False)
class Received:
    """As it arrived. vectors: (1 + n, d), or None where the embedder is to make them of the picture."""

    image_id: str
    height: int
    width: int
    entities: Entities
    vectors: NDArray[np.float32] | None
    content_hash: str
    payload: dict[str, object]
    pixels: bytes | None
    picture: Image | None

    @property
    def runs(self) -> int:
        """Of all its masks."""
        return sum(len(mask.counts) for mask in self.entities.masks)

    def finished(self, vectors: NDArray[np.float32]) -> ImageRecord:
        return ImageRecord(
            image_id=self.image_id,
            width=self.width,
            height=self.height,
            entities=self.entities,
            vectors=vectors,
            content_hash=self.content_hash,
            payload=self.payload,
            pixels=self.pixels,
        )


def received(upload: pb.RecordUpload, spec: CollectionSpec, limits: Limits, *, embeds: bool) -> Received:
    """embeds: whether the collection has an embedder that can make vectors.

    Raises InvalidRecord, InvalidRegion or InvalidImage, naming the field.
    """
    check_image_id(upload.image_id)
    picture = _picture_of(upload, limits)
    height, width = _size_of(upload, picture, limits)
    payload = payload_of(upload.payload_json)
    given = upload.entities if upload.HasField("entities") else None
    with at_field("entities"):
        entities = Entities.whole_frame(height, width) if given is None else entities_of(given, height, width)
    vectors = None
    if upload.HasField("vectors"):
        vectors = _vectors_of(upload.vectors, spec.embedder.dimension, 0 if given is None else len(entities))
    elif picture is None or not embeds:
        raise InvalidRecord(
            "the record has no vectors, and there is no "
            f"{'image' if embeds else 'embedder'} to make them with",
            field="vectors",
        )
    return Received(
        image_id=upload.image_id,
        height=height,
        width=width,
        entities=entities,
        vectors=vectors,
        content_hash=content_hash(upload.image) if upload.image else upload.content_hash,
        payload=payload,
        pixels=_kept(upload.image, picture, spec),
        picture=picture if vectors is None else None,
    )


def entities_of(columns: pb.EntitiesUpload, height: int, width: int) -> Entities:
    """Of an image of height × width pixels. Raises InvalidRecord or InvalidRegion, naming the column."""
    count = _count_of(columns)
    boxes = np.array(columns.boxes, dtype=np.float32).reshape(-1, 4) if columns.boxes else None
    if boxes is not None:
        _check_boxes(boxes, height, width)
    masks = _masks_of(columns, boxes, height, width)
    if boxes is None:
        with at_field("masks"):
            boxes = np.array([mask.box().as_tuple() for mask in masks], dtype=np.float32)
    objectness = np.array(columns.objectness or [1.0] * count, dtype=np.float32)
    labels = tuple(label or None for label in columns.labels) or (None,) * count
    said = "predicted" if columns.label_source == types_pb2.LABEL_SOURCE_PREDICTED else "given"
    return Entities(
        masks=masks,
        boxes=boxes,
        areas=np.array([mask.area for mask in masks], dtype=np.float32),
        objectness=objectness,
        labels=labels,
        label_sources=tuple(None if label is None else said for label in labels),
    )


def _count_of(columns: pb.EntitiesUpload) -> int:
    if len(columns.boxes) % 4 != 0:
        raise InvalidRecord(f"boxes are {len(columns.boxes)} numbers; a box has 4", field="boxes")
    lengths = {
        "boxes": len(columns.boxes) // 4,
        "masks": len(columns.masks),
        "objectness": len(columns.objectness),
        "labels": len(columns.labels),
    }
    count = lengths["boxes"] or lengths["masks"]
    if not 1 <= count <= MAX_ENTITIES:
        raise InvalidRecord(
            f"there are boxes or masks for {count} entities; 1 to {MAX_ENTITIES} can be", field="boxes"
        )
    for name, length in lengths.items():
        if length not in (0, count):
            raise InvalidRecord(f"{name} are {length}, the entities {count}", field=name)
    return count


def _check_boxes(boxes: NDArray[np.float32], height: int, width: int) -> None:
    lowest, highest = boxes[:, :2], boxes[:, 2:]
    inside = np.isfinite(boxes).all(axis=1) & (lowest >= 0).all(axis=1) & (highest > lowest).all(axis=1)
    inside &= (highest <= (width, height)).all(axis=1)
    if not inside.all():
        first = int(np.argmin(inside))
        raise InvalidRecord(
            f"box {first} is {boxes[first].tolist()}; it must be left, top, right and bottom, not empty, "
            f"inside the image of {width} × {height} pixels",
            field="boxes",
        )


def _masks_of(
    columns: pb.EntitiesUpload, boxes: NDArray[np.float32] | None, height: int, width: int
) -> tuple[Mask, ...]:
    if columns.masks:
        with at_field("masks"):
            return tuple(_read_masks(list(columns.masks), height, width))
    assert boxes is not None, "an entity has a box or a mask"
    with at_field("boxes"):
        _check_runs(int((2 * (boxes[:, 2] - boxes[:, 0]) + 3).sum()))
    return tuple(Mask.from_boxes(boxes, height, width))


def _read_masks(texts: list[str], height: int, width: int) -> Iterator[Mask]:
    # Before anything is read: that takes many times the memory that the text does.
    characters = sum(map(len, texts))
    if characters > MOST_CHARACTERS:
        raise InvalidRecord(f"its masks have {characters} characters; the limit is {MOST_CHARACTERS}")
    _check_runs(sum(len(text.encode().translate(None, _CONTINUED)) for text in texts))
    held = 0
    together: list[str] = []
    for text in [*texts, None]:
        if together and (text is None or held + len(text) > CHARACTERS_AT_ONCE):
            for runs in decompress_all(together):
                yield Mask(height, width, runs)
            held, together = 0, []
        if text is not None:
            held += len(text)
            together.append(text)


def _check_runs(count: int) -> None:
    if count > MOST_RUNS:
        raise InvalidRecord(f"its masks have {count} runs; the limit is {MOST_RUNS}")


def _picture_of(upload: pb.RecordUpload, limits: Limits) -> Image | None:
    if not upload.image:
        return None
    if upload.content_hash:
        raise InvalidRecord(
            "content_hash follows from the image, so only one can be given", field="content_hash"
        )
    with at_field("image"):
        return decode_image(
            upload.image,
            upload.image_id,
            max_megapixels=limits.image_megapixels,
            max_bytes=limits.image_bytes,
        )


def _size_of(upload: pb.RecordUpload, picture: Image | None, limits: Limits) -> tuple[int, int]:
    """Height and width."""
    if picture is None:
        if not (upload.width and upload.height):
            field = "height" if upload.width else "width"
            raise InvalidRecord(f"{field} is missing", field=field)
        if upload.width * upload.height > limits.image_megapixels * 1e6:
            raise InvalidRecord(
                f"the image has {upload.width} × {upload.height} pixels; the limit is "
                f"{limits.image_megapixels:g} megapixels (limits.image_megapixels)",
                field="width",
            )
        return upload.height, upload.width
    for field, said, is_so in (
        ("width", upload.width, picture.width),
        ("height", upload.height, picture.height),
    ):
        if said not in (0, is_so):
            raise InvalidRecord(f"{field} is {said}, that of the picture {is_so}", field=field)
    return picture.height, picture.width


def _vectors_of(message: types_pb2.Vector, dimension: int, entities: int) -> NDArray[np.float32]:
    """(1 + n, d). entities: 0 for a record whose only entity is the whole frame."""
    with at_field("vectors"):
        numbers = vector_from_message(message)
    rows = 1 + entities
    if entities == 0 and len(numbers) == dimension:
        # The whole frame looks like the image.
        return np.stack([numbers, numbers])
    if len(numbers) != rows * dimension:
        raise InvalidRecord(
            f"vectors are {len(numbers)} numbers; the image's and those of {entities} entities are {rows} × "
            f"{dimension} = {rows * dimension}",
            field="vectors",
        )
    return numbers.reshape(rows, dimension)


def _kept(data: bytes, picture: Image | None, spec: CollectionSpec) -> bytes | None:
    if picture is None or spec.pixels == "none":
        return None
    return data if spec.pixels == "original" else thumbnail_jpeg(picture)


def conditions_of(uploads: Sequence[pb.RecordUpload]) -> dict[str, int]:
    """The versions that the images of these ids must have.

    Raises InvalidRequest when two records of one id name different ones.
    """
    versions: dict[str, int] = {}
    for number, upload in enumerate(uploads):
        if not upload.HasField("if_version"):
            continue
        if versions.setdefault(upload.image_id, upload.if_version) != upload.if_version:
            raise InvalidRequest(
                f"image {upload.image_id!r:.300} comes twice, with different versions as the condition",
                field=f"records[{number}].if_version",
            )
    return versions
