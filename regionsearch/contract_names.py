"""Names that people say for values of the contract's enums.

Server and client both take them from these tables, so that what one says the other understands. What a value
that was not said means is left to whoever reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

from regionsearch.v1 import collections_pb2, operations_pb2, types_pb2

PixelsKept = Literal["none", "thumbnail", "original"]
FieldKind = Literal["number", "string", "boolean", "timestamp"]
Favour = Literal["memory", "speed"]
Durability = Literal["synced", "buffered"]
OperationKind = Literal["update", "seal", "compact", "snapshot", "restore", "delete_matching", "purge"]
OperationState = Literal["waiting", "running", "succeeded", "failed", "cancelled"]

PIXELS_KEPT: dict[PixelsKept, collections_pb2.PixelsKept] = {
    "none": collections_pb2.PIXELS_KEPT_NONE,
    "thumbnail": collections_pb2.PIXELS_KEPT_THUMBNAIL,
    "original": collections_pb2.PIXELS_KEPT_ORIGINAL,
}
FIELD_KINDS: dict[FieldKind, collections_pb2.FieldKind] = {
    "number": collections_pb2.FIELD_KIND_NUMBER,
    "string": collections_pb2.FIELD_KIND_STRING,
    "boolean": collections_pb2.FIELD_KIND_BOOLEAN,
    "timestamp": collections_pb2.FIELD_KIND_TIMESTAMP,
}
FAVOURS: dict[Favour, collections_pb2.Favour] = {
    "memory": collections_pb2.FAVOUR_MEMORY,
    "speed": collections_pb2.FAVOUR_SPEED,
}
DURABILITIES: dict[Durability, types_pb2.Durability] = {
    "synced": types_pb2.DURABILITY_SYNCED,
    "buffered": types_pb2.DURABILITY_BUFFERED,
}
OPERATION_KINDS: dict[OperationKind, operations_pb2.OperationKind] = {
    "update": operations_pb2.OPERATION_KIND_UPDATE,
    "seal": operations_pb2.OPERATION_KIND_SEAL,
    "compact": operations_pb2.OPERATION_KIND_COMPACT,
    "snapshot": operations_pb2.OPERATION_KIND_SNAPSHOT,
    "restore": operations_pb2.OPERATION_KIND_RESTORE,
    "delete_matching": operations_pb2.OPERATION_KIND_DELETE_MATCHING,
    "purge": operations_pb2.OPERATION_KIND_PURGE,
}
OPERATION_STATES: dict[OperationState, operations_pb2.OperationState] = {
    "waiting": operations_pb2.OPERATION_STATE_WAITING,
    "running": operations_pb2.OPERATION_STATE_RUNNING,
    "succeeded": operations_pb2.OPERATION_STATE_SUCCEEDED,
    "failed": operations_pb2.OPERATION_STATE_FAILED,
    "cancelled": operations_pb2.OPERATION_STATE_CANCELLED,
}

_Name = TypeVar("_Name", bound=str)
_Value = TypeVar("_Value", bound=int)


def by_value(table: Mapping[_Name, _Value]) -> dict[int, _Name]:
    """The table the other way round."""
    return {value: name for name, value in table.items()}
