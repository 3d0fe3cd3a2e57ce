"""What is done to whole collections over the API: fields and wishes, upkeep, aliases."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest
from precomputed import DIMENSION, fill, record, unit
from served import PATIENCE, Service, done, refusal_of, waiting_for

from regionsearch.client import AsyncClient
from regionsearch.errors import (
    AliasNotFound,
    CollectionExists,
    CollectionNotFound,
    FailedPrecondition,
    InvalidRequest,
    OperationNotFound,
)
from regionsearch.v1 import collections_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT


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
