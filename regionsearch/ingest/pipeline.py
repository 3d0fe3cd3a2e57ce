"""One image to one record: decode, segment, embed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from regionsearch.collection import ImageRecord
from regionsearch.collection.records import PixelsKept
from regionsearch.config import Limits
from regionsearch.errors import InvalidImage, InvalidRequest
from regionsearch.images import Image, content_hash, decode_image, thumbnail_jpeg
from regionsearch.models.embedder import Embedder
from regionsearch.models.features import DenseFeatures
from regionsearch.models.segmenter import DEFAULT_ENTITY_LIMIT, Segmenter

STEPS = ("decode", "segment", "embed", "store")
BATCH_IMAGES = 8
"""Images that go through the network together; more gained nothing on two cores."""
BATCH_MEGAPIXELS = 48.0
"""Decoded pixels held at once (3 bytes each), unless a single image is larger."""


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image on its way in: an id, its encoded bytes (JPEG, PNG, ...) and a payload.

    image_id: "" stands for the sha256 of the bytes. source: how messages name it; "" = the id.
    """

    image_id: str
    data: bytes
    payload: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def name(self) -> str:
        return self.source or self.image_id or "image without an id"


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be stored, as it was named by its source, and why: for people, and in the
    machine-readable word of `regionsearch.errors`."""

    source: str
    reason: str
    kind: str = InvalidImage.reason


class StepClock:
    """Adds up the seconds spent in each step of indexing."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STEPS, 0.0)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def add(self, seconds: Mapping[str, float]) -> None:
        for name, value in seconds.items():
            self.seconds[name] += value


@dataclass(frozen=True, eq=False)
class DecodedBatch:
    """Images that go through the network together, and those met on the way that cannot."""

    images: list[tuple[EncodedImage, Image]]
    failures: list[Failure]


def decoded_batches(
    images: Sequence[EncodedImage], limits: Limits, clock: StepClock
) -> Iterator[DecodedBatch]:
    """Decodes as far as the next batch needs: BATCH_IMAGES and BATCH_MEGAPIXELS at most."""
    batch = DecodedBatch([], [])
    megapixels = 0.0
    for encoded in images:
        try:
            with clock.step("decode"):
                image = decode_image(
                    encoded.data,
                    encoded.name,
                    max_megapixels=limits.image_megapixels,
                    max_bytes=limits.image_bytes,
                )
        except InvalidRequest as error:
            batch.failures.append(Failure(encoded.name, error.message))
            continue
        size = image.height * image.width / 1e6
        if batch.images and (len(batch.images) == BATCH_IMAGES or megapixels + size > BATCH_MEGAPIXELS):
            yield batch
            batch, megapixels = DecodedBatch([], []), 0.0
        batch.images.append((encoded, image))
        megapixels += size
    yield batch


class Pipeline:
    """Turns encoded images into finished records, several at a time.

    A network that embedder and segmenter share runs once for each image; its time counts as `embed`.
    Not safe for several threads at once: its clock belongs to one caller.
    """

    def __init__(
        self,
        embedder: Embedder,
        segmenter: Segmenter,
        *,
        pixels: PixelsKept = "thumbnail",
        entity_limit: int = DEFAULT_ENTITY_LIMIT,
        limits: Limits | None = None,
    ) -> None:
        self._embedder = embedder
        self._segmenter = segmenter
        self._pixels = pixels
        self._entity_limit = entity_limit
        self._limits = limits or Limits()
        self.clock = StepClock()

    def run(self, images: Sequence[EncodedImage]) -> tuple[list[ImageRecord], list[Failure]]:
        """Records of the images that worked, in their order, and a failure for each other one.

        A bad image never raises; an error of a model does, since it would meet the next image too.
        """
        records: list[ImageRecord] = []
        failures: list[Failure] = []
        for batch in decoded_batches(images, self._limits, self.clock):
            records.extend(self.compute(batch))
            failures.extend(batch.failures)
        return records, failures

    def compute(self, batch: DecodedBatch) -> list[ImageRecord]:
        """The records of a batch that is decoded already, perhaps by another thread."""
        return self._records(batch.images) if batch.images else []

    def _records(self, batch: Sequence[tuple[EncodedImage, Image]]) -> list[ImageRecord]:
        pictures = [image for _, image in batch]
        features: Sequence[DenseFeatures] | None = None
        if self._embedder.backbone is not None:
            with self.clock.step("embed"):
                features = self._embedder.backbone.features(pictures)
        with self.clock.step("segment"):
            shared = _shared_features(self._segmenter, features)
            entities = self._segmenter.propose(pictures, shared, limit=self._entity_limit)
        with self.clock.step("embed"):
            vectors = self._embedder.embed_images(pictures, entities, features)
        records = []
        with self.clock.step("store"):
            for (encoded, image), found, embedded in zip(batch, entities, vectors, strict=True):
                digest = content_hash(encoded.data)
                records.append(
                    ImageRecord(
                        image_id=encoded.image_id or digest,
                        width=image.width,
                        height=image.height,
                        entities=found,
                        vectors=np.concatenate([embedded.image[None], embedded.entities]),
                        content_hash=digest,
                        payload=encoded.payload,
                        pixels=self._kept_pixels(encoded, image),
                    )
                )
        return records

    def _kept_pixels(self, encoded: EncodedImage, image: Image) -> bytes | None:
        if self._pixels == "original":
            return encoded.data
        return thumbnail_jpeg(image) if self._pixels == "thumbnail" else None


def _shared_features(
    segmenter: Segmenter, features: Sequence[DenseFeatures] | None
) -> list[DenseFeatures] | None:
    """What the embedder's pass has already computed for the segmenter; None unless it is all there."""
    if segmenter.backbone is None or features is None:
        return None
    parts = [dense.part(segmenter.backbone.source) for dense in features]
    return [part for part in parts if part is not None] if None not in parts else None
