"""Images whose every part says which write it is of, so that a mixture of two writes shows."""

from __future__ import annotations

import zlib

import numpy as np
from stored_images import DIMENSION, record, unit_vectors

from regionsearch.collection import Collection, ImageRecord

GONE = (-1, -1)
"""The state of an image that is not there. Otherwise: the mark of its upsert, and of its payload."""

State = tuple[int, int]


def marked_record(image_id: str, mark: int) -> ImageRecord:
    """The same each time, and its vectors like no other's. 1 to 3 entities, a year of 40 in the payload."""
    random = np.random.default_rng([mark, zlib.crc32(image_id.encode())])
    count = 1 + mark % 3
    return record(
        random,
        image_id,
        entities=count,
        vectors=unit_vectors(random, 1 + count),
        payload={"mark": mark, "touched": mark, "year": 1990 + mark % 40},
        content_hash=f"{mark:064x}",
        pixels=b"%d" % mark,
    )


def state_of(collection: Collection, image_id: str) -> State:
    """What the image is now. Raises AssertionError when its parts are of different writes."""
    if not collection.contains(image_id):
        return GONE
    stored = collection.get(image_id, pixels=True)
    mark = int(stored.payload["mark"])
    meant = marked_record(image_id, mark)
    assert stored.content_hash == meant.content_hash, "half of an image"
    assert stored.pixels == meant.pixels, "half of an image"
    assert stored.vectors.shape == (1 + mark % 3 + 1, DIMENSION), "half of an image"
    np.testing.assert_array_equal(stored.vectors, meant.vectors)
    np.testing.assert_array_equal(stored.entities.boxes, meant.entities.boxes)
    return mark, int(stored.payload["touched"])
