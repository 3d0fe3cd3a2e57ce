"""Brings encoded images into a collection, computing only what is not known yet."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from regionsearch.collection import Collection, ImageRecord, UpsertResult
from regionsearch.collection.records import Durability
from regionsearch.errors import InvalidRecord, VersionMismatch
from regionsearch.images import content_hash
from regionsearch.ingest.pipeline import EncodedImage, Failure, Pipeline


@dataclass(frozen=True, eq=False)
class UpsertOutcome:
    """stored: one result an image that landed. failures: the others, each with its reason."""

    stored: list[UpsertResult]
    failures: list[Failure]
    entities: int


@dataclass(frozen=True, slots=True)
class WriteTerms:
    """Under which conditions, and with which guarantees, images are stored.

    if_versions: by image id, as in `Collection.upsert`. idempotency_key: of all the images together.
    """

    if_versions: Mapping[str, int] = field(default_factory=dict)
    idempotency_key: str = ""
    durability: Durability = "synced"

    def key_of(self, part: str) -> str:
        """A key for some of the images: one for each part, the same again for the same call."""
        if not self.idempotency_key:
            return ""
        return hashlib.sha256(f"{self.idempotency_key}\0{part}".encode()).hexdigest()


NO_TERMS = WriteTerms()


def copy_of_known(collection: Collection, image: EncodedImage, digest: str) -> ImageRecord | None:
    """The record of an image whose very bytes the collection already has, perhaps under another id.

    Vectors and entities are copied; id and payload are the newcomer's. None when the bytes are new, or when
    their record shows that it came finished: it says what is in the picture in somebody's own words, or has
    no picture where the collection keeps one.
    """
    known = collection.find_content(digest, pixels=True)
    if known is None or "given" in known.entities.label_sources:
        return None
    if known.pixels is None and collection.spec.pixels != "none":
        return None
    return _copied(known, image)


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


def store(
    collection: Collection,
    pipeline: Pipeline,
    records: Sequence[ImageRecord],
    terms: WriteTerms = NO_TERMS,
) -> UpsertOutcome:
    """Upserts finished records in one transaction; one that does not fit is named and left out.

    Records with a condition are upserted one by one, so that a version that does not fit is theirs alone.
    """
    failures: list[Failure] = []
    with pipeline.clock.step("store"):
        fitting: list[ImageRecord] = []
        stored: list[UpsertResult] = []
        entities = 0
        for record in records:
            try:
                collection.check(record)
                if record.image_id in terms.if_versions:
                    stored += collection.upsert(
                        [record],
                        if_versions={record.image_id: terms.if_versions[record.image_id]},
                        idempotency_key=terms.key_of(f"image {record.image_id}"),
                        durability=terms.durability,
                    )
                    entities += len(record.entities)
                else:
                    fitting.append(record)
            except (InvalidRecord, VersionMismatch) as error:
                failures.append(Failure(record.image_id, error.message, error.reason))
        if fitting:
            key = terms.key_of("the others")
            stored += collection.upsert(fitting, idempotency_key=key, durability=terms.durability)
            entities += sum(len(record.entities) for record in fitting)
    return UpsertOutcome(stored, failures, entities)


def upsert_images(
    collection: Collection,
    pipeline: Pipeline,
    images: Sequence[EncodedImage],
    terms: WriteTerms = NO_TERMS,
) -> UpsertOutcome:
    """Decodes, segments, embeds and stores a batch; returns when the good images are on disk, or as the
    terms' durability says.

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
    outcome = store(collection, pipeline, [*copies, *records, *twin_copies], terms)
    return UpsertOutcome(outcome.stored, [*failures, *twin_failures, *outcome.failures], outcome.entities)
