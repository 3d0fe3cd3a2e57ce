"""ImageService."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import grpc

from regionsearch.collection.idempotency import check_key
from regionsearch.collection.purging import purge
from regionsearch.collection.validation import check_image_id
from regionsearch.errors import InvalidRequest
from regionsearch.filters import parse
from regionsearch.serving.backend import Backend
from regionsearch.serving.image_lists import export, listed
from regionsearch.serving.image_messages import record_to_message, selection_of
from regionsearch.serving.operation_messages import operation_to_message
from regionsearch.serving.operations import Outcome, Steps
from regionsearch.serving.record_batches import upsert_record_stream, upsert_records
from regionsearch.serving.required import (
    DURABILITY_NAMES,
    blaming,
    collection_of,
    naming,
    naming_image,
    naming_payload,
    required,
)
from regionsearch.serving.snapshot_shelf import SnapshotShelf
from regionsearch.serving.uploads import bring_in, payload_of
from regionsearch.v1 import images_pb2 as pb
from regionsearch.v1 import images_pb2_grpc

REPORTED_FAILURES = 1_000
"""Failures that the answer to a stream names; the others are counted."""
DELETED_AT_ONCE = 1_000
PURGED_SNAPSHOTS = 1_000


class ImageServicer(images_pb2_grpc.ImageServiceServicer):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._shelf = SnapshotShelf(backend.snapshots)

    def UpsertImages(  # noqa: N802
        self, request: pb.UpsertImagesRequest, context: grpc.ServicerContext
    ) -> pb.UpsertImagesResponse:
        collection = collection_of(self._backend, request.collection)
        limit = self._backend.limits.batch_images
        if not 1 <= len(request.images) <= limit:
            raise InvalidRequest(
                f"the call has {len(request.images)} images; it can have 1 to {limit} (limits.batch_images)",
                field="images",
            )
        if request.idempotency_key:
            check_key(request.idempotency_key)
        durability = DURABILITY_NAMES[request.durability]
        for number, image in enumerate(request.images):
            if image.HasField("if_version") and durability == "buffered":
                raise InvalidRequest(
                    "a condition is judged when the picture is on disk, so that it cannot be buffered",
                    field=f"images[{number}].if_version",
                )
        response = pb.UpsertImagesResponse()
        outcomes = bring_in(
            self._backend,
            collection,
            request.images,
            context,
            idempotency_key=request.idempotency_key,
            durability=durability,
        )
        for outcome in outcomes:
            response.upserted.extend(outcome.upserted)
            response.failures.extend(outcome.failures)
            response.entities += outcome.entities
        response.failures.sort(key=lambda failure: failure.position)
        return response

    def UpsertImageStream(  # noqa: N802
        self, requests: Iterator[pb.UpsertImageStreamRequest], context: grpc.ServicerContext
    ) -> pb.UpsertImageStreamResponse:
        first = next(requests, None)
        if first is None:
            raise InvalidRequest("the stream has no message", field="collection")
        collection = collection_of(self._backend, first.collection)
        response = pb.UpsertImageStreamResponse()
        uploads = _uploads_of(first, requests, response)
        for outcome in bring_in(self._backend, collection, uploads, context):
            created = sum(image.created for image in outcome.upserted)
            response.created += created
            response.replaced += len(outcome.upserted) - created
            response.failed += len(outcome.failures)
            response.failures.extend(outcome.failures[: REPORTED_FAILURES - len(response.failures)])
            response.entities += outcome.entities
        response.failures.sort(key=lambda failure: failure.position)
        return response

    def GetImage(  # noqa: N802
        self, request: pb.GetImageRequest, context: grpc.ServicerContext
    ) -> pb.GetImageResponse:
        collection = collection_of(self._backend, request.collection)
        image_id = required(request.image_id, "image_id")
        selection = selection_of(request)
        with naming_image(image_id):
            record = collection.get(image_id, pixels=request.with_pixels)
        return pb.GetImageResponse(image=record_to_message(record, selection))

    def ListImages(  # noqa: N802
        self, request: pb.ListImagesRequest, context: grpc.ServicerContext
    ) -> pb.ListImagesResponse:
        collection = collection_of(self._backend, request.collection)
        return listed(collection, request, self._backend.limits, context)

    def DeleteImages(  # noqa: N802
        self, request: pb.DeleteImagesRequest, context: grpc.ServicerContext
    ) -> pb.DeleteImagesResponse:
        collection = collection_of(self._backend, request.collection)
        image_ids = _ids_of(request.image_ids)
        deleted = collection.delete(
            image_ids,
            if_versions=dict(request.if_versions) or None,
            idempotency_key=request.idempotency_key,
            durability=DURABILITY_NAMES[request.durability],
        )
        return pb.DeleteImagesResponse(deleted=deleted, missing=len(image_ids) - deleted)

    def UpsertRecords(  # noqa: N802
        self, request: pb.UpsertRecordsRequest, context: grpc.ServicerContext
    ) -> pb.UpsertRecordsResponse:
        collection = collection_of(self._backend, request.collection)
        return upsert_records(self._backend, collection, request, context)

    def UpsertRecordStream(  # noqa: N802
        self, requests: Iterator[pb.UpsertRecordsRequest], context: grpc.ServicerContext
    ) -> pb.UpsertRecordStreamResponse:
        return upsert_record_stream(self._backend, requests, context)

    def UpdatePayload(  # noqa: N802
        self, request: pb.UpdatePayloadRequest, context: grpc.ServicerContext
    ) -> pb.UpdatePayloadResponse:
        collection = collection_of(self._backend, request.collection)
        image_id = required(request.image_id, "image_id")
        payload = payload_of(request.payload_json)
        with naming_image(image_id), naming_payload():
            result = collection.update_payload(
                image_id,
                payload,
                merge=request.merge,
                if_version=request.if_version if request.HasField("if_version") else None,
                idempotency_key=request.idempotency_key,
                durability=DURABILITY_NAMES[request.durability],
            )
        return pb.UpdatePayloadResponse(version=result.version)

    def CountImages(  # noqa: N802
        self, request: pb.CountImagesRequest, context: grpc.ServicerContext
    ) -> pb.CountImagesResponse:
        counted = collection_of(self._backend, request.collection).count(request.filter)
        return pb.CountImagesResponse(images=counted.images, entities=counted.entities, notes=counted.notes)

    def ExportImages(  # noqa: N802
        self, request: pb.ExportImagesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportImagesResponse]:
        collection = collection_of(self._backend, request.collection)
        return export(collection, request, self._backend.limits, context)

    def DeleteMatching(  # noqa: N802
        self, request: pb.DeleteMatchingRequest, context: grpc.ServicerContext
    ) -> pb.DeleteMatchingResponse:
        name = collection_of(self._backend, request.collection).spec.name
        where = request.filter
        if not where.strip():
            raise InvalidRequest(
                "filter is missing; without one everything would be deleted, as DeleteCollection does",
                field="filter",
            )
        # Now, while somebody waits: one that cannot be read is no operation.
        parse(where)
        if request.idempotency_key:
            check_key(request.idempotency_key)

        def work(steps: Steps) -> Outcome:
            # When its turn comes, the collection may have given way to a snapshot of it.
            deleted = collection_of(self._backend, name).delete_matching(
                where,
                idempotency_key=request.idempotency_key,
                progress=steps.progress,
                check=steps.check,
            )
            return Outcome(deleted)

        operation = self._backend.begin("delete_matching", name, work)
        return pb.DeleteMatchingResponse(operation=operation_to_message(operation))

    def PurgeImages(  # noqa: N802
        self, request: pb.PurgeImagesRequest, context: grpc.ServicerContext
    ) -> pb.PurgeImagesResponse:
        collection = collection_of(self._backend, request.collection)
        name, image_ids = collection.spec.name, _ids_of(request.image_ids)
        # Now, while somebody waits: what cannot be is no operation.
        for number, image_id in enumerate(image_ids):
            with blaming(f"image_ids[{number}]"):
                check_image_id(image_id)
        if len(request.snapshots) > PURGED_SNAPSHOTS:
            raise InvalidRequest(
                f"the call has {len(request.snapshots)} snapshots; it can have {PURGED_SNAPSHOTS}",
                field="snapshots",
            )
        # Each once: rewriting one takes long.
        places = list(
            dict.fromkeys(
                self._shelf.place(snapshot, f"snapshots[{number}]")
                for number, snapshot in enumerate(request.snapshots)
            )
        )

        def work(steps: Steps) -> Outcome:
            with self._shelf.unnamed(), naming(self._backend, name, "collection"):
                report = purge(
                    self._backend.directory,
                    name,
                    image_ids,
                    snapshots=places,
                    progress=steps.progress,
                    check=steps.check,
                )
            return Outcome(report.deleted, complete=report.complete, notes=report.notes)

        operation = self._backend.begin("purge", name, work)
        return pb.PurgeImagesResponse(operation=operation_to_message(operation))


def _ids_of(image_ids: Sequence[str]) -> list[str]:
    """Raises InvalidRequest unless there are 1 to 1,000, none empty."""
    if not 1 <= len(image_ids) <= DELETED_AT_ONCE:
        raise InvalidRequest(
            f"the call has {len(image_ids)} image ids; it can have 1 to {DELETED_AT_ONCE}", field="image_ids"
        )
    return [required(image_id, f"image_ids[{number}]") for number, image_id in enumerate(image_ids)]


def _uploads_of(
    first: pb.UpsertImageStreamRequest,
    rest: Iterator[pb.UpsertImageStreamRequest],
    response: pb.UpsertImageStreamResponse,
) -> Iterator[pb.ImageUpload]:
    """The stream's pictures, counted in the response as they arrive.

    Raises InvalidRequest for a message without a picture, or of another collection than the first.
    """
    message: pb.UpsertImageStreamRequest | None = first
    while message is not None:
        if not message.HasField("image"):
            raise InvalidRequest(f"message {response.received} of the stream has no image", field="image")
        if message.collection not in ("", first.collection):
            raise InvalidRequest(
                f"message {response.received} of the stream is for collection {message.collection!r:.200}, "
                f"the first was for {first.collection!r}",
                field="collection",
            )
        response.received += 1
        yield message.image
        message = next(rest, None)
