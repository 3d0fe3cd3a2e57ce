"""How a client is connected: limits, keepalive, retries; the stubs of all services."""

from __future__ import annotations

import json
from typing import Any

from regionsearch.v1 import (
    collections_pb2_grpc,
    images_pb2_grpc,
    operations_pb2_grpc,
    search_pb2_grpc,
)

DEFAULT_TIMEOUT_SECONDS = 60.0
DEFAULT_MESSAGE_BYTES = 64 * 1024 * 1024
"""The server's own default (limits.message_bytes)."""
KEEPALIVE_SECONDS = 30
"""While a call waits; more often than the server allows (20 s) would end the connection."""

# Only what can be asked twice without harm. A write whose answer was lost may have happened.
_READS = {
    "regionsearch.v1.CollectionService": (
        "GetCollection",
        "GetCollectionStats",
        "ListAliases",
        "ListCollections",
        "ListSnapshots",
    ),
    "regionsearch.v1.ImageService": ("CountImages", "GetImage", "ListImages"),
    "regionsearch.v1.OperationService": ("GetOperation", "ListOperations"),
    "regionsearch.v1.SearchService": ("Search", "BatchSearch"),
    "regionsearch.v1.ServerService": ("GetServerInfo",),
}
_RETRIES = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 3,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def channel_options(max_message_bytes: int) -> list[tuple[str, Any]]:
    """For `grpc.insecure_channel` and its async twin alike."""
    names = [
        {"service": service, "method": method} for service, methods in _READS.items() for method in methods
    ]
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps({"methodConfig": [{"name": names, "retryPolicy": _RETRIES}]})),
    ]


class Stubs:
    """The generated stubs over one channel, sync or async. Each method is a callable of gRPC's."""

    def __init__(self, channel: Any) -> None:
        self.collections: Any = collections_pb2_grpc.CollectionServiceStub(channel)  # type: ignore[no-untyped-call]
        self.images: Any = images_pb2_grpc.ImageServiceStub(channel)  # type: ignore[no-untyped-call]
        self.operations: Any = operations_pb2_grpc.OperationServiceStub(channel)  # type: ignore[no-untyped-call]
        self.search: Any = search_pb2_grpc.SearchServiceStub(channel)  # type: ignore[no-untyped-call]
        self.server: Any = operations_pb2_grpc.ServerServiceStub(channel)  # type: ignore[no-untyped-call]
