"""What a collection knows about images, as messages of the contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from regionsearch.collection import ImageListing, ImageRecord
from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest
from regionsearch.protobuf_shapes import masks_to_messages, vector_to_message
from regionsearch.serving.answer_messages import LABEL_SOURCES, payload_to_json
from regionsearch.v1 import images_pb2 as pb
from regionsearch.v1 import types_pb2

Selecting: TypeAlias = pb.GetImageRequest | pb.ListImagesRequest | pb.ExportImagesRequest


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a record is returned beside what a listing has."""

    entities: bool
    masks: bool
    vectors: bool
    pixels: bool
    payload: bool
    vector_form: types_pb2.VectorForm

    @property
    def anything(self) -> bool:
        return self.entities or self.vectors or self.pixels or self.payload


def selection_of(request: Selecting) -> Selection:
    """Raises InvalidRequest for a choice that means nothing without another."""
    if request.with_masks and not request.with_entities:
        raise InvalidRequest("with_masks needs with_entities", field="with_masks")
    if request.vector_form and not request.with_vectors:
        raise InvalidRequest("vector_form needs with_vectors", field="vector_form")
    return Selection(
        entities=request.with_entities,
        masks=request.with_masks,
        vectors=request.with_vectors,
        pixels=request.with_pixels,
        payload=isinstance(request, pb.GetImageRequest) or request.with_payload,
        vector_form=request.vector_form,
    )


def record_to_message(record: ImageRecord, selection: Selection) -> pb.ImageRecord:
    message = pb.ImageRecord(
        image_id=record.image_id,
        width=record.width,
        height=record.height,
        content_hash=record.content_hash,
        payload_json=payload_to_json(record.payload) if selection.payload else "",
        entity_count=len(record.entities),
        version=record.version,
        updated=timestamp(record.updated),
        pixels=record.pixels if selection.pixels else None,
    )
    if selection.entities:
        message.entities.extend(_entities_to_messages(record.entities, masks=selection.masks))
    if selection.vectors:
        message.vector.CopyFrom(vector_to_message(record.vectors[0], selection.vector_form))
        for entity, vector in zip(message.entities, record.vectors[1:], strict=False):
            entity.vector.CopyFrom(vector_to_message(vector, selection.vector_form))
    return message


def listing_to_message(listing: ImageListing) -> pb.ImageSummary:
    return pb.ImageSummary(
        image_id=listing.image_id,
        width=listing.width,
        height=listing.height,
        content_hash=listing.content_hash,
        entity_count=listing.entities,
        version=listing.version,
        updated=timestamp(listing.updated),
    )


def _entities_to_messages(entities: Entities, *, masks: bool) -> list[types_pb2.Entity]:
    messages = []
    for index, (x0, y0, x1, y1) in enumerate(entities.boxes.tolist()):
        messages.append(
            types_pb2.Entity(
                index=index,
                box=types_pb2.Box(x0=x0, y0=y0, x1=x1, y1=y1),
                area=float(entities.areas[index]),
                objectness=float(entities.objectness[index]),
                label=entities.labels[index],
                label_source=LABEL_SOURCES[entities.label_sources[index]],
            )
        )
    if masks:
        for message, mask in zip(messages, masks_to_messages(entities.masks), strict=True):
            message.mask.CopyFrom(mask)
    return messages


def timestamp(text: str) -> Timestamp:
    """From RFC 3339."""
    made = Timestamp()
    made.FromJsonString(text)
    return made
