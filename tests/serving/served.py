"""What the tests of the service share: a server, pictures, limits, reading refusals, waiting."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from PIL import Image as PilImage

from regionsearch.client import Client, Operation
from regionsearch.client.channel import Stubs
from regionsearch.collection import DataDirectory
from regionsearch.config import Limits
from regionsearch.models.dummy import COLOURS
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.operations import Outcome, Steps, Work
from regionsearch.serving.server import Server

LIMITS = Limits(
    image_megapixels=1.0,
    image_bytes=200_000,
    text_characters=300,
    hits=50,
    batch_images=13,
    message_bytes=1_000_000,
    concurrent_calls=16,
)
"""Small, so that breaking them costs nothing."""
PATIENCE = 20.0
"""Seconds that work may take before a test calls it lost."""


_COLOURS = [colour for name, colour in COLOURS.items() if name != "white"]


def png(seed: int, width: int = 60, height: int = 40) -> bytes:
    """Two blocks of different colours on white, entities 1 and 0 to the dummy models: a small one in
    the left half and a larger one in the right. No two seeds give the same bytes; the first 132 differ
    in their colours."""
    left, right = seed % 12, (seed % 12 + 1 + seed // 12 % 11) % 12
    pixels = np.full((height, width, 3), 255, dtype=np.uint8)
    pixels[height // 5 : -height // 5, width // 12 : width // 3] = _COLOURS[left]
    pixels[height // 8 : -height // 8, 7 * width // 12 : -width // 12] = _COLOURS[right]
    pixels[0, 0] = (255 - seed % 50, 255 - seed // 50 % 50, 255 - seed // 2500)
    target = io.BytesIO()
    PilImage.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a client is told: status, reason, request field, and the name of what does not exist."""

    code: grpc.StatusCode
    reason: str
    field: str | None
    message: str
    resource: str


def refusal_of(call: Callable[[], object]) -> Refusal:
    """The status that ends the call, which must have one, with its details."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    status = rpc_status.from_call(caught.value)
    assert status is not None, caught.value
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    resource = error_details_pb2.ResourceInfo()
    for detail in status.details:
        for known in (info, request, resource):
            if detail.Is(known.DESCRIPTOR):
                detail.Unpack(known)
    assert info.domain == "regionsearch"
    field = request.field_violations[0].field if request.field_violations else None
    return Refusal(caught.value.code(), info.reason, field, status.message, resource.resource_name)


@dataclass(frozen=True)
class Service:
    """A running server: its parts, a client, and the bare stubs for what the client would not send."""

    address: str
    backend: Backend
    client: Client
    stubs: Stubs


@contextmanager
def running(data: Path, snapshots: Path | None = None) -> Iterator[Service]:
    """A server of this data directory, on a free port. snapshots: where it keeps them; None: nowhere."""
    with DataDirectory(data, "write") as directory:
        models = ModelRegistry(1)
        backend = Backend(directory, models, SearchEngine(models, LIMITS), LIMITS, snapshots=snapshots)
        server = Server(Address("127.0.0.1", 0), LIMITS)
        server.start(backend)
        address = str(server.address)
        with (
            Client(address, timeout=PATIENCE, max_message_bytes=10_000_000) as client,
            grpc.insecure_channel(address) as channel,
        ):
            try:
                yield Service(address, backend, client, Stubs(channel))
            finally:
                server.stop(1)


def done(service: Service, operation: Operation) -> Operation:
    return service.client.wait_operation(operation, timeout=PATIENCE)


def waiting_for(gate: threading.Event) -> Work:
    def work(steps: Steps) -> Outcome:
        assert gate.wait(PATIENCE)
        return Outcome()

    return work
