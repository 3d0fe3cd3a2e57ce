"""A real server on a real port, with models that weigh nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from served import Service, png, running


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    path = tmp_path_factory.mktemp("served")
    with running(path / "data", path / "snapshots") as service:
        yield service


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


@pytest.fixture
def emptied_shelf(service: Service) -> Iterator[None]:
    yield
    for snapshot in service.client.list_snapshots():
        service.client.delete_snapshot(snapshot.name)
