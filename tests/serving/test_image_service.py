from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image as PilImage
from served import LIMITS, Service, png, refusal_of

from regionsearch.errors import CollectionNotFound, ImageNotFound
from regionsearch.protobuf_shapes import vector_from_message
from regionsearch.v1 import images_pb2 as pb
from regionsearch.v1 import types_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def upload(seed: int = 0, **fields: Any) -> pb.ImageUpload:
    return pb.ImageUpload(**{"image": png(seed), **fields})


def test_a_picture_without_an_id_is_known_by_the_hash_of_its_bytes(service: Service, collection: str) -> None:
    data = png(1)
    [stored] = service.client.upsert(collection, [data]).upserted
    digest = hashlib.sha256(data).hexdigest()
    assert (stored.image_id, stored.created, stored.version) == (digest, True, 1)
    assert service.client.get_image(collection, digest).summary.content_hash == digest


def test_an_id_that_comes_again_is_replaced_and_its_version_counts(service: Service, collection: str) -> None:
    service.client.upsert(collection, [png(1)], ids=["a"])
    [again] = service.client.upsert(collection, [png(2)], ids=["a"], payloads=[{"n": 2}]).upserted
    assert (again.created, again.version) == (False, 2)
    assert service.client.get_image(collection, "a").payload == {"n": 2}
    assert service.client.get_collection(collection).images == 1


def test_of_two_pictures_with_one_id_in_a_batch_the_later_stays(service: Service, collection: str) -> None:
    report = service.client.upsert(collection, [png(1), png(2), png(3)], ids=["a", "b", "a"])
    assert [(image.image_id, image.position, image.version) for image in report.upserted] == [
        ("a", 0, 1),
        ("b", 1, 1),
        ("a", 2, 2),
    ]
    stored = service.client.get_image(collection, "a")
    assert stored.summary.content_hash == hashlib.sha256(png(3)).hexdigest()


def test_equal_bytes_under_two_ids_are_two_images_with_equal_vectors(
    service: Service, collection: str
) -> None:
    service.client.upsert(collection, [png(1)], ids=["a"])
    service.client.upsert(collection, [png(1)], ids=["b"], payloads=[{"copy": True}])
    a, b = (service.client.get_image(collection, name, entities=True, vectors=True) for name in "ab")
    assert np.array_equal(a.vectors, b.vectors)
    assert (a.payload, b.payload) == ({}, {"copy": True})
    assert a.entities == b.entities


def test_good_pictures_of_a_batch_land_and_each_bad_one_is_named(service: Service, collection: str) -> None:
    request = pb.UpsertImagesRequest(
        collection=collection,
        images=[
            upload(0, image_id="good-0"),
            upload(image=b"not a picture", image_id="corrupt"),
            upload(image=png(1)[:100], image_id="truncated"),
            upload(image=b"", image_id="empty"),
            upload(image=png(2, 1200, 900)[:150_000], image_id="huge"),
            upload(image=b"x" * (LIMITS.image_bytes + 1), image_id="heavy"),
            upload(image_id=""),
            upload(image_id="new\nline"),
            upload(image_id="payload", payload_json="[1, 2]"),
            upload(image_id="nan", payload_json='{"a": NaN}'),
            upload(image_id="broken", payload_json="{"),
            upload(image_id="deep", payload_json='{"a":' * 40 + "1" + "}" * 40),
            upload(1, image_id="good-12"),
        ],
    )
    response = service.stubs.images.UpsertImages(request)
    assert [(image.image_id, image.position) for image in response.upserted] == [
        ("good-0", 0),
        ("good-12", 12),
    ]
    assert {failure.image_id: (failure.position, failure.reason) for failure in response.failures} == {
        "corrupt": (1, "INVALID_IMAGE"),
        "truncated": (2, "INVALID_IMAGE"),
        "empty": (3, "INVALID_IMAGE"),
        "huge": (4, "INVALID_IMAGE"),
        "heavy": (5, "INVALID_IMAGE"),
        "": (6, "INVALID_RECORD"),
        "new\nline": (7, "INVALID_RECORD"),
        "payload": (8, "INVALID_RECORD"),
        "nan": (9, "INVALID_RECORD"),
        "broken": (10, "INVALID_RECORD"),
        "deep": (11, "INVALID_RECORD"),
    }
    messages = {failure.image_id: failure.message for failure in response.failures}
    assert "limits.image_megapixels" in messages["huge"]
    assert "limits.image_bytes" in messages["heavy"]
    assert [found.image_id for found in service.client.list_images(collection)] == ["good-0", "good-12"]


