"""Snapshots that a server keeps: taken, listed, restored and deleted by name."""

from __future__ import annotations

import threading
from pathlib import Path

import grpc
import pytest
from precomputed import fill
from served import Service, done, refusal_of, running, waiting_for

from regionsearch.errors import (
    CollectionExists,
    FailedPrecondition,
    InvalidRequest,
    SnapshotExists,
    SnapshotNotFound,
)
from regionsearch.v1 import collections_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.usefixtures("emptied_shelf")
@pytest.mark.parametrize("snapshot", ["monday", "monday.tar"])
def test_a_snapshot_brings_back_what_was_there_when_it_was_taken(service: Service, snapshot: str) -> None:
    client, name = service.client, f"taken-{snapshot}"
    fill(client, name, range(12), indexed_fields={"year": "number"})
    operation = done(service, client.create_snapshot(name, snapshot))
    assert operation.snapshot is not None
    assert (operation.images, operation.snapshot.name, operation.snapshot.collection) == (12, snapshot, name)
    assert client.list_snapshots() == [operation.snapshot]
    client.delete_images(name, ["r003"])
    with pytest.raises(CollectionExists, match="exists already"):
        client.restore_snapshot(snapshot)  # the call itself: there is no operation to wait for
    restored = done(service, client.restore_snapshot(snapshot, f"back-{snapshot}"))
    assert (restored.collection, restored.images) == (f"back-{snapshot}", 12)
    assert client.count_images(f"back-{snapshot}", "payload.year = 2003").images == 1
    assert client.search(f"back-{snapshot}", image_id="r003", limit=3).hits
    done(service, client.restore_snapshot(snapshot, replace=True))
    assert client.get_image(name, "r003").payload == {"year": 2003}
    with pytest.raises(SnapshotExists):
        client.create_snapshot(name, snapshot)


@pytest.mark.usefixtures("emptied_shelf")
def test_what_waits_behind_a_restore_works_on_what_was_restored(service: Service) -> None:
    client = service.client
    fill(client, "taken", range(5))
    done(service, client.create_snapshot("taken", "of-five"))
    client.delete_images("taken", ["r000"])
    gate = threading.Event()
    service.backend.operations.begin("seal", "taken", waiting_for(gate))
    client.restore_snapshot("of-five", replace=True)
    behind = [client.seal_collection("taken"), client.compact_collection("taken")]
    deleting = client.delete_matching("taken", "payload.year < 2002")
    gate.set()
    assert [done(service, operation).state for operation in behind] == ["succeeded"] * 2
    assert done(service, deleting).images == 2
    assert client.get_collection("taken").images == 3


@pytest.mark.usefixtures("emptied_shelf")
@pytest.mark.parametrize(
    "snapshot", ["../evil", "/etc/passwd", "a/b", ".hidden", "", "x" * 200, "now.partial"]
)
def test_a_client_names_snapshots_and_never_paths(service: Service, snapshot: str) -> None:
    name = "never-snapped"
    if name not in service.backend.directory.collection_names():
        fill(service.client, name, range(2))
    with pytest.raises(InvalidRequest) as caught:
        service.client.create_snapshot(name, snapshot)
    assert caught.value.field == "snapshot"
    for asked in (service.client.delete_snapshot, service.client.restore_snapshot):
        with pytest.raises((SnapshotNotFound, InvalidRequest)) as refused:
            asked(snapshot)
        assert str(service.backend.directory.path.parent) not in refused.value.message


@pytest.mark.parametrize("snapshot", ["copy.tar.gz", "copy.TGZ", "copy.zip"])
def test_a_snapshot_that_no_disk_can_hold_so_is_refused_at_once(service: Service, snapshot: str) -> None:
    fill(service.client, f"for-{snapshot}", range(1))
    request = pb.CreateSnapshotRequest(collection=f"for-{snapshot}", snapshot=snapshot)
    refused = refusal_of(lambda: service.stubs.collections.CreateSnapshot(request))
    assert (refused.code, refused.field) == (INVALID, "snapshot")


def test_a_snapshot_that_is_being_written_cannot_be_reached(service: Service) -> None:
    client = service.client
    fill(client, "guarded", range(1))
    assert service.backend.snapshots is not None
    unfinished = service.backend.snapshots / "half.partial"
    unfinished.mkdir(parents=True)
    try:
        for reach in (
            lambda: client.restore_snapshot("half.partial", "whole"),
            lambda: client.delete_snapshot("half.partial"),
            lambda: client.purge_images("guarded", ["r000"], snapshots=["half.partial"]),
        ):
            with pytest.raises(SnapshotNotFound):
                reach()
    finally:
        unfinished.rmdir()


def test_a_server_without_a_folder_for_them_keeps_no_snapshots(tmp_path: Path) -> None:
    with running(tmp_path / "data") as service:
        client = service.client
        fill(client, "c", range(2))
        assert not client.server_info().snapshots
        for refused in (
            lambda: client.create_snapshot("c", "s"),
            lambda: client.restore_snapshot("s"),
            client.list_snapshots,
            lambda: client.delete_snapshot("s"),
        ):
            with pytest.raises(FailedPrecondition, match="--snapshots"):
                refused()
