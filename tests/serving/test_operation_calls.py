"""Operations as clients see them: watched, listed, waited for, cancelled."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from precomputed import fill
from served import LIMITS, PATIENCE, Service, done

from regionsearch.client import Client
from regionsearch.collection import DataDirectory
from regionsearch.errors import Cancelled, OperationNotFound, SnapshotExists
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.operations import Outcome, Steps
from regionsearch.serving.server import Server


def test_an_operation_is_watched_listed_and_cancelled(service: Service) -> None:
    client = service.client
    name = fill(client, "watched", range(2))

    def slow(steps: Steps) -> Outcome:
        for step in range(100_000):
            steps.progress(min(step / 100, 0.9))
            steps.check()
            time.sleep(0.01)
        return Outcome()

    begun = service.backend.operations.begin("compact", name, slow)
    waiting = client.seal_collection(name)
    assert waiting.state == "waiting"
    assert client.get_operation(begun.id).state == "running"
    assert [each.id for each in client.list_operations(collection=name)] == [waiting.id, begun.id]
    assert [each.id for each in client.list_operations(collection=name, page_size=1)] == [
        waiting.id,
        begun.id,
    ]
    assert [each.id for each in client.list_operations(collection=name, kind="seal")] == [waiting.id]
    assert list(client.list_operations(collection=name, state="failed")) == []
    seen = []
    for operation in client.watch_operation(begun.id, timeout=PATIENCE):
        seen.append(operation)
        if len(seen) == 3:
            client.cancel_operation(operation)
    assert seen[-1].state == "cancelled"
    assert len({operation.progress for operation in seen}) > 2
    assert [one.progress for one in seen] == sorted(one.progress for one in seen)
    with pytest.raises(Cancelled):
        client.wait_operation(begun.id, timeout=PATIENCE)
    assert done(service, waiting).state == "succeeded"
    for asked in (client.get_operation, client.cancel_operation, client.wait_operation):
        with pytest.raises(OperationNotFound) as caught:
            asked("nobody")
        assert caught.value.field == "id"


def test_an_operation_goes_on_when_its_client_leaves(service: Service) -> None:
    name = fill(service.client, "left-alone", range(20))
    with Client(service.address, timeout=PATIENCE) as leaving:
        begun = leaving.seal_collection(name)
    assert done(service, begun).state == "succeeded"
    assert service.client.collection_stats(name).fresh_rows == 0


def test_deleting_a_collection_ends_what_works_on_it(service: Service) -> None:
    name = fill(service.client, "deleted-at-work", range(2))

    def endless(steps: Steps) -> Outcome:
        while True:
            steps.check()
            time.sleep(0.01)

    begun = service.backend.operations.begin("compact", name, endless)
    waiting = service.client.seal_collection(name)
    service.client.delete_collection(name)
    for operation in (begun.id, waiting.id):
        with pytest.raises(Cancelled):
            service.client.wait_operation(operation, timeout=PATIENCE)


def test_a_failed_operation_raises_what_it_failed_with(service: Service) -> None:
    name = fill(service.client, "failing", range(2))

    def failing(steps: Steps) -> Outcome:
        raise SnapshotExists("there is one", field="snapshot")

    begun = service.backend.operations.begin("snapshot", name, failing)
    with pytest.raises(SnapshotExists, match="there is one") as caught:
        service.client.wait_operation(begun.id, timeout=PATIENCE)
    assert caught.value.field == "snapshot"


def test_a_stop_ends_operations_and_tells_those_who_watch(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data", "write") as directory:
        models = ModelRegistry(1)
        server = Server(Address("127.0.0.1", 0), LIMITS)
        backend = Backend(directory, models, SearchEngine(models, LIMITS), LIMITS)
        server.start(backend)

        def endless(steps: Steps) -> Outcome:
            while True:
                steps.check()
                time.sleep(0.01)

        begun = backend.operations.begin("seal", "c", endless)
        with Client(str(server.address), timeout=PATIENCE) as client:
            watched = client.watch_operation(begun.id)
            assert next(watched).state in ("waiting", "running")
            started = time.monotonic()
            server.stop(5)
            assert time.monotonic() - started < 5
            assert [operation.state for operation in watched][-1:] == ["cancelled"]
