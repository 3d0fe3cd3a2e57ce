"""What a query names of the collection: its image, and the examples that it likes and dislikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regionsearch.collection import Collection, ImageRecord
from regionsearch.errors import ImageNotFound, InvalidRequest
from regionsearch.search.feedback import Examples
from regionsearch.search.query import Example, Query
from regionsearch.search.query_checks import entity_field
from regionsearch.search.stopwatch import Stopwatch


@dataclass(frozen=True, eq=False)
class IndexedThings:
    """record: of the indexed image that the query is about, with its pixels when it is to be read again;
    None for another query. liked, disliked: vectors of the examples. left_out: image numbers by id of those
    that are no hits."""

    record: ImageRecord | None
    liked: Examples
    disliked: Examples
    left_out: Mapping[str, int]


def find_indexed(query: Query, collection: Collection, stopwatch: Stopwatch) -> IndexedThings:
    """Needs no model. Raises ImageNotFound, and InvalidRequest for an entity that an image has not, naming
    the field."""
    numbers: dict[str, int] = {}
    with stopwatch.stage("fetch"):
        record = None
        if query.image_id is not None:
            record = _record(collection, query.image_id, "image_id", pixels=query.rerank is not None)
            for number, entity in enumerate(query.entities):
                _check_entity(record, entity, entity_field(query, number))
            numbers[query.image_id] = record.number
        liked = _examples(collection, query.liked, "liked", numbers)
        disliked = _examples(collection, query.disliked, "disliked", numbers)
    return IndexedThings(record, liked, disliked, {} if query.include_self else numbers)


def _examples(
    collection: Collection, examples: Sequence[Example], name: str, numbers: dict[str, int]
) -> Examples:
    """numbers: filled with those of the examples' images."""
    if not examples:
        return Examples.none(collection.spec.embedder.dimension)
    entities, images = [], []
    for number, example in enumerate(examples):
        path = f"{name}[{number}]"
        record = _record(collection, example.image_id, f"{path}.image_id")
        if example.entity is not None:
            _check_entity(record, example.entity, f"{path}.entity")
        entities.append(record.vectors[0 if example.entity is None else 1 + example.entity])
        images.append(record.vectors[0])
        numbers[example.image_id] = record.number
    return Examples(np.stack(entities), np.stack(images))


def _record(collection: Collection, image_id: str, field: str, *, pixels: bool = False) -> ImageRecord:
    try:
        return collection.get(image_id, pixels=pixels)
    except ImageNotFound as error:
        # Of many ids in one query, the caller should know which.
        raise ImageNotFound(f"{field}: {error.message}", field=field) from error


def _check_entity(record: ImageRecord, entity: int, field: str) -> None:
    count = len(record.entities)
    if entity >= count:
        raise InvalidRequest(
            f"image {record.image_id!r:.300} has {count} entities, 0 to {count - 1}; there is no {entity}",
            field=field,
        )
