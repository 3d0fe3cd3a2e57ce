"""Pictures that arrive in calls: judged one by one, brought in by small batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import grpc

from regionsearch.collection import Collection
from regionsearch.collection.records import MAX_PAYLOAD_BYTES, Durability
from regionsearch.collection.validation import MAX_PAYLOAD_DEPTH, check_image_id
from regionsearch.config import Limits
from regionsearch.errors import InvalidImage, InvalidRecord, InvalidRequest, RegionSearchError
from regionsearch.images import content_hash
from regionsearch.ingest import EncodedImage, WriteTerms, upsert_images
from regionsearch.serving.backend import Backend
from regionsearch.serving.calls import check_alive
from regionsearch.serving.status import shortened
from regionsearch.v1 import images_pb2 as pb

BATCH_IMAGES = 8
"""Pictures decoded, embedded and committed together; the pipeline's own batch."""
BATCH_BYTES = 64 * 1024 * 1024
"""Encoded bytes held for one batch, unless a single picture is larger: with BATCH_IMAGES it bounds
what a stream can make the server hold."""
MESSAGE_BYTES = 1_000


@dataclass(frozen=True, eq=False)
class BatchOutcome:
    """What became of some pictures; each knows its place in the request."""

    upserted: list[pb.UpsertedImage]
    failures: list[pb.UpsertFailure]
    entities: int = 0


@dataclass(frozen=True, eq=False)
class Placed:
    """A picture, its place in the call, and the version that its image must have (None: any)."""

    place: int
    image: EncodedImage
    if_version: int | None


def bring_in(
    backend: Backend,
    collection: Collection,
    uploads: Iterable[pb.ImageUpload],
    context: grpc.ServicerContext,
    *,
    idempotency_key: str = "",
    durability: Durability = "synced",
) -> Iterator[BatchOutcome]:
    """Stores the pictures as they come, and says after each batch what became of it.

    A picture that cannot be taken becomes a failure; the others of its batch are stored. Errors that
    would meet every picture (no model, no room) are raised. An error of `uploads` itself, such as a
    stream that breaks off, is raised when the pictures that came before it are stored.
    """
    pipeline = backend.pipeline(collection)

    def stored(batch: list[Placed], waiting: grpc.ServicerContext | None) -> BatchOutcome:
        terms = WriteTerms(
            {each.image.image_id: each.if_version for each in batch if each.if_version is not None},
            f"{idempotency_key}/{batch[0].place}" if idempotency_key else "",
            durability,
        )
        # Models run for one call at a time, so that searches beside an upload keep their cores.
        with backend.ingest.turn(waiting):
            outcome = upsert_images(collection, pipeline, [each.image for each in batch], terms)
            # Whoever doubles a collection pays for its new statistics, not the next one who searches.
            backend.refresh(collection)
        places = {each.image.image_id: each.place for each in batch}
        return BatchOutcome(
            upserted=sorted(
                (
                    pb.UpsertedImage(
                        image_id=result.image_id,
                        position=places[result.image_id],
                        created=result.created,
                        version=result.version,
                    )
                    for result in outcome.stored
                ),
                key=lambda image: image.position,
            ),
            failures=[
                failure_message(failure.source, places[failure.source], failure.kind, failure.reason)
                for failure in outcome.failures
            ],
            entities=outcome.entities,
        )

    yield from _in_batches(uploads, backend.limits, stored, context)


def _in_batches(
    uploads: Iterable[pb.ImageUpload],
    limits: Limits,
    stored: Callable[[list[Placed], grpc.ServicerContext | None], BatchOutcome],
    context: grpc.ServicerContext,
) -> Iterator[BatchOutcome]:
    batch: list[Placed] = []
    held = 0
    interruption: RegionSearchError | None = None
    arriving = enumerate(uploads)
    while True:
        try:
            check_alive(context)
            place, upload = next(arriving)
        except StopIteration:
            break
        except RegionSearchError as error:
            interruption = error
            break
        try:
            image = judged(upload, limits)
        except InvalidRequest as error:
            yield BatchOutcome([], [failure_message(upload.image_id, place, error.reason, error.message)])
            continue
        # Two pictures with one id never share a batch: the later one replaces the earlier.
        repeated = any(image.image_id == other.image.image_id for other in batch)
        if batch and (repeated or len(batch) == BATCH_IMAGES or held + len(image.data) > BATCH_BYTES):
            yield stored(batch, context)
            batch, held = [], 0
        if_version = upload.if_version if upload.HasField("if_version") else None
        batch.append(Placed(place, image, if_version))
        held += len(image.data)
    if batch:
        # Pictures that arrived whole are kept, even when the caller is gone. gRPC may end a stream that broke
        # off as if in order, and tell only later that nobody waits.
        yield stored(batch, None)
    if interruption is not None:
        raise interruption


def judged(upload: pb.ImageUpload, limits: Limits) -> EncodedImage:
    """The picture with its id, given or derived. Raises InvalidRequest and its kin, naming the field."""
    if not upload.image:
        raise InvalidImage("the picture has no bytes", field="image")
    if len(upload.image) > limits.image_bytes:
        raise InvalidImage(
            f"the picture has {len(upload.image)} bytes; "
            f"the limit is {limits.image_bytes} (limits.image_bytes)",
            field="image",
        )
    image_id = upload.image_id if upload.HasField("image_id") else content_hash(upload.image)
    check_image_id(image_id)
    return EncodedImage(image_id, upload.image, payload_of(upload.payload_json))


def payload_of(text: str) -> dict[str, object]:
    """The JSON object in the text; nothing is an empty one. Raises InvalidRecord for anything else."""
    if not text:
        return {}
    if len(text.encode()) > MAX_PAYLOAD_BYTES:
        raise InvalidRecord(
            f"payload has {len(text.encode())} bytes; the limit is {MAX_PAYLOAD_BYTES}", field="payload_json"
        )
    try:
        payload = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRecord(f"payload is not JSON: {error}", field="payload_json") from error
    _refuse_what_cannot_be_kept(payload)
    if not isinstance(payload, dict):
        raise InvalidRecord(
            f"payload is a JSON {type(payload).__name__}, not an object", field="payload_json"
        )
    return payload


def _refuse_what_cannot_be_kept(value: object, depth: int = 0) -> None:
    if depth > MAX_PAYLOAD_DEPTH:
        raise InvalidRecord(f"payload is nested more than {MAX_PAYLOAD_DEPTH} deep", field="payload_json")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidRecord(
                "payload has a lone surrogate, which is no text", field="payload_json"
            ) from error
    elif isinstance(value, dict):
        for key, part in value.items():
            _refuse_what_cannot_be_kept(key, depth + 1)
            _refuse_what_cannot_be_kept(part, depth + 1)
    elif isinstance(value, list):
        for part in value:
            _refuse_what_cannot_be_kept(part, depth + 1)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


def failure_message(image_id: str, place: int, reason: str, message: str) -> pb.UpsertFailure:
    return pb.UpsertFailure(
        image_id=shortened(image_id, MESSAGE_BYTES),
        position=place,
        reason=reason,
        message=shortened(message, MESSAGE_BYTES),
    )
