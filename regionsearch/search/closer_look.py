"""Third phase for words, by `closer`: the things that may be meant are looked at again, one by one.

Two things are learnt of the n best images that joint scoring could not know.

* Closeness. In each image the LOOKED_AT entities that the words resemble most are cut out of the kept pixels,
  enlarged and read by themselves. What counts is the greatest cosine of the words with one of them, in
  deviations of the background of `text_entity`.
* Likeness. What is asked for in words was found in pixels: the entities that matched in the leading images,
  after their closeness, say what such things look like here. Every one of the n images is compared with their
  weighted mean by its most alike entity (never with its own match), from stored vectors. This is
  pseudo-relevance feedback, the first ranks taken as relevant (Manning, Raghavan and Schütze 2008,
  Introduction to Information Retrieval, section 9.1.6).

Both are added, and the sum counts as one reading (`rerank`). What each of them brings: docs/rerank.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Collection, ImageRecord
from regionsearch.errors import FailedPrecondition, ImageNotFound
from regionsearch.models.close_ups import CloseUpEmbedder
from regionsearch.models.embedder import Embedder
from regionsearch.regions import Box
from regionsearch.search.rerank import LEAST_DEVIATION, PIXELS_AT_ONCE, Reading, kept_image

Values = NDArray[np.float64]

LOOKED_AT = 3
"""Entities of an image that are looked at again. Five found a little more, at over 2 s for 50 images."""
LEADERS = 10
"""Images whose matches say what the thing looks like; 5 to 20 were alike."""
DIGITS = 9
"""Of a likeness that are more than rounding."""
LEAST_LENGTH = 1e-6
"""A mean of vectors that is shorter has no direction that rounding has not made up."""


def closer_embedder(embedder: Embedder) -> CloseUpEmbedder:
    """Raises FailedPrecondition when the collection's embedder cannot look closer."""
    if not isinstance(embedder, CloseUpEmbedder):
        raise FailedPrecondition(
            f"rerank: the embedder of this collection, {embedder.info.name!r}, does not offer closer; use "
            "pairwise",
            field="rerank.method",
        )
    return embedder


def look_closer(
    collection: Collection,
    embedder: CloseUpEmbedder,
    text: NDArray[np.float32],
    deviation: float,
    records: Sequence[ImageRecord],
    totals: Values,
    weight: float,
) -> Reading:
    """Looks at n candidates again.

    text: (d,) the words' unit vector. deviation: of the background of `text_entity`, cosine. records, totals:
    of the n, in the joint order, with their weighted sums. weight: what a deviation of the reading counts.
    A candidate that was deleted or replaced since its record was fetched is left out of the reading.
    Raises FailedPrecondition, naming the image, for one without pixels that can be decoded.
    """

    def closeness(record: ImageRecord) -> float | None:
        return _closeness(collection, embedder, text, record)

    # Decoding and cutting out keep one core busy, the network another.
    with ThreadPoolExecutor(_at_once(collection, records), thread_name_prefix="closer-look") as threads:
        found = list(threads.map(closeness, records))
    places = np.array([place for place, cosine in enumerate(found) if cosine is not None], dtype=np.int64)
    cosines = np.array([cosine for cosine in found if cosine is not None], dtype=np.float64)
    if not len(places):
        return Reading(places, cosines)
    close = (cosines - cosines.mean()) / max(deviation, LEAST_DEVIATION)
    entities = [records[place].vectors[1:].astype(np.float64) for place in places.tolist()]
    # Rounded, so that images that are alike to the last digit stay in the order of their ids.
    alike = np.round(likeness(entities, text.astype(np.float64), totals[places] + weight * close), DIGITS)
    spread = (alike - alike.mean()) / max(float(alike.std()), LEAST_DEVIATION)
    return Reading(places, cosines, deviations=close + spread)


def likeness(entities: Sequence[Values], text: Values, sums: Values) -> Values:
    """(n,) cosine of each image's most alike entity with the weighted mean of the leaders' matches, a
    leader's own left out; 0 for an image that stands alone.

    entities: of each image its (m, d) unit vectors. text: (d,). sums: (n,) the higher, the further ahead.
    """
    order = np.argsort(-sums, kind="stable")[:LEADERS].tolist()
    shares = 1 / np.sqrt(np.arange(1, len(order) + 1))
    matches = np.stack([entities[image][int(_cosines(entities[image], text).argmax())] for image in order])
    matches *= shares[:, None]
    mean = matches.sum(axis=0)
    own = dict(zip(order, matches, strict=True))
    found = np.zeros(len(entities))
    for image, vectors in enumerate(entities):
        others = mean - own[image] if image in own else mean
        length = float(np.linalg.norm(others))
        if length > LEAST_LENGTH:
            found[image] = _cosines(vectors, others).max() / length
    return found


def _at_once(collection: Collection, records: Sequence[ImageRecord]) -> int:
    """Images that are decoded at one time: as many as there are cores, and as PIXELS_AT_ONCE lets."""
    cores = os.cpu_count() or 1
    if collection.spec.pixels != "original" or not records:
        return cores
    largest = max(record.width * record.height for record in records)
    return max(1, min(cores, PIXELS_AT_ONCE // largest))


def _closeness(
    collection: Collection, embedder: CloseUpEmbedder, text: NDArray[np.float32], record: ImageRecord
) -> float | None:
    """None when the image is gone, or another has its id."""
    try:
        stored = collection.get(record.image_id, pixels=True)
    except ImageNotFound:
        return None
    if stored.number != record.number:
        return None
    image = kept_image(stored)
    nearest = np.argsort(-_cosines(record.vectors[1:], text), kind="stable")[:LOOKED_AT]
    # A thumbnail is smaller than the image that its entities lie in.
    x, y = image.width / record.width, image.height / record.height
    corners = np.array([_box_within(record, entity) for entity in nearest.tolist()]) * (x, y, x, y)
    seen = embedder.embed_close_ups(image, [Box(*box) for box in corners.tolist()])
    return float(_cosines(seen, text).max())


def _box_within(record: ImageRecord, entity: int) -> tuple[float, float, float, float]:
    """Pixels: an entity's box; its mask's where a box of the caller's own lies outside the image."""
    x0, y0, x1, y1 = record.entities.boxes[entity].tolist()
    if x0 < record.width and y0 < record.height and x1 > 0 and y1 > 0:
        return x0, y0, x1, y1
    return record.entities.masks[entity].box().as_tuple()


def _cosines(vectors: NDArray[np.floating], vector: NDArray[np.floating]) -> Values:
    """(n,) float64. Not by BLAS, which hands even a few rows to a second core, where an image waits."""
    cosines: Values = np.einsum("nd,d->n", vectors, vector, dtype=np.float64)
    return cosines
