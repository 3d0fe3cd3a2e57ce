"""From what a caller says to the messages of the contract. Pure functions, shared by both clients."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from regionsearch.client.answers import PixelsKept, RerankMethod
from regionsearch.client.pictures import Picture, encoded
from regionsearch.client.plain_values import number, numbers_in, text_of, text_or_none, unsigned, weights_of
from regionsearch.errors import InvalidImage, InvalidRecord, InvalidRegion, InvalidRequest
from regionsearch.protobuf_shapes import prompt_to_message, vector_to_message
from regionsearch.regions import Box, Mask, Point, Polygon, RegionPrompt
from regionsearch.v1 import collections_pb2, images_pb2, search_pb2, types_pb2

BoxLike: TypeAlias = Box | Sequence[float]
"""A Box, or x0, y0, x1, y1."""
PointLike: TypeAlias = Point | Sequence[float]
"""A Point, or x, y, or x, y, positive (1 or 0)."""
PolygonLike: TypeAlias = Polygon | Sequence[Sequence[float]]
"""A Polygon, or the corners (x, y) of one ring."""
MaskLike: TypeAlias = "Mask | NDArray[np.bool_] | bytes | str | Path"
"""A Mask, an array (height, width) of bool, or a PNG file (its bytes or its path), where a pixel
belongs to the mask when one of its colours is 128 or more, and its alpha (if any) too."""

BATCH_IMAGES = 8
BATCH_BYTES = 24 * 1024 * 1024
"""Of the pictures in one UpsertImages call, unless a single one is larger."""

PIXELS_KEPT: dict[PixelsKept, collections_pb2.PixelsKept] = {
    "none": collections_pb2.PIXELS_KEPT_NONE,
    "thumbnail": collections_pb2.PIXELS_KEPT_THUMBNAIL,
    "original": collections_pb2.PIXELS_KEPT_ORIGINAL,
}
RERANK_METHODS: dict[RerankMethod, search_pb2.RerankMethod] = {
    "pairwise": search_pb2.RERANK_METHOD_PAIRWISE,
    "pairwise_instructed": search_pb2.RERANK_METHOD_PAIRWISE_INSTRUCTED,
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


def search(
    collection: str,
    *,
    image: Picture | None,
    image_id: str | None,
    entity: int | None,
    box: BoxLike | None,
    points: Sequence[PointLike],
    mask: MaskLike | None,
    polygon: PolygonLike | None,
    region: RegionPrompt | None,
    normalised: bool,
    text: str | None,
    vector: NDArray[np.floating] | Sequence[float] | None,
    limit: int,
    weights: Mapping[str, float] | None,
    include_self: bool,
    rerank: RerankMethod | None,
    rerank_top: int | None,
    rerank_weight: float | None,
    masks: bool,
    payload: bool,
    parts: bool,
) -> search_pb2.SearchRequest:
    request = search_pb2.SearchRequest(
        collection=text_of(collection, "collection"),
        image=None if image is None else encoded(image),
        image_id=text_or_none(image_id, "image_id"),
        entity=None if entity is None else unsigned(entity, "entity"),
        text=text_or_none(text, "text"),
        limit=unsigned(limit, "limit"),
        weights=None if weights is None else weights_of(weights),
        include_self=include_self,
        without_masks=not masks,
        without_payload=not payload,
        without_parts=not parts,
        rerank=_rerank(rerank, rerank_top, rerank_weight),
    )
    if vector is not None:
        try:
            numbers = np.asarray(vector, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"vector is not made of numbers: {error}", field="vector") from error
        if numbers.ndim != 1:
            raise InvalidRequest(f"vector has shape {numbers.shape}; it must be a row", field="vector")
        request.vector.CopyFrom(vector_to_message(numbers))
    pointed = box is not None or len(points) > 0 or mask is not None or polygon is not None
    if region is not None:
        if pointed:
            raise InvalidRegion("give a region, or points and a shape, not both", field="region")
        request.regions.append(prompt_to_message(region, normalised=normalised))
    elif pointed:
        request.regions.append(_region(box, points, mask, polygon, normalised))
    elif normalised:
        raise InvalidRequest("normalised needs a region", field="normalised")
    return request


def _rerank(method: RerankMethod | None, top_n: int | None, weight: float | None) -> search_pb2.Rerank | None:
    """Raises InvalidRequest for an unknown method, and for settings of a rerank that is not asked for."""
    if method is None:
        for field, setting in (("rerank_top", top_n), ("rerank_weight", weight)):
            if setting is not None:
                raise InvalidRequest(f"{field} needs rerank", field=field)
        return None
    if method not in RERANK_METHODS:
        raise InvalidRequest(
            f"rerank is {method!r:.100}; it can be {', '.join(RERANK_METHODS)}", field="rerank"
        )
    return search_pb2.Rerank(
        method=RERANK_METHODS[method],
        top_n=None if top_n is None else unsigned(top_n, "rerank_top"),
        weight=None if weight is None else number(weight, "rerank_weight"),
    )


def _region(
    box: BoxLike | None,
    points: Sequence[PointLike],
    mask: MaskLike | None,
    polygon: PolygonLike | None,
    normalised: bool,
) -> types_pb2.Region:
    png = _png_of(mask)
    if png is None:
        prompt = RegionPrompt(
            tuple(point_of(point) for point in points),
            None if box is None else box_of(box),
            _mask_of(mask),
            None if polygon is None else polygon_of(polygon),
        )
        return prompt_to_message(prompt, normalised=normalised)
    if box is not None or polygon is not None:
        raise InvalidRegion("one region can have one of box, mask and polygon", field="mask")
    return types_pb2.Region(
        points=[types_pb2.Point(x=p.x, y=p.y, negative=not p.positive) for p in map(point_of, points)],
        mask=types_pb2.Mask(png=png),
        coordinates=(
            types_pb2.COORDINATE_SPACE_NORMALISED if normalised else types_pb2.COORDINATE_SPACE_PIXELS
        ),
    )


def box_of(box: BoxLike) -> Box:
    """Raises InvalidRegion unless it is four finite numbers, not empty."""
    if isinstance(box, Box):
        return box
    with numbers_in("box"):
        numbers = [float(value) for value in box]
    if len(numbers) != 4:
        raise InvalidRegion(f"a box has 4 numbers (x0, y0, x1, y1), not {len(numbers)}", field="box")
    return Box(*numbers)


def point_of(point: PointLike) -> Point:
    """Raises InvalidRegion unless it is x, y and perhaps 1 or 0."""
    if isinstance(point, Point):
        return point
    with numbers_in("points"):
        numbers = [float(value) for value in point]
    if len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] not in (0, 1)):
        raise InvalidRegion(f"a point is x, y and perhaps 1 or 0, not {tuple(point)}", field="points")
    return Point(numbers[0], numbers[1], positive=len(numbers) == 2 or numbers[2] == 1)


def polygon_of(polygon: PolygonLike) -> Polygon:
    """Raises InvalidRegion unless it is corners of two numbers."""
    if isinstance(polygon, Polygon):
        return polygon
    with numbers_in("polygon"):
        corners = [tuple(float(value) for value in corner) for corner in polygon]
    if any(len(corner) != 2 for corner in corners):
        raise InvalidRegion("a polygon's corners are (x, y) each", field="polygon")
    return Polygon((tuple((corner[0], corner[1]) for corner in corners),))


def _png_of(mask: MaskLike | None) -> bytes | None:
    if isinstance(mask, bytes):
        return mask
    if isinstance(mask, str | Path):
        try:
            return Path(mask).read_bytes()
        except OSError as error:
            raise InvalidImage(f"cannot read {str(mask)!r}: {error.strerror}", field="mask") from error
    return None


def _mask_of(mask: MaskLike | None) -> Mask | None:
    if mask is None or isinstance(mask, Mask):
        return mask
    return Mask.from_array(np.asarray(mask))


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
