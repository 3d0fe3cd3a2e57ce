"""Small finished records for the tests of what is stored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import CollectionSpec, ImageRecord
from regionsearch.collection.encoding import encode_records
from regionsearch.collection.record_layout import HEADER_BYTES, Header
from regionsearch.entities import Entities
from regionsearch.fingerprint import Fingerprint
from regionsearch.regions import Box, Mask

DIMENSION = 12
HEIGHT, WIDTH = 40, 60


def spec(name: str = "photos", dimension: int = DIMENSION, **settings: Any) -> CollectionSpec:
    return CollectionSpec(
        name=name,
        embedder=Fingerprint("test-embedder", "ab" * 32, dimension, 1),
        segmenter=Fingerprint("test-segmenter", "", 0, 1),
        **settings,
    )


def unit_vectors(random: np.random.Generator, count: int, dimension: int = DIMENSION) -> NDArray[np.float32]:
    vectors = random.standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def record(
    random: np.random.Generator,
    image_id: str,
    *,
    entities: int | None = None,
    dimension: int = DIMENSION,
    **fields: Any,
) -> ImageRecord:
    """A record with random vectors, boxes and labels; `fields` replace what is made up here."""
    count = int(random.integers(1, 6)) if entities is None else entities
    masks = []
    for _ in range(count):
        x, y = random.integers(0, WIDTH - 8), random.integers(0, HEIGHT - 8)
        masks.append(
            Mask.from_box(Box(x, y, x + random.integers(1, 8), y + random.integers(1, 8)), HEIGHT, WIDTH)
        )
    outlined = Entities.from_masks(masks, random.random(count).astype(np.float32))
    labels = tuple([None, "dog", "Straße"][random.integers(3)] for _ in range(count))
    values: dict[str, Any] = {
        "image_id": image_id,
        "width": WIDTH,
        "height": HEIGHT,
        "entities": Entities(
            masks=outlined.masks,
            boxes=outlined.boxes,
            areas=outlined.areas,
            objectness=outlined.objectness,
            labels=labels,
            label_sources=tuple(None if label is None else "predicted" for label in labels),
        ),
        "vectors": unit_vectors(random, 1 + count, dimension),
        "content_hash": random.bytes(32).hex(),
        "payload": {"year": int(random.integers(1990, 2030)), "tags": ["ä", None, 1.5]},
    }
    return ImageRecord(**(values | fields))


def encoded(given: ImageRecord) -> tuple[Header, bytes]:
    """Header and body of a record, not yet numbered."""
    (each,) = encode_records([given], spec(dimension=given.vectors.shape[1], pixels="original"))
    return each.header, bytes(each.value[HEADER_BYTES:])


def assert_same_image(stored: ImageRecord, given: ImageRecord) -> None:
    """All that a caller gives comes back; number, version and time are the collection's."""
    for name in ("image_id", "width", "height", "content_hash", "payload"):
        assert getattr(stored, name) == getattr(given, name), name
    np.testing.assert_array_equal(stored.vectors, given.vectors)
    assert stored.entities.labels == given.entities.labels
    assert stored.entities.label_sources == given.entities.label_sources
    for name in ("boxes", "areas", "objectness"):
        np.testing.assert_array_equal(getattr(stored.entities, name), getattr(given.entities, name))
    assert [mask.to_coco() for mask in stored.entities.masks] == [
        mask.to_coco() for mask in given.entities.masks
    ]
