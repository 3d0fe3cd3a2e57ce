"""A filter over all entities of many images at once, as masks: the cheap conditions first, and those that
must read records only of images that the others leave open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from regionsearch.filters.expression import And, Condition, Expression, Not, Or

Mask = NDArray[np.bool_]
Cost = Literal[0, 1, 2]
"""What deciding a condition reads: columns of images, columns of entities, records."""


class ImageColumns(Protocol):
    """What is known of m images and their n entities."""

    @property
    def starts(self) -> NDArray[np.int64]:
        """(m + 1,): where the entities of each image begin, and n."""

    def cost(self, condition: Condition) -> Cost: ...

    def of_images(self, condition: Condition, wanted: Mask) -> Mask:
        """(m,): of which images a condition on `payload` or `image` holds; anything where not wanted (m,)."""

    def of_entities(self, condition: Condition) -> Mask:
        """(n,): of which entities a condition on `entity` holds."""


FEW = 64
"""One entity in so many: below that, searching for the images of those that are true is faster than
counting them all (docs/filters.md)."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Of each (image, entity). images: (m,), for all entities of each image alike; entities: (n,).
    One of them is None. Both are the caller's to change."""

    images: Mask | None
    entities: Mask | None


def evaluate(expression: Expression, columns: ImageColumns, live: Mask) -> Truth:
    """Which entities satisfy the filter. live: (m,), the images asked about; anything holds of others."""
    if isinstance(expression, And | Or):
        return _joined(expression, columns, live)
    if isinstance(expression, Not):
        inner = evaluate(expression.part, columns, live)
        for mask in (inner.images, inner.entities):
            if mask is not None:
                np.logical_not(mask, out=mask)
        return inner
    if expression.field.root == "entity":
        return Truth(None, columns.of_entities(expression))
    return Truth(columns.of_images(expression, live), None)


def spread(images: Mask, starts: NDArray[np.int64]) -> Mask:
    """(n,): for each entity what `images` (m,) says of its image."""
    return np.repeat(images, np.diff(starts))


def with_any(entities: Mask, starts: NDArray[np.int64]) -> Mask:
    """(m,): whether `entities` (n,) is true of at least one entity of each image."""
    images = np.zeros(len(starts) - 1, bool)
    if np.count_nonzero(entities) * FEW < len(entities):
        images[np.searchsorted(starts, np.flatnonzero(entities), side="right") - 1] = True
    else:
        # Twice as fast as logical_or.reduceat, and right for images without entities too.
        counts = np.zeros(len(entities) + 1, np.int32)
        np.cumsum(entities, out=counts[1:])
        np.greater(counts[starts[1:]], counts[starts[:-1]], out=images)
    return images


def _joined(expression: And | Or, columns: ImageColumns, live: Mask) -> Truth:
    """The parts from the cheapest to the dearest. An image is open as long as its entities could still
    differ: for AND while one of them satisfies all parts so far, for OR while one satisfies none."""
    is_and = isinstance(expression, And)
    join = np.logical_and if is_and else np.logical_or
    parts = sorted(expression.parts, key=lambda part: _cost(part, columns))
    images: Mask | None = None
    entities: Mask | None = None
    is_open = live
    for part in parts:
        if entities is not None and _cost(part, columns) == 2:
            is_open = is_open & with_any(entities if is_and else ~entities, columns.starts)
        truth = evaluate(part, columns, is_open)
        if truth.images is not None:
            images = truth.images if images is None else join(images, truth.images, out=images)
            is_open = is_open & (truth.images if is_and else ~truth.images)
        if truth.entities is not None:
            entities = truth.entities if entities is None else join(entities, truth.entities, out=entities)
    if images is None and entities is None:
        return Truth(np.full(len(live), is_and), None)
    if images is None or entities is None:
        return Truth(images, entities)
    return Truth(None, join(entities, spread(images, columns.starts), out=entities))


def _cost(expression: Expression, columns: ImageColumns) -> Cost:
    """Of its dearest condition."""
    if isinstance(expression, And | Or):
        return max((_cost(part, columns) for part in expression.parts), default=0)
    if isinstance(expression, Not):
        return _cost(expression.part, columns)
    return columns.cost(expression)
