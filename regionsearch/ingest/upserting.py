"""Brings encoded images into a collection, computing only what is not known yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    known = collection.find_content(digest, pixels=True)
    return None if known is None else _copied(known, image)


def copies_for_twins(
    records: Sequence[ImageRecord], twins: Mapping[str, Sequence[EncodedImage]]
) -> tuple[list[ImageRecord], list[Failure]]:
    """Records for images whose bytes are those of an image that was just computed.

    twins: by content hash. Where there is no record of these bytes, their images fail too.
    """
    computed = {record.content_hash: record for record in records}
    copies: list[ImageRecord] = []
    failures: list[Failure] = []
    for digest, images in twins.items():
        if digest in computed:
            copies.extend(_copied(computed[digest], image) for image in images)
        else:
            failures.extend(
                Failure(image.name, "its bytes are those of another image that failed") for image in images
            )
    return copies, failures


def _copied(record: ImageRecord, image: EncodedImage) -> ImageRecord:
    return replace(record, image_id=image.image_id or record.content_hash, payload=image.payload)


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

    Bytes that the collection already holds are not computed again, and equal ones once. A bad image is
    reported and leaves the others alone.
    """
    copies: list[ImageRecord] = []
    fresh: list[EncodedImage] = []
    twins: dict[str, list[EncodedImage]] = {}
    with pipeline.clock.step("store"):
        hashed = [(image, content_hash(image.data)) for image in images]
        # Of two images with one id in the same batch, the last is the one that counts.
        last = {image.image_id or digest: (image, digest) for image, digest in hashed}
        for image, digest in last.values():
            if digest in twins:
                twins[digest].append(image)
                continue
            copy = copy_of_known(collection, image, digest)
            if copy is None:
                twins[digest] = []
                fresh.append(image)
            else:
                copies.append(copy)
    records, failures = pipeline.run(fresh)
    twin_copies, twin_failures = copies_for_twins(records, twins)
    outcome = store(collection, pipeline, [*copies, *records, *twin_copies])
    return UpsertOutcome(outcome.stored, [*failures, *twin_failures, *outcome.failures], outcome.entities)
