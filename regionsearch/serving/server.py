"""The gRPC server: a port, the services, health and reflection, and an orderly end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from regionsearch.config import Limits
from regionsearch.errors import FailedPrecondition
from regionsearch.serving.address import Address, check_free
from regionsearch.serving.backend import Backend
from regionsearch.serving.calls import IDLE_SECONDS, CallInterceptor
from regionsearch.serving.collection_service import CollectionServicer
from regionsearch.serving.image_service import ImageServicer
from regionsearch.serving.operation_service import OperationServicer
from regionsearch.serving.operations import Operations
from regionsearch.serving.search_service import SearchServicer
from regionsearch.serving.server_service import ServerServicer
from regionsearch.v1 import (
    collections_pb2,
    collections_pb2_grpc,
    images_pb2,
    images_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)

SPARE_CALLS = 8
"""Threads above `limits.concurrent_calls`: they answer health checks and say no to the calls beyond
the limit, with a reason and a delay, where gRPC by itself would only say no."""
CLIENT_PING_SECONDS = 20
"""Clients may send keepalive pings this often; the default of five minutes would cut off those that
wait for a long upload."""
OPERATION_SECONDS = 10.0
"""How long the end waits for operations at least: what they hold cannot be closed under them."""
SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (collections_pb2, "CollectionService"),
        (images_pb2, "ImageService"),
        (search_pb2, "SearchService"),
        (operations_pb2, "OperationService"),
        (operations_pb2, "ServerService"),
    )
)


class Server:
    """Bound on construction, answering from `start`, gone after `stop`.

    `address` is where it really listens. idle_seconds: after which a stream without a message is ended.
    Raises FailedPrecondition when it cannot listen there.
    """

    def __init__(self, address: Address, limits: Limits, *, idle_seconds: float = IDLE_SECONDS) -> None:
        check_free(address)
        calls = limits.concurrent_calls + SPARE_CALLS
        self._pool = ThreadPoolExecutor(max_workers=calls, thread_name_prefix="call")
        self._interceptor = CallInterceptor(limits.concurrent_calls, idle_seconds)
        self._server: Any = grpc.server(
            self._pool,
            interceptors=[self._interceptor],
            maximum_concurrent_rpcs=calls,
            options=[
                # On by default, and then a second server takes half of the first one's calls.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", limits.message_bytes),
                ("grpc.max_send_message_length", limits.message_bytes),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", CLIENT_PING_SECONDS * 1000),
            ],
        )
        try:
            port = self._server.add_insecure_port(str(address))
        except RuntimeError as error:
            raise FailedPrecondition(f"cannot listen on {address}: {error}") from error
        self.address = Address(address.host, port)
        self._health: Any = health.HealthServicer()
        self._operations: Operations | None = None

    def start(self, backend: Backend) -> None:
        """Answers calls from now on."""
        server = self._server
        self._operations = backend.operations
        self._interceptor.concealed = backend.concealed
        services: tuple[tuple[Callable[..., None], object], ...] = (
            (collections_pb2_grpc.add_CollectionServiceServicer_to_server, CollectionServicer(backend)),
            (images_pb2_grpc.add_ImageServiceServicer_to_server, ImageServicer(backend)),
            (search_pb2_grpc.add_SearchServiceServicer_to_server, SearchServicer(backend)),
            (operations_pb2_grpc.add_OperationServiceServicer_to_server, OperationServicer(backend)),
            (operations_pb2_grpc.add_ServerServiceServicer_to_server, ServerServicer(backend)),
            (health_pb2_grpc.add_HealthServicer_to_server, self._health),
        )
        for add_to_server, servicer in services:
            add_to_server(servicer, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        for name in ("", *SERVICES):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        server.start()

    def stop(self, grace_seconds: float) -> None:
        """Takes no new calls, lets those in flight finish for so long, cancels the others. Operations are
        cancelled at once, and have as long to leave nothing half done, OPERATION_SECONDS at least.

        Returns when no call's code runs any more, so that what it uses can be closed.
        """
        self._health.enter_graceful_shutdown()
        stopped = self._server.stop(grace_seconds)
        if self._operations is not None:
            self._operations.stop(max(grace_seconds, OPERATION_SECONDS))
        stopped.wait()
        self._pool.shutdown(wait=True)