@pytest.mark.parametrize(
    ("request_message", "reason", "field"),
    [
        (pb.UpsertImagesRequest(images=[upload()]), "INVALID_REQUEST", "collection"),
        (pb.UpsertImagesRequest(collection="filled"), "INVALID_REQUEST", "images"),
        (pb.UpsertImagesRequest(collection="filled", images=[upload()] * 14), "INVALID_REQUEST", "images"),
    ],
)
def test_a_batch_that_is_no_batch_is_refused_whole(
    service: Service, filled: str, request_message: pb.UpsertImagesRequest, reason: str, field: str
) -> None:
    before = service.client.get_collection(filled)
    refused = refusal_of(lambda: service.stubs.images.UpsertImages(request_message))
    assert (refused.code, refused.reason, refused.field) == (INVALID, reason, field)
    assert service.client.get_collection(filled) == before


def test_a_corrupt_picture_in_a_stream_is_named_and_the_others_land(
    service: Service, collection: str
) -> None:
    pictures: list[bytes] = [png(seed) for seed in range(20)]
    pictures[7] = b"not a picture"
    pictures[13] = b""
    ids = [f"s{number:02}" for number in range(20)]
    report = service.client.upsert_stream(collection, pictures, ids=ids)
    assert (report.received, report.created, report.replaced, report.failed) == (20, 18, 0, 2)
    assert [(failure.image_id, failure.position) for failure in report.failures] == [("s07", 7), ("s13", 13)]
    listed = [found.image_id for found in service.client.list_images(collection)]
    assert listed == [name for name in ids if name not in ("s07", "s13")]


def test_a_stream_counts_what_it_replaces(service: Service, collection: str) -> None:
    service.client.upsert(collection, [png(0)], ids=["a"])
    report = service.client.upsert_stream(collection, [png(1), png(2), png(3)], ids=["a", "b", "b"])
    assert (report.received, report.created, report.replaced, report.failed) == (3, 1, 2, 0)


def test_failures_of_a_stream_beyond_the_first_thousand_are_counted(
    service: Service, collection: str
) -> None:
    report = service.client.upsert_stream(collection, [b""] * 1_100)
    assert (report.received, report.failed, len(report.failures)) == (1_100, 1_100, 1_000)


@pytest.mark.parametrize(
    ("messages", "code", "reason", "field"),
    [
        ([], INVALID, "INVALID_REQUEST", "collection"),
        ([pb.UpsertImageStreamRequest(image=upload())], INVALID, "INVALID_REQUEST", "collection"),
        ([pb.UpsertImageStreamRequest(collection="filled")], INVALID, "INVALID_REQUEST", "image"),
        (
            [
                pb.UpsertImageStreamRequest(collection="filled", image=upload(image=b"")),
                pb.UpsertImageStreamRequest(collection="other", image=upload()),
            ],
            INVALID,
            "INVALID_REQUEST",
            "collection",
        ),
        (
            [pb.UpsertImageStreamRequest(collection="nowhere", image=upload())],
            grpc.StatusCode.NOT_FOUND,
            "COLLECTION_NOT_FOUND",
            "collection",
        ),
    ],
)
def test_a_stream_that_contradicts_itself_is_refused(
    service: Service,
    filled: str,
    messages: list[pb.UpsertImageStreamRequest],
    code: grpc.StatusCode,
    reason: str,
    field: str | None,
) -> None:
    before = service.client.get_collection(filled)
    refused = refusal_of(lambda: service.stubs.images.UpsertImageStream(iter(messages)))
    assert (refused.code, refused.reason, refused.field) == (code, reason, field)
    assert service.client.get_collection(filled) == before


