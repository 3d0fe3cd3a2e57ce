"""Finished records over the API: stored as they came, all of a call or nothing."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from precomputed import DIMENSION, record, unit
from served import LIMITS, Service, png, refusal_of

from regionsearch.client import Record
from regionsearch.collection import Collection
from regionsearch.errors import (
    InvalidImage,
    InvalidRecord,
    InvalidRegion,
    InvalidRequest,
    NotAccepted,
    RegionSearchError,
    VersionMismatch,
)
from regionsearch.images import Image, decode_image
from regionsearch.regions import Mask
from regionsearch.serving.record_batches import EMBEDDED_TOGETHER
from regionsearch.serving.record_uploads import entities_of
from regionsearch.v1 import images_pb2 as pb
from regionsearch.v1 import types_pb2

_numbers = itertools.count()


@pytest.fixture
def space(service: Service) -> str:
    """The name of a new, empty collection of precomputed vectors."""
    name = f"space-{next(_numbers)}"
    service.client.create_collection(name, space="clip-b32", dimension=DIMENSION)
    return name


def test_a_collection_of_precomputed_vectors_names_its_space(service: Service, space: str) -> None:
    found = service.client.get_collection(space)
    assert (found.space, found.embedder.name, found.embedder.dimension) == (
        "clip-b32",
        "precomputed:clip-b32",
        DIMENSION,
    )
    assert "precomputed" not in service.client.server_info().embedders


masks = st.integers(0, 2**20 - 1).map(
    lambda bits: np.array([bits >> place & 1 for place in range(20)], np.bool_).reshape(4, 5)
)


@given(
    st.lists(masks.filter(np.any), min_size=1, max_size=4),
    st.booleans(),
    st.lists(st.sampled_from([None, "dog", "Ä🐕"]), min_size=4, max_size=4),
)
def test_a_record_comes_back_as_it_was_sent(
    service: Service, arrays: list[np.ndarray], predicted: bool, labels: list[str | None]
) -> None:
    name = "kept-records"
    if name not in service.backend.directory.collection_names():
        service.client.create_collection(name, space="s", dimension=DIMENSION)
    count = len(arrays)
    vectors, objectness = unit(1 + count, count), np.linspace(0, 1, count, dtype=np.float32)
    sent = Record(
        "r",
        vectors,
        5,
        4,
        masks=arrays,
        objectness=objectness,
        labels=labels[:count],
        predicted=predicted,
        payload={"count": count},
        content_hash="ab" * 32,
    )
    report = service.client.upsert_records(name, [sent])
    assert (report.entities, report.upserted[0].image_id) == (count, "r")
    found = service.client.get_image(name, "r", entities=True, masks=True, vectors=True)
    assert (found.summary.width, found.summary.height, found.summary.content_hash) == (5, 4, "ab" * 32)
    assert found.vectors is not None
    assert found.vectors.tobytes() == vectors.tobytes()
    assert found.payload == {"count": count}
    for entity, array, label, likely in zip(found.entities, arrays, labels, objectness, strict=False):
        mask = Mask.from_array(array)
        assert (entity.mask, entity.box, entity.area) == (mask, mask.box(), pytest.approx(mask.area))
        assert (entity.label, entity.objectness) == (label, likely)
        expected = None if label is None else "predicted" if predicted else "given"
        assert entity.label_source == expected


def test_boxes_alone_stand_for_all_their_pixels_and_are_kept_as_they_are(
    service: Service, space: str
) -> None:
    boxes = [[1.25, 2.5, 30.75, 20.0], [0, 0, 100, 50]]
    service.client.upsert_records(space, [record(1, boxes=boxes)])
    entities = service.client.get_image(space, "r001", entities=True, masks=True).entities
    assert [list(entity.box.as_tuple()) for entity in entities] == boxes
    assert entities[1].mask == Mask.full(50, 100)
    assert entities[0].mask is not None
    assert entities[0].mask.box().as_tuple() == (1, 2, 31, 20)


def test_a_record_without_entities_has_the_whole_frame(service: Service, space: str) -> None:
    vector = unit(1, 3)[0]
    service.client.upsert_records(space, [Record("whole", vector, 30, 20)])
    found = service.client.get_image(space, "whole", entities=True, masks=True, vectors=True)
    assert [entity.mask for entity in found.entities] == [Mask.full(20, 30)]
    assert found.vectors is not None
    assert (found.vectors == vector).all()


def test_precomputed_vectors_are_found_by_vectors_ids_and_examples(service: Service, space: str) -> None:
    records = [record(seed) for seed in range(60)]
    service.client.upsert_records(space, records)
    asked = np.asarray(records[7].vectors)[2]
    hit = service.client.search(space, vector=asked, limit=1).hits[0]
    assert (hit.image_id, hit.entity.index) == ("r007", 1)
    assert service.client.search(space, image_id="r007", limit=3).hits[0].image_id != "r007"
    assert len(service.client.search(space, liked=["r003"], limit=5).hits) == 5


@pytest.mark.parametrize(
    "asked",
    [{"text": "a dog"}, {"image": png(1)}, {"image": png(1), "points": [(10, 10)]}],
)
def test_what_needs_a_model_is_not_accepted_where_there_is_none(
    service: Service, space: str, asked: dict[str, Any]
) -> None:
    service.client.upsert_records(space, [record(1)])
    with pytest.raises(NotAccepted, match=r"computed elsewhere"):
        service.client.search(space, **asked)
    with pytest.raises(NotAccepted, match="UpsertRecords"):
        service.client.upsert(space, [png(1)])


def test_a_collection_with_an_embedder_takes_finished_records_too(service: Service, collection: str) -> None:
    dimension = service.client.get_collection(collection).embedder.dimension
    service.client.upsert_records(collection, [record(1, vectors=unit(3, 1, dimension))])
    service.client.upsert(collection, [png(1)], ids=["uploaded"])
    assert {image.image_id for image in service.client.list_images(collection)} == {"r001", "uploaded"}


def test_an_embedder_makes_the_vectors_of_given_entities(service: Service, collection: str) -> None:
    service.client.upsert(collection, [png(4)], ids=["cut"])
    cut = service.client.get_image(collection, "cut", entities=True, masks=True, vectors=True)
    outlines = [entity.mask for entity in cut.entities if entity.mask is not None]
    labels = ["left", None][: len(outlines)]
    given_entities = Record("given", masks=outlines, labels=labels, image=png(4))
    service.client.upsert_records(collection, [given_entities])
    found = service.client.get_image(collection, "given", entities=True, vectors=True, pixels=True)
    assert found.vectors is not None
    assert cut.vectors is not None
    assert np.allclose(found.vectors, cut.vectors)
    assert [entity.label for entity in found.entities] == labels
    assert (found.summary.width, found.summary.content_hash) == (60, cut.summary.content_hash)
    assert found.pixels is not None


@pytest.mark.parametrize(
    "finished",
    [
        {"image": png(21), "width": None, "height": None},
        {"content_hash": hashlib.sha256(png(21)).hexdigest(), "labels": None},
    ],
)
def test_a_picture_is_not_taken_for_what_somebody_said_of_it(
    service: Service, collection: str, finished: dict[str, Any]
) -> None:
    dimension = service.client.get_collection(collection).embedder.dimension
    its_own = {"vectors": unit(3, 1, dimension), "boxes": [[0, 0, 9, 9]] * 2, "labels": ["x", "y"]}
    service.client.upsert_records(collection, [record(1, **{**its_own, **finished})])
    service.client.upsert(collection, [png(21)], ids=["seen"])
    seen = service.client.get_image(collection, "seen", entities=True, pixels=True)
    assert (seen.summary.width, seen.summary.height) == (60, 40)
    assert seen.pixels
    assert [entity.label for entity in seen.entities] == [None, None]
    assert [9, 9] not in [list(entity.box.as_tuple())[2:] for entity in seen.entities]


def test_many_records_travel_in_messages_that_are_stored_each_by_itself(service: Service, space: str) -> None:
    report = service.client.upsert_records(space, (record(seed) for seed in range(300)))
    assert [image.position for image in report.upserted] == list(range(300))
    streamed = service.client.upsert_record_stream(space, (record(seed) for seed in range(200, 600)))
    assert (streamed.messages, streamed.created, streamed.replaced, streamed.entities) == (2, 300, 100, 800)
    assert service.client.get_collection(space).images == 600


def test_what_is_wrong_with_a_record_is_said_with_the_name_of_its_image(service: Service, space: str) -> None:
    for said, column in (
        ({"boxes": [[0, 0, 500, 20], [0, 0, 10, 10]]}, "entities.boxes"),
        ({"vectors": np.full((3, DIMENSION), np.nan, np.float32)}, "vectors"),
    ):
        with pytest.raises(InvalidRequest, match=r"^image 'r002': ") as caught:
            service.client.upsert_records(space, [record(1), record(2, **said)])
        assert caught.value.field == f"records[1].{column}"


def test_a_stream_ends_with_the_first_message_that_is_refused(service: Service, space: str) -> None:
    records = [record(seed) for seed in range(600)]
    records[300] = record(300, vectors=unit(3, 1) * 2)
    with pytest.raises(InvalidRecord, match="unit vectors") as caught:
        service.client.upsert_record_stream(space, records)
    assert caught.value.metadata["stored_messages"] == "1"
    assert service.client.get_collection(space).images == 256


def test_what_cannot_be_made_into_a_message_ends_the_stream_with_its_own_error(
    service: Service, space: str
) -> None:
    def records() -> Iterator[Record]:
        yield record(1)
        yield record(2, image="/no/such/picture.jpg", width=None, height=None)

    with pytest.raises(InvalidImage, match="cannot read"):
        service.client.upsert_record_stream(space, records())


@pytest.mark.parametrize(
    ("said", "kind", "field"),
    [
        ({"image_id": "a\nb"}, InvalidRecord, "records[1].image_id"),
        ({"width": 0}, InvalidRecord, "records[1].width"),
        ({"height": None}, InvalidRecord, "records[1].height"),
        ({"width": 2**31, "height": 2**20}, InvalidRecord, "records[1].width"),
        ({"vectors": unit(2, 1)}, InvalidRecord, "records[1].vectors"),
        ({"vectors": unit(3, 1, DIMENSION + 1)}, InvalidRecord, "records[1].vectors"),
        ({"vectors": np.concatenate([unit(1, 1) / 2, unit(2, 2)])}, InvalidRecord, "records[1].vectors[0]"),
        ({"vectors": None}, InvalidRecord, "records[1].vectors"),
        ({"boxes": [[0, 0, 5, 5], [5, 5, 5, 9]]}, InvalidRecord, "records[1].entities.boxes"),
        ({"boxes": [[0, 0, 5, 5], [5, 5, 101, 9]]}, InvalidRecord, "records[1].entities.boxes"),
        ({"boxes": [[0, 0, 5, 5], [np.nan, 5, 9, 9]]}, InvalidRecord, "records[1].entities.boxes"),
        ({"masks": [np.ones((50, 100), np.bool_)]}, InvalidRecord, "records[1].entities.masks"),
        ({"objectness": [0.5, 1.5]}, InvalidRecord, "records[1].entities"),
        ({"objectness": [0.5]}, InvalidRecord, "records[1].entities.objectness"),
        ({"labels": ["a", "b", "c"]}, InvalidRecord, "records[1].entities.labels"),
        ({"content_hash": "short"}, InvalidRecord, "records[1].content_hash"),
        ({"image": b"junk"}, InvalidImage, "records[1].image"),
        ({"image": png(1)}, InvalidRecord, "records[1].width"),
    ],
)
def test_a_bad_record_is_named_and_none_of_its_call_is_stored(
    service: Service, space: str, said: dict[str, Any], kind: type[RegionSearchError], field: str
) -> None:
    with pytest.raises(kind) as caught:
        service.client.upsert_records(space, [record(0), record(1, **said), record(2)])
    assert (type(caught.value), caught.value.field) == (kind, field)
    assert service.client.get_collection(space).images == 0


def test_runs_of_another_size_than_the_image_are_refused() -> None:
    small = str(Mask.full(5, 5).to_coco()["counts"])
    with pytest.raises(InvalidRegion, match="add up to 25 pixels, but it has 100 × 50") as caught:
        entities_of(pb.EntitiesUpload(masks=[small]), 50, 100)
    assert caught.value.field == "masks"


def test_a_few_bytes_do_not_become_gigabytes_of_mask(service: Service, space: str) -> None:
    boxes = np.tile(np.array([0.0, 0.0, 10_000.0, 1.0], np.float32), 1_000)
    upload = pb.RecordUpload(
        image_id="wide",
        width=10_000,
        height=100,
        vectors=types_pb2.Vector(packed=unit(1_001, 1).tobytes()),
        entities=pb.EntitiesUpload(boxes=boxes.tolist()),
    )
    request = pb.UpsertRecordsRequest(collection=space, records=[upload])
    refused = refusal_of(lambda: service.stubs.images.UpsertRecords(request))
    assert (refused.code, refused.field) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "records[0].entities.boxes",
    )


def test_few_bytes_of_many_records_do_not_become_gigabytes_of_mask_either(
    service: Service, space: str
) -> None:
    uploads = [
        pb.RecordUpload(
            image_id=f"w{number}",
            width=500_000,
            height=2,
            vectors=types_pb2.Vector(packed=unit(2, 1).tobytes()),
            entities=pb.EntitiesUpload(boxes=[0, 0, 500_000, 1]),
        )
        for number in range(20)
    ]
    request = pb.UpsertRecordsRequest(collection=space, records=uploads)
    refused = refusal_of(lambda: service.stubs.images.UpsertRecords(request))
    assert (refused.reason, refused.field) == ("INVALID_RECORD", "records[15].entities")
    assert service.client.get_collection(space).images == 0


@pytest.mark.parametrize(("text", "what"), [("1" * 4_000_001, "runs"), ("Q0" * 4_000_001, "characters")])
def test_masks_are_measured_before_they_are_read(service: Service, text: str, what: str) -> None:
    columns = pb.EntitiesUpload(masks=[text[: len(text) // 2], text[len(text) // 2 :]])
    with pytest.raises(InvalidRecord, match=f"its masks have [48]00000[12] {what}; the") as caught:
        entities_of(columns, 2_000, 4_001)
    assert caught.value.field == "masks"


def test_masks_of_many_characters_are_read_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = [Mask.from_array(np.random.default_rng(seed).random((30, 40)) < 0.4) for seed in range(9)]
    columns = pb.EntitiesUpload(masks=[str(mask.to_coco()["counts"]) for mask in masks])
    monkeypatch.setattr("regionsearch.serving.record_uploads.CHARACTERS_AT_ONCE", 1_500)
    assert list(entities_of(columns, 30, 40).masks) == masks


def test_no_more_pictures_are_decoded_at_once_than_are_embedded_together(
    service: Service, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    pictures: weakref.WeakSet[Image] = weakref.WeakSet()

    def decoding(*said: Any, **how: Any) -> Image:
        picture = decode_image(*said, **how)
        pictures.add(picture)
        held.append(len(pictures))
        return picture

    monkeypatch.setattr("regionsearch.serving.record_uploads.decode_image", decoding)
    records = [Record(f"p{seed:02}", image=png(seed), boxes=[[0, 0, 20, 20]]) for seed in range(40)]
    assert len(service.client.upsert_records(collection, records).upserted) == 40
    assert max(held) <= 2 * EMBEDDED_TOGETHER


def test_a_call_has_1_to_1000_records(service: Service, space: str) -> None:
    assert service.client.server_info().limits.batch_records == 1_000
    for count in (0, 1_001):
        uploads = [pb.RecordUpload(image_id="r")] * count
        request = pb.UpsertRecordsRequest(collection=space, records=uploads)
        refused = refusal_of(lambda request=request: service.stubs.images.UpsertRecords(request))
        assert (refused.code, refused.field) == (grpc.StatusCode.INVALID_ARGUMENT, "records")


def test_versions_must_be_as_the_caller_believes(service: Service, space: str) -> None:
    client = service.client
    client.upsert_records(space, [record(1, if_version=0), record(2)])
    for wanted in (0, 2):
        with pytest.raises(VersionMismatch, match="r001"):
            client.upsert_records(space, [record(3), record(1, if_version=wanted)])
    request = pb.UpsertRecordsRequest(
        collection=space,
        records=[
            pb.RecordUpload(
                image_id="r001",
                width=9,
                height=9,
                vectors=types_pb2.Vector(packed=unit(1, 1).tobytes()),
                if_version=5,
            )
        ],
    )
    assert refusal_of(lambda: service.stubs.images.UpsertRecords(request)).code == grpc.StatusCode.ABORTED
    assert [image.image_id for image in client.list_images(space)] == ["r001", "r002"]
    assert client.upsert_records(space, [record(1, if_version=1)]).upserted[0].version == 2
    with pytest.raises(InvalidRequest, match="twice"):
        client.upsert_records(space, [record(1, if_version=1), record(1, if_version=2)])


def test_a_repeated_call_with_its_key_changes_nothing(service: Service, space: str) -> None:
    first = service.client.upsert_records(space, [record(1), record(2)], idempotency_key="monday")
    service.client.upsert_records(space, [record(1, payload={"later": True})])
    again = service.client.upsert_records(space, [record(1), record(2)], idempotency_key="monday")
    assert again == first
    assert service.client.get_image(space, "r001").payload == {"later": True}
    with pytest.raises(InvalidRequest) as caught:
        service.client.upsert_records(space, [record(3)], idempotency_key="monday")
    assert caught.value.field == "idempotency_key"


def test_a_buffered_record_is_soon_there(service: Service, space: str) -> None:
    report = service.client.upsert_records(space, [record(1)], durability="buffered")
    assert report.upserted[0].version == 0
    # A synced write is committed behind it.
    service.client.upsert_records(space, [record(2)])
    assert service.client.get_image(space, "r001").payload == {"year": 2001}


def test_a_few_records_of_many_callers_are_committed_together(
    service: Service, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = 3
    together = threading.Barrier(callers)
    upsert = Collection.upsert

    def meeting(*said: Any, **how: Any) -> Any:
        together.wait(20)  # which nobody passes alone
        return upsert(*said, **how)

    monkeypatch.setattr(Collection, "upsert", meeting)
    with ThreadPoolExecutor(callers) as pool:
        reports = pool.map(lambda seed: service.client.upsert_records(space, [record(seed)]), range(callers))
        assert [len(report.upserted) for report in reports] == [1] * callers


def test_what_a_buffered_stream_replaced_is_not_guessed(service: Service, space: str) -> None:
    report = service.client.upsert_record_stream(space, map(record, range(3)), durability="buffered")
    assert (report.messages, report.created, report.replaced) == (1, 0, 0)


def test_a_payload_that_cannot_be_kept_is_named_as_the_request_has_it(service: Service, space: str) -> None:
    service.client.upsert_records(space, [record(1, payload={"x": "y" * 60_000})])
    with pytest.raises(InvalidRecord, match="the limit is 65536") as caught:
        service.client.update_payload(space, "r001", {"z": "y" * 60_000}, merge=True)
    assert caught.value.field == "payload_json"
    upload = pb.RecordUpload(
        image_id="r",
        width=9,
        height=9,
        vectors=types_pb2.Vector(packed=unit(1, 1).tobytes()),
        payload_json='{"a": 1e999}',
    )
    request = pb.UpsertRecordsRequest(collection=space, records=[upload])
    refused = refusal_of(lambda: service.stubs.images.UpsertRecords(request))
    assert (refused.reason, refused.field) == ("INVALID_RECORD", "records[0].payload_json")


def test_pictures_are_stored_only_if_their_version_fits(service: Service, collection: str) -> None:
    client = service.client
    ids = ["a", "b"]
    assert client.upsert(collection, [png(1), png(2)], ids=ids, if_versions=[0, None]).failures == ()
    report = client.upsert(collection, [png(3), png(4)], ids=ids, if_versions=[2, 1])
    assert [(failure.image_id, failure.reason) for failure in report.failures] == [("a", "VERSION_MISMATCH")]
    assert [(image.image_id, image.version) for image in report.upserted] == [("b", 2)]
    with pytest.raises(InvalidRequest) as caught:
        client.upsert(collection, [png(5)], ids=["a"], if_versions=[1], durability="buffered")
    assert caught.value.field == "images[0].if_version"


def test_pictures_sent_again_with_their_key_are_stored_once(service: Service, collection: str) -> None:
    pictures, ids = [png(seed) for seed in range(11)], [f"k{seed}" for seed in range(11)]
    first = service.client.upsert(collection, pictures, ids=ids, idempotency_key="upload-1")
    assert service.client.upsert(collection, pictures, ids=ids, idempotency_key="upload-1") == first
    assert {image.version for image in service.client.list_images(collection)} == {1}


def test_a_payload_is_replaced_or_merged_without_a_model(service: Service, space: str) -> None:
    client = service.client
    client.upsert_records(space, [record(1, payload={"year": 2001, "camera": {"maker": "x", "lens": "y"}})])
    before = client.get_image(space, "r001", vectors=True)
    assert client.update_payload(space, "r001", {"camera": {"lens": None}}, merge=True, if_version=1) == 2
    merged = client.get_image(space, "r001", vectors=True)
    assert merged.payload == {"year": 2001, "camera": {"maker": "x"}}
    assert before.vectors is not None
    assert merged.vectors is not None
    assert merged.vectors.tobytes() == before.vectors.tobytes()
    with pytest.raises(VersionMismatch):
        client.update_payload(space, "r001", {}, if_version=1)
    assert client.update_payload(space, "r001", {"only": 2**60}) == 3
    assert client.get_image(space, "r001").payload == {"only": 2**60}
    large = pb.UpdatePayloadRequest(
        collection=space, image_id="r001", payload_json=json.dumps({"x": "y" * 70_000})
    )
    refused = refusal_of(lambda: service.stubs.images.UpdatePayload(large))
    assert (refused.reason, refused.field) == ("INVALID_RECORD", "payload_json")


def test_a_deletion_depends_on_versions(service: Service, space: str) -> None:
    client = service.client
    client.upsert_records(space, [record(seed) for seed in range(3)])
    with pytest.raises(VersionMismatch):
        client.delete_images(space, ["r000", "r001"], if_versions={"r001": 7})
    assert client.get_collection(space).images == 3
    assert client.delete_images(space, ["r000", "r001"], if_versions={"r001": 1}).deleted == 2


def test_records_as_large_as_a_message_may_be_are_taken(service: Service, space: str) -> None:
    count = 2_000
    large = record(1, entities=1, vectors=unit(1 + count, 1), boxes=[[0, 0, 100, 50]] * count, labels=None)
    client = service.client
    client.upsert_records(space, [large])
    assert client.get_image(space, "r001").summary.entity_count == count
    assert LIMITS.message_bytes > client.get_collection(space).stored_bytes
