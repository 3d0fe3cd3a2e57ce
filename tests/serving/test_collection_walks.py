"""Counts, lists, exports and deletions under a filter, against a walk over the same images."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from precomputed import LABELS, fill, record, wide
from served import LIMITS, Service, refusal_of

from regionsearch.client import Client
from regionsearch.client.channel import Stubs
from regionsearch.collection import DataDirectory
from regionsearch.entities import Entities
from regionsearch.errors import (
    AnswerTooLarge,
    Cancelled,
    DeadlineExceeded,
    InvalidFilter,
    InvalidRequest,
    Overloaded,
)
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.serving import image_lists
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.operations import Outcome, Steps
from regionsearch.serving.server import Server
from regionsearch.v1 import images_pb2 as pb
from regionsearch.v1 import operations_pb2

IMAGES = range(40)


@pytest.fixture(scope="module")
def walked(service: Service) -> str:
    """A collection of 40 images that no test changes, with `year` indexed."""
    return fill(service.client, "walked", IMAGES, indexed_fields={"year": "number"})


def satisfying(year: int, label: str) -> tuple[list[str], int]:
    """Ids of the images from this year on that have an entity of the label, and how many such entities."""
    found = {seed: [LABELS[(seed + n) % 3] for n in range(2)].count(label) for seed in IMAGES}
    chosen = [seed for seed, count in found.items() if count and 2000 + seed >= year]
    return [f"r{seed:03}" for seed in chosen], sum(found[seed] for seed in chosen)


FILTER = 'payload.year >= 2010 AND entity.label = "dog"'


def test_a_filter_counts_what_it_lists_and_exports(service: Service, walked: str) -> None:
    ids, entities = satisfying(2010, "dog")
    count = service.client.count_images(walked, FILTER)
    assert (count.images, count.entities) == (len(ids), entities)
    listed = [image.image_id for image in service.client.list_images(walked, where=FILTER, page_size=7)]
    assert listed == ids
    assert [image.summary.image_id for image in service.client.export_images(walked, where=FILTER)] == ids
    everything = service.client.count_images(walked)
    assert (everything.images, everything.entities) == (40, 80)


def test_a_field_without_an_index_is_told_of(service: Service, walked: str) -> None:
    assert service.client.count_images(walked, "payload.year >= 2010").notes == ()
    notes = service.client.count_images(walked, "payload.month = 3").notes
    assert any("month" in note for note in notes), notes


def test_records_are_listed_and_exported_with_what_was_asked_for(service: Service, walked: str) -> None:
    client = service.client
    asked = {"entities": True, "masks": True, "vectors": True}
    listed = list(client.list_records(walked, page_size=9, **asked))
    exported = list(client.export_images(walked, **asked))
    assert len(listed) == len(exported) == 40
    for seed, (one, other) in enumerate(zip(listed, exported, strict=True)):
        assert one.summary == other.summary
        assert one.entities == other.entities
        assert one.payload == other.payload == {"year": 2000 + seed}
        expected = record(seed)
        for stored in (one.vectors, other.vectors):
            assert stored is not None
            assert stored.tobytes() == np.asarray(expected.vectors).tobytes()
        assert [entity.label for entity in one.entities] == expected.labels
    for image in (*client.list_records(walked), *client.export_images(walked)):
        assert (image.entities, image.vectors, image.pixels) == ((), None, None)
    (bare, *_) = client.export_images(walked, payload=False)
    assert bare.payload == {}
    with pytest.raises(InvalidRequest):
        next(client.list_records(walked, payload=False))
    with pytest.raises(InvalidRequest) as caught:
        next(client.export_images(walked, masks=True))
    assert caught.value.field == "with_masks"


def test_a_page_of_records_ends_where_a_message_does(service: Service) -> None:
    name = fill(service.client, "wide-pages", [])
    wide(service.client, name, range(40))
    request = pb.ListImagesRequest(collection=name, page_size=100, with_payload=True)
    page = service.stubs.images.ListImages(request)
    assert 10 < len(page.records) < 20
    assert page.ByteSize() <= LIMITS.message_bytes
    assert [image.summary.image_id for image in service.client.list_records(name)] == [
        f"r{seed:03}" for seed in range(40)
    ]
    assert sum(1 for _ in service.client.export_images(name)) == 40


def test_an_image_that_no_message_can_carry_is_told_of(service: Service) -> None:
    name = "too-wide"
    service.client.create_collection(name, space="s", dimension=2_000)
    vectors = np.zeros((101, 2_000), np.float32)
    vectors[:, 0] = 1
    half = record(1, vectors=vectors, boxes=[[0, 0, 9, 9]] * 100, labels=None)
    service.client.upsert_records(name, [half])
    request = pb.ListImagesRequest(
        collection=name, with_vectors=True, with_entities=True, vector_form="VECTOR_FORM_VALUES"
    )
    # With its entities it is above 800,000 bytes, and the limit is 1,000,000.
    assert len(service.stubs.images.ListImages(request).records) == 1
    # Stored behind the API, whose messages could not bring it in either.
    collection = service.backend.directory.collection(name)
    found = collection.get("r001")
    boxes, masks = [[0, 0, 9, 9]] * 200, list(found.entities.masks) * 2
    entities = replace(Entities.from_masks(masks, np.ones(200)), boxes=np.array(boxes, np.float32))
    collection.upsert([replace(found, entities=entities, vectors=np.repeat(vectors[:1], 201, axis=0))])
    with (
        Client(service.address, max_message_bytes=10_000_000, timeout=20) as client,
        pytest.raises(AnswerTooLarge, match="r001"),
    ):
        next(client.export_images(name, entities=True, vectors=True))
    refused = refusal_of(lambda: service.stubs.images.ListImages(request))
    assert (refused.reason, refused.code) == ("ANSWER_TOO_LARGE", grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_an_export_is_as_of_one_moment(service: Service) -> None:
    name = fill(service.client, "moving", range(30))
    wide(service.client, name, range(30))
    exported = service.client.export_images(name)
    first = next(exported)
    service.client.delete_images(name, ["r005", "r029"])
    service.client.upsert_records(name, [record(99), record(7, payload={"late": True})])
    rest = list(exported)
    assert [image.summary.image_id for image in (first, *rest)] == [f"r{seed:03}" for seed in range(30)]
    assert all(image.payload == {"x": "y" * 60_000} for image in (first, *rest))


def test_an_export_whose_reader_leaves_lets_go_of_its_place(service: Service) -> None:
    name = fill(service.client, "left", range(3))
    wide(service.client, name, range(60))
    for _ in range(LIMITS.concurrent_calls):
        exported = service.client.export_images(name)
        next(exported)
        exported.close()
        deadline = time.monotonic() + 10
        while True:
            try:
                assert service.client.count_images(name).images == 60
                break
            except Overloaded:
                assert time.monotonic() < deadline
                time.sleep(0.02)


def test_an_export_that_nobody_reads_is_ended(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    name = fill(service.client, "unread", range(1))
    collection = service.backend.directory.collection(name)
    found = collection.get("r000")
    # More than the connection holds on its own: 24 MB.
    wide_ones = [
        replace(found, image_id=f"w{number:03}", payload={"x": "y" * 60_000}) for number in range(400)
    ]
    collection.upsert(wide_ones)
    monkeypatch.setattr(image_lists, "UNREAD_SECONDS", 0.3)
    exported = service.client.export_images(name)
    next(exported)
    time.sleep(1.2)
    with pytest.raises(Cancelled, match="lay unread for too long"):
        list(exported)
    assert service.client.count_images(name).images == 401


@pytest.mark.parametrize("where", ["payload.year >", "entity.colour = 3", "(((", "payload.year = 1 AND"])
def test_a_bad_filter_is_refused_wherever_it_stands(service: Service, walked: str, where: str) -> None:
    client = service.client
    for asked in (
        lambda: client.count_images(walked, where),
        lambda: list(client.list_images(walked, where=where)),
        lambda: list(client.export_images(walked, where=where)),
        lambda: client.delete_matching(walked, where),
    ):
        with pytest.raises(InvalidFilter) as caught:
            asked()
        assert caught.value.field == "filter"


def test_what_matches_is_deleted_by_an_operation(service: Service) -> None:
    name = fill(service.client, "thinned", IMAGES)
    ids, _ = satisfying(2010, "dog")
    operation = service.client.delete_matching(name, FILTER, idempotency_key="once")
    ended = service.client.wait_operation(operation, timeout=20)
    assert (ended.kind, ended.collection, ended.images) == ("delete_matching", name, len(ids))
    left = [image.image_id for image in service.client.list_images(name)]
    assert left == [f"r{seed:03}" for seed in IMAGES if f"r{seed:03}" not in ids]
    request = pb.DeleteMatchingRequest(collection=name, filter="  ")
    refused = refusal_of(lambda: service.stubs.images.DeleteMatching(request))
    assert (refused.code, refused.field) == (grpc.StatusCode.INVALID_ARGUMENT, "filter")


def test_those_who_watch_leave_room_for_walks_and_searches(tmp_path: Path) -> None:
    def endless(steps: Steps) -> Outcome:
        while True:
            steps.check()
            time.sleep(0.01)

    with DataDirectory(tmp_path / "data", "write") as directory:
        models = ModelRegistry(1)
        server = Server(Address("127.0.0.1", 0), LIMITS)
        backend = Backend(directory, models, SearchEngine(models, LIMITS), LIMITS)
        server.start(backend)
        with Client(str(server.address), timeout=20) as client:
            fill(client, "c", range(3))
            begun = backend.operations.begin("seal", "another", endless)
            quarter = LIMITS.concurrent_calls // 4
            watches = [client.watch_operation(begun.id) for _ in range(quarter // 2)]
            for watch in watches:
                next(watch)
            with grpc.insecure_channel(str(server.address)) as channel:
                stubs = Stubs(channel)
                request = operations_pb2.WatchOperationRequest(id=begun.id)
                refused = refusal_of(lambda: list(stubs.operations.WatchOperation(request)))
                assert refused.reason == "OVERLOADED"
                # Watched all the same.
                watches += [client.watch_operation(begun.id) for _ in range(quarter)]
                for watch in watches[quarter // 2 :]:
                    assert next(watch).state == "running"
                with pytest.raises(DeadlineExceeded):
                    client.wait_operation(begun.id, timeout=0.2)
                assert client.count_images("c").images == 3
            assert len(client.search("c", image_id="r001", limit=5).hits) == 2
            client.cancel_operation(begun.id)
            assert [list(watch)[-1].state for watch in watches] == ["cancelled"] * len(watches)
            assert client.count_images("c").images == 3
        server.stop(1)