def test_an_image_comes_back_with_what_is_asked_for_and_no_more(service: Service, filled: str) -> None:
    bare = service.client.get_image(filled, "p03")
    assert (bare.entities, bare.vectors, bare.pixels) == ((), None, None)
    assert bare.payload == {"year": 2003, "large": 2**60 + 3}
    assert (bare.summary.width, bare.summary.height) == (60, 40)
    full = service.client.get_image(filled, "p03", entities=True, masks=True, vectors=True, pixels=True)
    assert full.pixels == png(3)
    assert len(full.entities) == bare.summary.entity_count
    assert [entity.index for entity in full.entities] == list(range(len(full.entities)))
    assert all(entity.mask.area == pytest.approx(entity.area) for entity in full.entities)
    assert full.vectors.shape[0] == 1 + len(full.entities)
    assert np.allclose(np.linalg.norm(full.vectors, axis=1), 1, atol=1e-3)
    entities = service.client.get_image(filled, "p03", entities=True).entities
    assert all(entity.mask is None for entity in entities)


def test_a_thumbnail_is_a_jpeg_of_at_most_320_pixels(service: Service, collection: str) -> None:
    service.client.upsert(collection, [png(1, 640, 200)], ids=["wide"])
    kept = service.client.get_image(collection, "wide", pixels=True).pixels
    with PilImage.open(io.BytesIO(kept)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (320, 100))


def test_packed_vectors_are_the_vectors_of_numbers_bit_for_bit(service: Service, filled: str) -> None:
    answers = [
        service.stubs.images.GetImage(
            pb.GetImageRequest(
                collection=filled, image_id="p01", with_entities=True, with_vectors=True, vector_form=form
            )
        ).image
        for form in (types_pb2.VECTOR_FORM_PACKED, types_pb2.VECTOR_FORM_VALUES)
    ]
    packed, values = ([image.vector, *(entity.vector for entity in image.entities)] for image in answers)
    assert all(vector.packed and not vector.values for vector in packed)
    assert all(vector.values and not vector.packed for vector in values)
    for one, other in zip(packed, values, strict=True):
        assert vector_from_message(one).tobytes() == vector_from_message(other).tobytes()


@pytest.mark.parametrize(
    ("fields", "code", "reason", "field"),
    [
        ({"image_id": "p01"}, INVALID, "INVALID_REQUEST", "collection"),
        ({"collection": "filled"}, INVALID, "INVALID_REQUEST", "image_id"),
        (
            {"collection": "filled", "image_id": "p01", "with_masks": True},
            INVALID,
            "INVALID_REQUEST",
            "with_masks",
        ),
        (
            {"collection": "filled", "image_id": "p01", "vector_form": types_pb2.VECTOR_FORM_VALUES},
            INVALID,
            "INVALID_REQUEST",
            "vector_form",
        ),
        (
            {"collection": "filled", "image_id": "p01", "with_vectors": True, "vector_form": 7},
            INVALID,
            "INVALID_REQUEST",
            "vector_form",
        ),
        (
            {"collection": "nowhere", "image_id": "p01"},
            grpc.StatusCode.NOT_FOUND,
            "COLLECTION_NOT_FOUND",
            "collection",
        ),
        (
            {"collection": "filled", "image_id": "nobody"},
            grpc.StatusCode.NOT_FOUND,
            "IMAGE_NOT_FOUND",
            "image_id",
        ),
        (
            {"collection": "filled", "image_id": "é" * 100_000},
            grpc.StatusCode.NOT_FOUND,
            "IMAGE_NOT_FOUND",
            "image_id",
        ),
    ],
)
def test_an_image_that_cannot_be_read_is_refused(
    service: Service,
    filled: str,
    fields: dict[str, Any],
    code: grpc.StatusCode,
    reason: str,
    field: str | None,
) -> None:
    refused = refusal_of(lambda: service.stubs.images.GetImage(pb.GetImageRequest(**fields)))
    assert (refused.code, refused.reason, refused.field) == (code, reason, field)


