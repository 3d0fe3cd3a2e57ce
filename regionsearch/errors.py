"""What can go wrong, and what a client is told.

Every error that a caller can meet is one of these. Each class names, once, the canonical gRPC status
that carries it and the machine-readable reason that goes beside it (`google.rpc.ErrorInfo.reason`).

RegionSearchError                 INTERNAL
├── InvalidRequest                INVALID_ARGUMENT
│   ├── InvalidRegion
│   ├── InvalidFilter             names the place in the text and what was expected there
│   ├── InvalidImage              cannot be decoded, or breaks a limit; names the file and the reason
│   ├── InvalidRecord             a finished record that does not fit its collection
│   └── NotAccepted               the embedder does not take this part of a query
├── NotFound                      NOT_FOUND
│   ├── CollectionNotFound
│   ├── ImageNotFound
│   ├── ModelNotFound
│   ├── AliasNotFound
│   ├── SnapshotNotFound
│   └── OperationNotFound
├── CollectionExists              ALREADY_EXISTS
├── SnapshotExists                ALREADY_EXISTS
├── VersionMismatch               ABORTED, a conditional write found another version; names both
├── FailedPrecondition            FAILED_PRECONDITION
│   ├── FingerprintMismatch       collection and model differ; names both sides
│   ├── DataDirectoryInUse        another process writes to it; names the process
│   ├── NotADataDirectory         something else lies there; it is left alone
│   ├── UnsupportedFormat         written by a version that this one cannot read
│   ├── ReadOnly                  opened for reading, or on read-only storage
│   └── ModelUnavailable          weights or packages missing, or weights with another hash
├── Overloaded                    RESOURCE_EXHAUSTED, with a delay after which to try again
├── StorageFull                   RESOURCE_EXHAUSTED
├── OutOfMemory                   RESOURCE_EXHAUSTED
├── AnswerTooLarge                RESOURCE_EXHAUSTED, more bytes than one message may have
├── DataLoss                      DATA_LOSS, a stored record fails its checksum
├── Cancelled                     CANCELLED
├── DeadlineExceeded              DEADLINE_EXCEEDED
└── Unavailable                   UNAVAILABLE, the server cannot be reached or is stopping
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class RegionSearchError(Exception):
    """Base of all errors raised on purpose.

    `field` is the path of the request field at fault, in the words of the API
    (`query.region.box`), and None when no single field is. `metadata` goes into the details
    of the gRPC status; keys and values are short strings.
    """

    grpc_status: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self, message: str, *, field: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.metadata: dict[str, str] = dict(metadata or {})


class InvalidRequest(RegionSearchError):
    """The request can never succeed as it is."""

    grpc_status = "INVALID_ARGUMENT"
    reason = "INVALID_REQUEST"


class InvalidRegion(InvalidRequest):
    """A point, box, mask or polygon that is malformed, empty or outside its image."""

    reason = "INVALID_REGION"


class InvalidFilter(InvalidRequest):
    """A filter that cannot be read, or that compares what cannot be compared."""

    reason = "INVALID_FILTER"


class InvalidImage(InvalidRequest):
    """Bytes that cannot be decoded to pixels, or an image that breaks a limit."""

    reason = "INVALID_IMAGE"


class InvalidRecord(InvalidRequest):
    """A finished record that does not fit the collection it is meant for."""

    reason = "INVALID_RECORD"


class NotAccepted(InvalidRequest):
    """The collection's embedder does not take this part of a query."""

    reason = "NOT_ACCEPTED"


class NotFound(RegionSearchError):
    """A named thing does not exist."""

    grpc_status = "NOT_FOUND"
    reason = "NOT_FOUND"


class CollectionNotFound(NotFound):
    reason = "COLLECTION_NOT_FOUND"


class ImageNotFound(NotFound):
    reason = "IMAGE_NOT_FOUND"


class ModelNotFound(NotFound):
    """No embedder or segmenter is registered under this name."""

    reason = "MODEL_NOT_FOUND"


class AliasNotFound(NotFound):
    reason = "ALIAS_NOT_FOUND"


class SnapshotNotFound(NotFound):
    reason = "SNAPSHOT_NOT_FOUND"


class OperationNotFound(NotFound):
    reason = "OPERATION_NOT_FOUND"


class SnapshotExists(RegionSearchError):
    """Something lies already where a snapshot should be written."""

    grpc_status = "ALREADY_EXISTS"
    reason = "SNAPSHOT_EXISTS"


class VersionMismatch(RegionSearchError):
    """A conditional write found another version than it was made for; nothing was written."""

    grpc_status = "ABORTED"
    reason = "VERSION_MISMATCH"


class CollectionExists(RegionSearchError):
    grpc_status = "ALREADY_EXISTS"
    reason = "COLLECTION_EXISTS"


class FailedPrecondition(RegionSearchError):
    """The request is well formed, but the state of the system forbids it."""

    grpc_status = "FAILED_PRECONDITION"
    reason = "FAILED_PRECONDITION"


class FingerprintMismatch(FailedPrecondition):
    """A collection was made by another model than the one at hand; the message names both."""

    reason = "FINGERPRINT_MISMATCH"


class DataDirectoryInUse(FailedPrecondition):
    """Another process holds the data directory for writing; the message names it."""

    reason = "DATA_DIRECTORY_IN_USE"


class NotADataDirectory(FailedPrecondition):
    """The path holds something that is not a RegionSearch data directory."""

    reason = "NOT_A_DATA_DIRECTORY"


class UnsupportedFormat(FailedPrecondition):
    reason = "UNSUPPORTED_FORMAT"


class ReadOnly(FailedPrecondition):
    reason = "READ_ONLY"


class ModelUnavailable(FailedPrecondition):
    """A model's packages or weights are missing, or the weights are not the expected ones."""

    reason = "MODEL_UNAVAILABLE"


class Overloaded(RegionSearchError):
    """Too much work is waiting. `retry_after_seconds` is a hint, at least 0."""

    grpc_status = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StorageFull(RegionSearchError):
    grpc_status = "RESOURCE_EXHAUSTED"
    reason = "STORAGE_FULL"


class OutOfMemory(RegionSearchError):
    grpc_status = "RESOURCE_EXHAUSTED"
    reason = "OUT_OF_MEMORY"


class AnswerTooLarge(RegionSearchError):
    """What was asked for has more bytes than one message may have; the message says what to leave out."""

    grpc_status = "RESOURCE_EXHAUSTED"
    reason = "ANSWER_TOO_LARGE"


class DataLoss(RegionSearchError):
    """A stored record does not match its checksum; the message names it and what it costs."""

    grpc_status = "DATA_LOSS"
    reason = "DATA_LOSS"


class Cancelled(RegionSearchError):
    grpc_status = "CANCELLED"
    reason = "CANCELLED"


class DeadlineExceeded(RegionSearchError):
    grpc_status = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class Unavailable(RegionSearchError):
    grpc_status = "UNAVAILABLE"
    reason = "UNAVAILABLE"
