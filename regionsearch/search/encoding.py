"""Phase 0 of a query: pixels, words and ids become vectors of the collection's space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Collection, ImageRecord
from regionsearch.config import Limits
from regionsearch.errors import InvalidRequest
from regionsearch.images import Image, decode_image
from regionsearch.models.embedder import EncodableQuery, QueryVectors
from regionsearch.models.features import DenseFeatures
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import RegionPrompt, denormalise, validate_within
from regionsearch.search.answer import UsedRegion
from regionsearch.search.query import Query
from regionsearch.search.query_checks import check_vector
from regionsearch.search.stopwatch import Stopwatch


@dataclass(frozen=True, eq=False)
class EncodedQuery:
    """vectors: of the query. regions: those really used. own_number: of the indexed image that the
    query is about, -1 when there is none. image: the picture that came with the query. record: of the
    indexed image, with its pixels when the query is to be read again."""

    vectors: QueryVectors
    regions: tuple[UsedRegion, ...]
    own_number: int = -1
    image: Image | None = None
    record: ImageRecord | None = None


def indexed_image(query: Query, collection: Collection, stopwatch: Stopwatch) -> ImageRecord | None:
    """The record of the indexed image that the query is about, with its pixels when it is to be read
    again; None for another query. Needs no model.

    Raises ImageNotFound, and InvalidRequest for an entity that it has not.
    """
    if query.image_id is None:
        return None
    with stopwatch.stage("fetch"):
        record = collection.get(query.image_id, pixels=query.rerank is not None)
    count = len(record.entities)
    for entity in query.entities:
        if entity >= count:
            raise InvalidRequest(
                f"image {query.image_id!r} has {count} entities, 0 to {count - 1}; there is no {entity}",
                field="entity",
            )
    return record


def encode(
    query: Query,
    indexed: ImageRecord | None,
    collection: Collection,
    models: ModelRegistry,
    limits: Limits,
    stopwatch: Stopwatch,
) -> EncodedQuery:
    """indexed: what `indexed_image` found. Raises InvalidRegion, InvalidImage and NotAccepted as the query
    deserves."""
    if query.vector is not None:
        with stopwatch.stage("encode"):
            return EncodedQuery(_ready_vector(query.vector, collection.spec.embedder.dimension), ())
    if indexed is not None:
        return _encode_indexed(query, indexed, collection, models, stopwatch)
    return _encode_pixels_and_words(query, collection, models, limits, stopwatch)


def _ready_vector(vector: NDArray[np.float32], dimension: int) -> QueryVectors:
    check_vector(vector, dimension)
    unit = _unit(vector)
    return QueryVectors(entity_arm=unit, global_arm=unit, region=unit, image=unit)


def _encode_indexed(
    query: Query, record: ImageRecord, collection: Collection, models: ModelRegistry, stopwatch: Stopwatch
) -> EncodedQuery:
    image = record.vectors[0]
    region = record.vectors[1 + query.entities[0]] if query.entities else image
    text: NDArray[np.float32] | None = None
    if query.text is not None:
        with stopwatch.stage("encode"):
            embedder = models.embedder(collection.spec.embedder.name)
            text = embedder.embed_query(EncodableQuery(text=query.text)).text
    vectors = QueryVectors(
        entity_arm=region if text is None else _unit(region + text),
        global_arm=image if text is None else _unit(image + text),
        region=region,
        image=image,
        text=text,
    )
    return EncodedQuery(vectors, (), record.number, record=record)


def _encode_pixels_and_words(
    query: Query, collection: Collection, models: ModelRegistry, limits: Limits, stopwatch: Stopwatch
) -> EncodedQuery:
    embedder = models.embedder(collection.spec.embedder.name)
    image = _image(query, limits, stopwatch)
    prompt: RegionPrompt | None = None
    used: tuple[UsedRegion, ...] = ()
    features: DenseFeatures | None = None
    if image is not None:
        if query.regions:
            prompt = query.regions[0].prompt
            if query.regions[0].normalised:
                prompt = denormalise(prompt, image.height, image.width)
            prompt = validate_within(prompt, image.height, image.width)
        if embedder.backbone is not None:
            with stopwatch.stage("encode"):
                features = embedder.backbone.features([image])[0]
    if image is not None and prompt is not None:
        segmenter = models.segmenter(collection.spec.segmenter.name)
        shared: DenseFeatures | None = None
        if segmenter.backbone is not None and features is not None:
            shared = features.part(segmenter.backbone.source)
        with stopwatch.stage("segment"):
            mask = segmenter.prompt(image, prompt, shared)
        used = (UsedRegion(mask, prompt),)
    with stopwatch.stage("encode"):
        vectors = embedder.embed_query(
            EncodableQuery(
                image=image,
                mask=used[0].mask if used else None,
                prompt=prompt,
                text=query.text,
                features=features,
            )
        )
    return EncodedQuery(vectors, used, image=image)


def _image(query: Query, limits: Limits, stopwatch: Stopwatch) -> Image | None:
    if query.encoded_image is None:
        return query.image
    with stopwatch.stage("decode"):
        return decode_image(query.encoded_image, query.image_name, max_megapixels=limits.image_megapixels)


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    exact = vector.astype(np.float64)
    return (exact / np.linalg.norm(exact)).astype(np.float32)
