"""Points, boxes, masks, polygons and vectors as messages of the contract, and back.

Server and client both speak through these functions, so that what one writes the other reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import InvalidRegion, InvalidRequest
from regionsearch.regions import Box, Mask, Point, Polygon, RegionPrompt
from regionsearch.run_length import compress_all, decompress_all
from regionsearch.v1 import types_pb2 as pb

_PACKED = np.dtype("<f4")


@contextmanager
def at_field(path: str) -> Iterator[None]:
    """Errors raised inside have their request field put below `path`; those that name none get `path`."""
    try:
        yield
    except InvalidRequest as error:
        error.field = path if error.field is None else f"{path}.{error.field}"
        raise


@contextmanager
def at_record(place: int, image_id: object) -> Iterator[None]:
    """Errors raised inside are about the record at this place of a request: their field says so, and, for
    people, their message names its image."""
    try:
        with at_field(f"records[{place}]"):
            yield
    except InvalidRequest as error:
        if not error.message.startswith("image "):
            error.message = f"image {image_id!r:.600}: {error.message}"
            error.args = (error.message,)
        raise


def box_to_message(box: Box) -> pb.Box:
    return pb.Box(x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1)


def box_from_message(message: pb.Box) -> Box:
    """Raises InvalidRegion if it is empty or not finite."""
    return Box(message.x0, message.y0, message.x1, message.y1)


def mask_to_message(mask: Mask) -> pb.Mask:
    return masks_to_messages([mask])[0]


def masks_to_messages(masks: Sequence[Mask]) -> list[pb.Mask]:
    """Many at once are several times quicker than one by one."""
    texts = compress_all([mask.counts for mask in masks])
    return [
        pb.Mask(run_length=pb.RunLength(height=mask.height, width=mask.width, counts=counts))
        for mask, counts in zip(masks, texts, strict=True)
    ]


def mask_from_message(message: pb.RunLength) -> Mask:
    """Raises InvalidRegion if size and runs disagree or are malformed."""
    return masks_from_messages([message])[0]


def masks_from_messages(messages: Sequence[pb.RunLength]) -> list[Mask]:
    """Many at once are several times quicker than one by one. Raises InvalidRegion likewise."""
    counts = decompress_all([message.counts for message in messages])
    return [Mask(message.height, message.width, runs) for message, runs in zip(messages, counts, strict=True)]


def prompt_to_message(prompt: RegionPrompt, *, normalised: bool = False, refine: bool = False) -> pb.Region:
    """`normalised` says that the coordinates are fractions of the image's width and height, `refine` that a
    box means the thing within it."""
    message = pb.Region(
        coordinates=pb.COORDINATE_SPACE_NORMALISED if normalised else pb.COORDINATE_SPACE_PIXELS,
        points=[pb.Point(x=point.x, y=point.y, negative=not point.positive) for point in prompt.points],
        refine=refine,
    )
    if prompt.box is not None:
        message.box.CopyFrom(box_to_message(prompt.box))
    if prompt.mask is not None:
        message.mask.CopyFrom(mask_to_message(prompt.mask))
    if prompt.polygon is not None:
        for ring in prompt.polygon.rings:
            message.polygon.rings.add(coordinates=[value for corner in ring for value in corner])
    return message


def points_from_message(message: pb.Region) -> tuple[Point, ...]:
    """Raises InvalidRegion, naming the point's field, if a coordinate is not finite."""
    points = []
    for number, point in enumerate(message.points):
        with at_field(f"points[{number}]"):
            points.append(Point(point.x, point.y, positive=not point.negative))
    return tuple(points)


def polygon_from_message(message: pb.Polygon) -> Polygon:
    """Raises InvalidRegion, naming the ring's field, for a ring that is no closed line."""
    rings = []
    for number, ring in enumerate(message.rings):
        values = list(ring.coordinates)
        if len(values) % 2 != 0:
            raise InvalidRegion(
                f"polygon's ring {number} has {len(values)} coordinates; x and y come in pairs",
                field=f"rings[{number}].coordinates",
            )
        rings.append(tuple(zip(values[0::2], values[1::2], strict=True)))
    return Polygon(tuple(rings))


def vector_to_message(vector: NDArray[np.float32], form: pb.VectorForm = pb.VECTOR_FORM_PACKED) -> pb.Vector:
    """vector: (d,) float32. Both forms carry the same numbers, bit for bit."""
    if form == pb.VECTOR_FORM_VALUES:
        return pb.Vector(values=vector.astype(np.float32).tolist())
    return pb.Vector(packed=vector.astype(_PACKED).tobytes())


def vector_from_message(message: pb.Vector) -> NDArray[np.float32]:
    """(d,) float32, d at least 1. Raises InvalidRequest if it has both forms or none, or is not finite."""
    if message.values and message.packed:
        raise InvalidRequest("vector has both values and packed; it can have one of them")
    if len(message.packed) % _PACKED.itemsize != 0:
        raise InvalidRequest(
            f"packed vector has {len(message.packed)} bytes; a float32 takes 4", field="packed"
        )
    if message.packed:
        vector = np.frombuffer(message.packed, dtype=_PACKED).astype(np.float32)
    else:
        vector = np.array(message.values, dtype=np.float32)
    if len(vector) == 0:
        raise InvalidRequest("vector is empty")
    if not np.isfinite(vector).all():
        raise InvalidRequest("vector has a number that is not finite")
    return vector
