"""From an error to what a client is told: a canonical code and google.rpc details.

The one place where errors become gRPC statuses. Every class of `regionsearch.errors` names its own
code and reason; what is not among them is a fault of ours and tells the client nothing but a number
to find in the log.
"""

from __future__ import annotations

import logging
import secrets
from typing import TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from regionsearch.errors import (
    AliasNotFound,
    CollectionNotFound,
    ImageNotFound,
    ModelNotFound,
    NotFound,
    OperationNotFound,
    Overloaded,
    RegionSearchError,
    SnapshotNotFound,
)
from regionsearch.v1 import operations_pb2, search_pb2

ERROR_DOMAIN = "regionsearch"
_LOG = logging.getLogger("regionsearch.serving")

# HTTP/2 peers refuse header blocks above 8 KiB, and gRPC sends the message twice: percent-encoded
# (three bytes for each one that is not ASCII) and in the details. A message that quotes a long id
# must not become a broken connection.
_MESSAGE_BYTES = 1_000
_FIELD_BYTES = 200
_METADATA_ENTRIES = 6
_Brief = TypeVar("_Brief", search_pb2.BatchSearchError, operations_pb2.OperationError)

_RESOURCE_TYPES: dict[type[NotFound], str] = {
    AliasNotFound: "alias",
    CollectionNotFound: "collection",
    ImageNotFound: "image",
    ModelNotFound: "model",
    OperationNotFound: "operation",
    SnapshotNotFound: "snapshot",
}


def status_of(error: BaseException) -> status_pb2.Status:
    """The status that carries this error; an unexpected one is logged with its traceback."""
    return _status_of_known(told(error))


def batch_error_of(error: Exception) -> search_pb2.BatchSearchError:
    """The same for one question of several: code, message, reason and field."""
    return _in_brief(search_pb2.BatchSearchError, told(error))


def operation_error_of(error: RegionSearchError) -> operations_pb2.OperationError:
    """The same for an operation that failed: code, message, reason and field."""
    return _in_brief(operations_pb2.OperationError, error)


def _in_brief(kind: type[_Brief], error: RegionSearchError) -> _Brief:
    return kind(
        code=grpc.StatusCode[error.grpc_status].value[0],
        message=shortened(error.message, _MESSAGE_BYTES),
        reason=error.reason,
        field=shortened(error.field or "", _FIELD_BYTES),
    )


def told(error: BaseException) -> RegionSearchError:
    """What a client is told of it: the error, or for a fault of ours the number under which it is logged."""
    if isinstance(error, RegionSearchError):
        return error
    incident = secrets.token_hex(6)
    _LOG.error("incident=%s unexpected error", incident, exc_info=error)
    return RegionSearchError(
        f"internal error; the server's log has it as incident {incident}", metadata={"incident": incident}
    )


def _status_of_known(error: RegionSearchError) -> status_pb2.Status:
    details: list[Message] = []
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=shortened(error.field, _FIELD_BYTES), description=shortened(error.message, _FIELD_BYTES)
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, Overloaded):
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after_seconds * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    resource = _RESOURCE_TYPES.get(type(error)) if isinstance(error, NotFound) else None
    if resource is not None:
        details.append(
            error_details_pb2.ResourceInfo(
                resource_type=resource,
                resource_name=shortened(error.metadata.get(resource, ""), _FIELD_BYTES),
                description=shortened(error.message, _FIELD_BYTES),
            )
        )
    return _status(error, details)


def _status(error: RegionSearchError, details: list[Message] | None = None) -> status_pb2.Status:
    metadata = dict(list(error.metadata.items())[:_METADATA_ENTRIES])
    info = error_details_pb2.ErrorInfo(
        reason=error.reason,
        domain=ERROR_DOMAIN,
        metadata={key: shortened(value, _FIELD_BYTES) for key, value in metadata.items()},
    )
    packed = []
    for detail in (info, *(details or [])):
        carrier = AnyMessage()
        carrier.Pack(detail)
        packed.append(carrier)
    code = grpc.StatusCode[error.grpc_status]
    return status_pb2.Status(
        code=code.value[0], message=shortened(error.message, _MESSAGE_BYTES), details=packed
    )


def shortened(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, cut between characters and marked by an ellipsis."""
    encoded = text.encode("utf-8", errors="replace")
    if len(encoded) <= limit:
        return encoded.decode("utf-8")
    return encoded[: limit - 3].decode("utf-8", errors="ignore") + "…"
