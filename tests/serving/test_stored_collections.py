"""What is done to whole collections over the API: fields and wishes, upkeep, aliases, snapshots, purging."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from precomputed import DIMENSION, fill, record, unit
from served import LIMITS, Service, refusal_of

from regionsearch.client import AsyncClient, Client, Operation
from regionsearch.collection import DataDirectory
from regionsearch.collection.purging import PurgeReport, purge
from regionsearch.errors import (
    AliasNotFound,
    Cancelled,
    CollectionExists,
    CollectionNotFound,
    FailedPrecondition,
    ImageNotFound,
    InvalidRequest,
    OperationNotFound,
    SnapshotExists,
    SnapshotNotFound,
    StorageFull,
)
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.operations import Outcome, Steps, Work
from regionsearch.serving.server import Server
from regionsearch.v1 import collections_pb2 as pb
from regionsearch.v1 import images_pb2

PATIENCE = 20.0
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def done(service: Service, operation: Operation) -> Operation:
    return service.client.wait_operation(operation, timeout=PATIENCE)


@pytest.fixture
def emptied_shelf(service: Service) -> Iterator[None]:
    yield
    for snapshot in service.client.list_snapshots():
        service.client.delete_snapshot(snapshot.name)


def waiting_for(gate: threading.Event) -> Work:
    def work(steps: Steps) -> Outcome:
        assert gate.wait(PATIENCE)
        return Outcome()

    return work


# fields and wishes


def test_wishes_are_told_as_they_were_made_and_changed_one_by_one(service: Service) -> None:
    client = service.client
    made = client.create_collection(
        "wishes",
        space="s",
        dimension=DIMENSION,
        indexed_fields={"year": "number", "camera.maker": "string"},
        recall_target=0.9,
        favour="speed",
    )
    assert made.indexed_fields == {"camera.maker": "string", "year": "number"}
    assert (made.recall_target, made.favour) == (0.9, "speed")
    assert done(service, client.update_collection("wishes", recall_target=0.99)).kind == "update"
    done(service, client.update_collection("wishes", indexed_fields={"taken": "timestamp"}))
    found = client.get_collection("wishes")
    assert (found.recall_target, found.favour) == (0.99, "speed")
    assert found.indexed_fields == {"taken": "timestamp"}
    done(service, client.update_collection("wishes", indexed_fields={}))
    assert client.get_collection("wishes").indexed_fields == {}


def test_a_declared_field_is_read_from_what_is_stored(service: Service) -> None:
    name = fill(service.client, "declared-late", range(20))
    where = "payload.year >= 2015"
    before = service.client.count_images(name, where)
    assert before.images == 5
    assert before.notes
    done(service, service.client.update_collection(name, indexed_fields={"year": "number"}))
    after = service.client.count_images(name, where)
    assert (after.images, after.notes) == (5, ())


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"space": "s"}, "dimension"),
        ({"dimension": 8}, "space"),
        ({"space": "s", "dimension": 0}, "dimension"),
        ({"space": "s", "dimension": 65_537}, "dimension"),
        ({"space": "a/b", "dimension": 8}, "space"),
        ({"space": "s", "dimension": 8, "embedder": "dummy"}, "embedder"),
        ({"space": "s", "dimension": 8, "segmenter": "dummy"}, "segmenter"),
        (
            {"space": "s", "dimension": 8, "indexed_fields": [pb.IndexedField(path="year")]},
            "indexed_fields[0].kind",
        ),
    ],
)
def test_a_space_that_cannot_be_is_refused(service: Service, fields: dict[str, object], field: str) -> None:
    request = pb.CreateCollectionRequest(name="never", **fields)  # type: ignore[arg-type]
    refused = refusal_of(lambda: service.stubs.collections.CreateCollection(request))
    assert (refused.code, refused.field) == (INVALID, field)
    assert "never" not in service.backend.directory.collection_names()


def test_an_update_that_changes_nothing_is_refused(service: Service, collection: str) -> None:
    with pytest.raises(InvalidRequest, match="nothing"):
        service.client.update_collection(collection)
    with pytest.raises(CollectionNotFound):
        service.client.update_collection("nowhere", favour="speed")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.UpdateCollectionRequest(index=pb.IndexWish(recall_target=7)), "index.recall_target"),
        (
            pb.UpdateCollectionRequest(indexed_fields={"fields": [{"path": "..", "kind": 1}]}),
            "indexed_fields",
        ),
        (
            pb.UpdateCollectionRequest(indexed_fields={"fields": [{"path": "a", "kind": 1}] * 2}),
            "indexed_fields",
        ),
    ],
)
def test_an_update_that_can_never_be_made_is_refused_at_once(
    service: Service, collection: str, request_: pb.UpdateCollectionRequest, field: str
) -> None:
    request_.name = collection
    refused = refusal_of(lambda: service.stubs.collections.UpdateCollection(request_))
    assert (refused.code, refused.field) == (INVALID, field)
    created = pb.CreateCollectionRequest(name="never", space="s", dimension=3, index=request_.index)
    created.indexed_fields.extend(request_.indexed_fields.fields)
    refused = refusal_of(lambda: service.stubs.collections.CreateCollection(created))
    assert (refused.code, refused.field) == (INVALID, field)
    assert not list(service.client.list_operations(collection=collection))


def test_updates_that_wait_together_are_all_made(service: Service) -> None:
    fill(service.client, "patient", range(3))
    gate = threading.Event()
    service.backend.operations.begin("seal", "patient", waiting_for(gate))
    service.client.update_collection("patient", recall_target=0.9)
    last = service.client.update_collection("patient", favour="speed")
    gate.set()
    done(service, last)
    made = service.client.get_collection("patient")
    assert (made.recall_target, made.favour) == (0.9, "speed")


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


# stats and upkeep


def test_sealing_puts_fresh_rows_into_a_segment_and_compacting_takes_deleted_ones_out(
    service: Service,
) -> None:
    name, client = fill(service.client, "kept-up", range(60)), service.client
    fresh = client.collection_stats(name)
    assert (fresh.images, fresh.entities, fresh.fresh_rows, fresh.segments) == (60, 120, 180, ())
    assert fresh.embedder.name == "precomputed:clip-b32"
    assert 0 < fresh.fill < 0.8
    assert (fresh.warnings, fresh.deleted_rows) == ((), 0)
    assert fresh.bytes["records"] > 60 * 3 * DIMENSION * 4
    assert done(service, client.seal_collection(name)).kind == "seal"
    sealed = client.collection_stats(name)
    assert (sealed.fresh_rows, [part.images for part in sealed.segments]) == (0, [60])
    assert sealed.bytes["segments"] == sum(part.bytes for part in sealed.segments) > 0
    assert sealed.segments[0].entity_index
    client.delete_images(name, [f"r{seed:03}" for seed in range(40)])
    assert client.collection_stats(name).deleted_rows == 120
    done(service, client.compact_collection(name))
    compacted = client.collection_stats(name)
    assert (compacted.images, compacted.deleted_rows) == (20, 0)
    hits = client.search(name, vector=unit(1, 3)[0], limit=50).hits
    assert {hit.image_id for hit in hits} == {f"r{seed:03}" for seed in range(40, 60)}


# aliases


def test_an_alias_stands_for_its_collection_until_it_is_switched(service: Service) -> None:
    client = service.client
    first, second = fill(client, "alias-first", range(3)), fill(client, "alias-second", range(5))
    assert client.set_alias("current", first) is None
    assert client.get_collection("current").name == first
    assert client.count_images("current").images == 3
    assert client.search("current", image_id="r001", limit=9).collection == first
    assert client.set_alias("current", second) == first
    assert client.count_images("current").images == 5
    assert client.list_aliases()["current"] == second
    with pytest.raises(CollectionExists):
        client.set_alias(first, second)
    with pytest.raises(CollectionNotFound):
        client.set_alias("current", "nowhere")
    with pytest.raises(FailedPrecondition):
        client.delete_collection(second)
    with pytest.raises(FailedPrecondition):
        client.delete_collection("current")
    client.delete_alias("current")
    with pytest.raises(AliasNotFound) as caught:
        client.delete_alias("current")
    assert caught.value.field == "alias"
    with pytest.raises(CollectionNotFound):
        client.count_images("current")
    client.set_alias("again", second)
    client.delete_collection(second, aliases=True)
    assert "again" not in client.list_aliases()


# snapshots


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
def test_a_purged_image_is_in_no_snapshot_any_more(service: Service) -> None:
    client, name = service.client, fill(service.client, "purged", range(6))
    done(service, client.create_snapshot(name, "before"))
    purged = done(service, client.purge_images(name, ["r002", "r004"], snapshots=["before"]))
    assert (purged.kind, purged.images) == ("purge", 2)
    done(service, client.restore_snapshot("before", "purged-back"))
    for there in (name, "purged-back"):
        assert client.get_collection(there).images == 4
        with pytest.raises(ImageNotFound):
            client.get_image(there, "r002")
    with pytest.raises(SnapshotNotFound) as caught:
        client.purge_images(name, ["r001"], snapshots=["before", "never"])
    assert caught.value.field == "snapshots[1]"


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


@pytest.mark.usefixtures("emptied_shelf")
def test_a_purge_is_judged_before_it_is_an_operation_and_names_a_snapshot_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = service.client
    fill(client, "purged-once", range(3))
    done(service, client.create_snapshot("purged-once", "single"))
    for said, field in (
        ({"image_ids": ["r000", "a\nb"]}, "image_ids[1]"),
        ({"image_ids": ["r000"], "snapshots": ["single"] * 1_001}, "snapshots"),
    ):
        request = images_pb2.PurgeImagesRequest(collection="purged-once", **said)
        refused = refusal_of(lambda request=request: service.stubs.images.PurgeImages(request))
        assert (refused.code, refused.field) == (INVALID, field)
    rewritten: list[list[Path]] = []

    def counting(*said: Any, snapshots: list[Path], **how: Any) -> PurgeReport:
        rewritten.append(snapshots)
        return purge(*said, snapshots=snapshots, **how)

    monkeypatch.setattr("regionsearch.serving.image_service.purge", counting)
    done(service, client.purge_images("purged-once", ["r000"], snapshots=["single"] * 20))
    assert [[path.name for path in paths] for paths in rewritten] == [["single"]]


def test_a_purge_that_a_reader_hinders_says_that_it_is_not_complete(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, name = service.client, fill(service.client, "read-meanwhile", range(4))

    def impatient(*said: Any, **how: Any) -> PurgeReport:
        return purge(*said, **how, readers_seconds=0.1)

    monkeypatch.setattr("regionsearch.serving.image_service.purge", impatient)
    with service.backend.directory.environment.transaction():
        hindered = done(service, client.purge_images(name, ["r001"]))
    assert (hindered.images, hindered.complete) == (1, False)
    assert "purge again" in " ".join(hindered.notes)
    again = done(service, client.purge_images(name, ["r001"]))
    assert (again.images, again.complete, again.notes) == (0, True, ())
    assert done(service, client.compact_collection(name)).complete is None


def test_a_purge_without_room_says_so_where_no_snapshots_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> PurgeReport:
        raise StorageFull("no space left for the data directory")

    monkeypatch.setattr("regionsearch.serving.image_service.purge", full)
    with DataDirectory(tmp_path / "data", "write") as directory:
        models = ModelRegistry(1)
        server = Server(Address("127.0.0.1", 0), LIMITS)
        server.start(Backend(directory, models, SearchEngine(models, LIMITS), LIMITS))
        with Client(str(server.address), timeout=PATIENCE) as client:
            fill(client, "c", range(2))
            with pytest.raises(StorageFull, match="no space left"):
                client.wait_operation(client.purge_images("c", ["r000"]))
        server.stop(1)


def test_a_server_without_a_folder_for_them_keeps_no_snapshots(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data", "write") as directory:
        models = ModelRegistry(1)
        server = Server(Address("127.0.0.1", 0), LIMITS)
        server.start(Backend(directory, models, SearchEngine(models, LIMITS), LIMITS))
        with Client(str(server.address), timeout=PATIENCE) as client:
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
        server.stop(1)


# operations


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


# the client for asyncio


@pytest.mark.usefixtures("emptied_shelf")
def test_the_asynchronous_client_does_what_the_other_does(service: Service) -> None:
    async def all_of_it() -> None:
        async with AsyncClient(service.address, timeout=PATIENCE) as client:
            name = "async-all"
            await client.create_collection(name, space="s", dimension=DIMENSION)
            report = await client.upsert_records(name, [record(seed) for seed in range(300)])
            assert [image.position for image in report.upserted] == list(range(300))
            streamed = await client.upsert_record_stream(name, (record(seed) for seed in range(290, 310)))
            assert (streamed.created, streamed.replaced) == (10, 10)
            assert (await client.count_images(name, "payload.year < 2010")).images == 10
            assert await client.update_payload(name, "r001", {"year": 1}) == 2
            exported = [image async for image in client.export_images(name, where="payload.year < 2003")]
            assert [image.summary.image_id for image in exported] == ["r000", "r001", "r002"]
            listed = [image async for image in client.list_records(name, prefix="r00", vectors=True)]
            assert len(listed) == 10
            operation = await client.wait_operation(
                await client.delete_matching(name, "payload.year > 2100"), timeout=PATIENCE
            )
            assert operation.images == 209
            await client.set_alias("async-alias", name)
            assert (await client.list_aliases())["async-alias"] == name
            await client.wait_operation(await client.create_snapshot("async-alias", "s"), timeout=PATIENCE)
            assert [snapshot.images for snapshot in await client.list_snapshots()] == [101]
            await client.delete_alias("async-alias")
            kinds = [each.kind async for each in client.list_operations(collection=name)]
            assert kinds == ["snapshot", "delete_matching"]
            assert (await client.collection_stats(name)).images == 101
            with pytest.raises(OperationNotFound):
                await client.cancel_operation("nobody")

    asyncio.run(all_of_it())
