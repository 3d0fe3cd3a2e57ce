"""A real server on a real port, with models that weigh nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from served import LIMITS, Service, png

from regionsearch.client import Client
from regionsearch.client.channel import Stubs
from regionsearch.collection import DataDirectory
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.server import Server


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    path: Path = tmp_path_factory.mktemp("served") / "data"
    with DataDirectory(path, "write") as directory:
        models = ModelRegistry(1)
        backend = Backend(
            directory, models, SearchEngine(models, LIMITS), LIMITS, snapshots=path.parent / "snapshots"
        )
        server = Server(Address("127.0.0.1", 0), LIMITS)
        server.start(backend)
        address = str(server.address)
        with (
            Client(address, timeout=20, max_message_bytes=10_000_000) as client,
            grpc.insecure_channel(address) as channel,
        ):
            yield Service(address, backend, client, Stubs(channel))
        server.stop(1)


_numbers = itertools.count()


@pytest.fixture
def collection(service: Service) -> str:
    """The name of a new, empty collection."""
    name = f"photos-{next(_numbers)}"
    service.client.create_collection(name, embedder="dummy", segmenter="dummy")
    return name


@pytest.fixture(scope="session")
def filled(service: Service) -> str:
    """A collection of twelve pictures, `p00` to `p11`, that no test changes."""
    service.client.create_collection("filled", embedder="dummy", segmenter="dummy", pixels="original")
    report = service.client.upsert(
        "filled",
        [png(seed) for seed in range(12)],
        ids=[f"p{seed:02}" for seed in range(12)],
        payloads=[{"year": 2000 + seed, "large": 2**60 + seed} for seed in range(12)],
    )
    assert len(report.upserted) == 12
    return "filled"
