"""Brings encoded images into a collection, computing only what is not known yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from regionsearch.collection import Collection, ImageRecord, UpsertResult
from regionsearch.errors import InvalidRecord
from regionsearch.images import content_hash
from regionsearch.ingest.pipeline import EncodedImage, Failure, Pipeline


@dataclass(frozen=True, eq=False)
class UpsertOutcome:
    """stored: one result an image that landed. failures: the others, each with its reason."""

    stored: list[UpsertResult]
    failures: list[Failure]
    entities: int


def copy_of_known(collection: Collection, image: EncodedImage, digest: str) -> ImageRecord | None:
    """The record of an image whose very bytes the collection already has, perhaps under another id.

    Vectors and entities are copied; id and payload are the newcomer's. None when the bytes are new.
    """
    known = collection.find_content(digest)
    if known is None:
        return None
    return replace(
        known,
        image_id=image.image_id or digest,
        payload=image.payload,
        pixels=collection.pixels(known.image_id),
    )


def store(collection: Collection, pipeline: Pipeline, records: Sequence[ImageRecord]) -> UpsertOutcome:
    """Upserts finished records in one transaction; one that does not fit is named and left out."""
    failures: list[Failure] = []
    with pipeline.clock.step("store"):
        fitting = []
        for record in records:
            try:
                collection.check(record)
            except InvalidRecord as error:
                failures.append(Failure(record.image_id, error.message))
            else:
                fitting.append(record)
        stored = collection.upsert(fitting) if fitting else []
    return UpsertOutcome(stored, failures, sum(len(record.entities) for record in fitting))


def upsert_images(
    collection: Collection, pipeline: Pipeline, images: Sequence[EncodedImage]
) -> UpsertOutcome:
    """Decodes, segments, embeds and stores a batch; returns when the good images are on disk.

    Bytes that the collection already holds are not computed again. A bad image is reported and
    leaves the others alone.
    """
    copies: list[ImageRecord] = []
    fresh: list[EncodedImage] = []
    with pipeline.clock.step("store"):
        hashed = [(image, content_hash(image.data)) for image in images]
        # Of two images with one id in the same batch, the last is the one that counts.
        last = {image.image_id or digest: (image, digest) for image, digest in hashed}
        for image, digest in last.values():
            copy = copy_of_known(collection, image, digest)
            if copy is None:
                fresh.append(image)
            else:
                copies.append(copy)
    records, failures = pipeline.run(fresh)
    outcome = store(collection, pipeline, [*copies, *records])
    return UpsertOutcome(outcome.stored, [*failures, *outcome.failures], outcome.entities)