def test_pages_of_images_come_in_order_and_miss_none(service: Service, filled: str) -> None:
    expected = [f"p{number:02}" for number in range(12)]
    for page_size in (1, 5, 12, 1000):
        listed = service.client.list_images(filled, page_size=page_size)
        assert [found.image_id for found in listed] == expected
    assert [found.image_id for found in service.client.list_images(filled, prefix="p1")] == ["p10", "p11"]
    assert list(service.client.list_images(filled, prefix="q")) == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "collection"),
        ({"collection": "filled", "page_size": 0}, "page_size"),
        ({"collection": "filled", "page_size": 1001}, "page_size"),
        ({"collection": "filled", "page_token": "not ours"}, "page_token"),
    ],
)
def test_a_bad_page_of_images_is_refused(
    service: Service, filled: str, fields: dict[str, Any], field: str
) -> None:
    refused = refusal_of(lambda: service.stubs.images.ListImages(pb.ListImagesRequest(**fields)))
    assert (refused.code, refused.reason, refused.field) == (INVALID, "INVALID_REQUEST", field)


def test_a_page_token_belongs_to_its_listing(service: Service, filled: str) -> None:
    first = service.stubs.images.ListImages(pb.ListImagesRequest(collection=filled, page_size=2))
    other = pb.ListImagesRequest(collection=filled, prefix="p1", page_token=first.next_page_token)
    refused = refusal_of(lambda: service.stubs.images.ListImages(other))
    assert (refused.code, refused.field) == (INVALID, "page_token")


def test_deleted_images_are_gone_and_missing_ones_are_counted(service: Service, collection: str) -> None:
    service.client.upsert(collection, [png(1), png(2), png(3)], ids=["a", "b", "c"])
    report = service.client.delete_images(collection, ["a", "c", "nobody"])
    assert (report.deleted, report.missing) == (2, 1)
    assert [found.image_id for found in service.client.list_images(collection)] == ["b"]
    with pytest.raises(ImageNotFound):
        service.client.get_image(collection, "a")
    assert [hit.image_id for hit in service.client.search(collection, text="x").hits] == ["b"]


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"image_ids": ["p01"]}, INVALID, "collection"),
        ({"collection": "filled"}, INVALID, "image_ids"),
        ({"collection": "filled", "image_ids": ["p01"] * 1001}, INVALID, "image_ids"),
        ({"collection": "filled", "image_ids": ["p01", ""]}, INVALID, "image_ids[1]"),
        ({"collection": "nowhere", "image_ids": ["p01"]}, grpc.StatusCode.NOT_FOUND, "collection"),
    ],
)
def test_a_bad_deletion_is_refused_and_deletes_nothing(
    service: Service, filled: str, fields: dict[str, Any], code: grpc.StatusCode, field: str | None
) -> None:
    refused = refusal_of(lambda: service.stubs.images.DeleteImages(pb.DeleteImagesRequest(**fields)))
    assert (refused.code, refused.field) == (code, field)
    assert service.client.get_collection(filled).images == 12


def test_a_collection_dropped_during_an_upload_ends_the_upload(service: Service, collection: str) -> None:
    def pictures() -> Iterator[bytes]:
        for seed in range(9):
            yield png(seed)
        service.client.delete_collection(collection)
        yield from (png(seed) for seed in range(9, 30))

    with pytest.raises(CollectionNotFound):
        service.client.upsert_stream(collection, pictures())
