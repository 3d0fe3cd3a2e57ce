"""From a gRPC status back to the error that the server raised."""

from __future__ import annotations

import re
from typing import Any, Protocol, cast
from urllib.parse import unquote

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from regionsearch import errors
from regionsearch.errors import InvalidRequest, Overloaded, RegionSearchError
from regionsearch.v1 import operations_pb2, search_pb2

ERROR_DOMAIN = "regionsearch"

_TOO_LARGE = grpc.StatusCode.RESOURCE_EXHAUSTED.name
# gRPC's words for a connection that was refused or timed out, and for a name without an address.
_NOBODY_THERE = re.compile(
    r"failed to connect to all addresses.*\b(?:ipv[46]|unix):(?P<address>\S+): (?:.*: )?(?P<why>.+)"
    r"|errors resolving (?P<name>[^\s\[]+): ",
    re.DOTALL,
)


class FailedCall(Protocol):
    """What sync and async calls that failed have in common."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Any: ...


def _by_reason() -> dict[str, type[RegionSearchError]]:
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, RegionSearchError)
    ]
    return {kind.reason: kind for kind in classes}


BY_REASON = _by_reason()
# For statuses that gRPC itself or a proxy made up, which come without details.
BY_CODE: dict[grpc.StatusCode, type[RegionSearchError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.CollectionExists,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    grpc.StatusCode.DATA_LOSS: errors.DataLoss,
    grpc.StatusCode.CANCELLED: errors.Cancelled,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
}


def error_from(call: FailedCall) -> RegionSearchError:
    """The error that the status carries: of the class that its reason names, or, for a status without
    our details, of the nearest class for its code."""
    # Its type hint knows sync calls alone, but it asks for no more than FailedCall has.
    status: Any = rpc_status.from_call(cast(Any, call))
    details = list(status.details) if status is not None else []
    info = error_details_pb2.ErrorInfo()
    violations = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in details:
        for known in (info, violations, retry):
            if detail.Is(known.DESCRIPTOR):
                detail.Unpack(known)
    if info.domain != ERROR_DOMAIN:
        return _error_without_details(call.code(), call.details() or "")
    field = violations.field_violations[0].field if violations.field_violations else None
    kind = BY_REASON.get(info.reason) or BY_CODE.get(call.code(), RegionSearchError)
    return _made(
        kind, call.details() or "", field, dict(info.metadata), retry.retry_delay.ToMilliseconds() / 1000
    )


def error_of_one(message: search_pb2.BatchSearchError | operations_pb2.OperationError) -> RegionSearchError:
    """The error of one question of several, or of an operation."""
    code = next((code for code in grpc.StatusCode if code.value[0] == message.code), grpc.StatusCode.UNKNOWN)
    kind = BY_REASON.get(message.reason) or BY_CODE.get(code, RegionSearchError)
    return _made(kind, message.message, message.field or None, {}, 0.0)


def above_message_limit(error: RegionSearchError) -> bool:
    """Whether gRPC refused the request, or its answer, for its size alone."""
    return isinstance(error, InvalidRequest) and error.metadata.get("code") == _TOO_LARGE


def _made(
    kind: type[RegionSearchError],
    message: str,
    field: str | None,
    metadata: dict[str, str],
    retry_after_seconds: float,
) -> RegionSearchError:
    if not issubclass(kind, Overloaded):
        return kind(message, field=field, metadata=metadata)
    error = kind(message, retry_after_seconds=retry_after_seconds)
    error.field, error.metadata = field, metadata
    return error


def _error_without_details(code: grpc.StatusCode, message: str) -> RegionSearchError:
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in message:
        # gRPC has one code for a full server and for a message above the limit; trying the latter
        # again is of no use.
        return InvalidRequest(f"a message is above the limit: {message}", metadata={"code": _TOO_LARGE})
    kind = BY_CODE.get(code, RegionSearchError)
    if code is grpc.StatusCode.CANCELLED and message in ("", code.name):
        # All that a stream says which its server gave up: its last words cannot pass what was not read.
        return kind(
            "the call was ended before its answer was complete: a stream lay unread for too long, or "
            "the server is stopping"
        )
    nobody = _NOBODY_THERE.search(message) if code is grpc.StatusCode.UNAVAILABLE else None
    if nobody is not None:
        address = unquote(nobody["address"] or nobody["name"])
        why = nobody["why"] or "there is no machine of that name"
        return kind(f"no server answers at {address}: {why}", metadata={"grpc": message})
    return kind(f"{code.name}: {message}")
