"""A query's filter, and what it lets through of a collection as it is at one moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from regionsearch.collection import Collection, ImageRecord
from regionsearch.collection.fields.matching import Matching
from regionsearch.filters import Expression, parse
from regionsearch.filters.meaning import EntityFacts, ImageFacts, holds
from regionsearch.filters.timestamps import instant_of


@dataclass(frozen=True, eq=False)
class QueryFilter:
    """expression: what it says. matching: the images and entities that met it when the search began."""

    expression: Expression
    matching: Matching

    @staticmethod
    def now(collection: Collection, where: str) -> QueryFilter | None:
        """None for a filter that says nothing. Raises InvalidFilter."""
        if not where.strip():
            return None
        return QueryFilter(parse(where), collection.matching(where))

    def holds_of(self, record: ImageRecord, entities: Iterable[int]) -> bool:
        """Whether all these entities meet it by the record as it is now: a payload may have been updated
        since the search began."""
        image = ImageFacts(
            id=record.image_id,
            width=record.width,
            height=record.height,
            entities=len(record.entities),
            version=record.version,
            updated=instant_of(record.updated) or 0,
            content_hash=record.content_hash,
            payload=record.payload,
        )
        return all(holds(self.expression, image, _facts_of(record, entity)) for entity in entities)


def _facts_of(record: ImageRecord, entity: int) -> EntityFacts:
    entities = record.entities
    sides = np.array([record.width, record.height, record.width, record.height], np.float32)
    left, top, right, bottom = entities.boxes[entity] / sides
    return EntityFacts(
        index=entity,
        label=entities.labels[entity],
        label_source=entities.label_sources[entity],
        area=entities.areas[entity],
        objectness=entities.objectness[entity],
        left=left,
        top=top,
        right=right,
        bottom=bottom,
    )
