from __future__ import annotations

from typing import Any

import grpc
import pytest
from served import Service, refusal_of

from regionsearch.errors import CollectionExists, CollectionNotFound, ImageNotFound
from regionsearch.v1 import collections_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def test_a_collection_is_described_as_it_was_created(service: Service) -> None:
    created = service.client.create_collection(
        "described", embedder="dummy", segmenter="dummy", pixels="none", entity_limit=5
    )
    assert (created.name, created.pixels, created.entity_limit) == ("described", "none", 5)
    assert (created.images, created.entities) == (0, 0)
    assert created.embedder.dimension == service.backend.models.embedder("dummy").info.dimension
    assert service.client.get_collection("described") == created


def test_a_collection_says_what_it_keeps_when_nothing_was_asked(service: Service, collection: str) -> None:
    found = service.client.get_collection(collection)
    assert (found.pixels, found.entity_limit) == ("thumbnail", 32)


def test_a_name_is_taken_even_with_the_same_settings(service: Service, collection: str) -> None:
    with pytest.raises(CollectionExists, match=collection):
        service.client.create_collection(collection, embedder="dummy", segmenter="dummy")


def test_pages_of_collections_come_in_order_and_miss_none(service: Service) -> None:
    names = [f"paged-{number}" for number in range(5)]
    for name in reversed(names):
        service.client.create_collection(name, embedder="dummy", segmenter="dummy")
    listed = [found.name for found in service.client.list_collections(page_size=2)]
    assert listed == sorted(listed)
    assert [name for name in listed if name.startswith("paged-")] == names


def test_a_deleted_collection_is_gone_with_its_images(service: Service, collection: str) -> None:
    service.client.upsert(collection, [b"junk"])
    service.client.delete_collection(collection)
    with pytest.raises(CollectionNotFound):
        service.client.get_collection(collection)
    with pytest.raises(CollectionNotFound):
        service.client.search(collection, text="anything")
    service.client.create_collection(collection, embedder="dummy", segmenter="dummy")
    with pytest.raises(ImageNotFound):
        service.client.get_image(collection, "p")


@pytest.mark.parametrize(
    ("request_fields", "code", "reason", "field"),
    [
        ({}, INVALID, "INVALID_REQUEST", "name"),
        ({"name": "../evil"}, INVALID, "INVALID_REQUEST", "name"),
        ({"name": "x" * 100_000}, INVALID, "INVALID_REQUEST", "name"),
        ({"name": "n", "entity_limit": 0}, INVALID, "INVALID_REQUEST", "entity_limit"),
        ({"name": "n", "entity_limit": 1025}, INVALID, "INVALID_REQUEST", "entity_limit"),
        ({"name": "n", "pixels": 99}, INVALID, "INVALID_REQUEST", "pixels"),
        ({"name": "n", "embedder": "nobody"}, grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "embedder"),
        (
            {"name": "n", "embedder": "dummy", "segmenter": "no" * 50_000},
            grpc.StatusCode.NOT_FOUND,
            "MODEL_NOT_FOUND",
            "segmenter",
        ),
    ],
)
def test_a_collection_that_cannot_be_is_refused_and_leaves_nothing(
    service: Service, request_fields: dict[str, Any], code: grpc.StatusCode, reason: str, field: str
) -> None:
    before = service.backend.directory.collection_names()
    request = pb.CreateCollectionRequest(**request_fields)
    refused = refusal_of(lambda: service.stubs.collections.CreateCollection(request))
    assert (refused.code, refused.reason, refused.field) == (code, reason, field)
    assert service.backend.directory.collection_names() == before


@pytest.mark.parametrize(
    ("method", "request_message"),
    [
        ("GetCollection", pb.GetCollectionRequest(name="nowhere")),
        ("DeleteCollection", pb.DeleteCollectionRequest(name="nowhere")),
        ("GetCollection", pb.GetCollectionRequest(name="x" * 100_000)),
        ("DeleteCollection", pb.DeleteCollectionRequest(name="\x00/é" * 1_000)),
    ],
)
def test_a_collection_that_does_not_exist_is_not_found(
    service: Service, method: str, request_message: Any
) -> None:
    refused = refusal_of(lambda: getattr(service.stubs.collections, method)(request_message))
    assert (refused.code, refused.reason, refused.field) == (
        grpc.StatusCode.NOT_FOUND,
        "COLLECTION_NOT_FOUND",
        "name",
    )
    assert str(service.backend.directory.path) not in refused.message


@pytest.mark.parametrize(
    ("request_message", "field"),
    [
        (pb.ListCollectionsRequest(page_size=0), "page_size"),
        (pb.ListCollectionsRequest(page_size=1001), "page_size"),
        (pb.ListCollectionsRequest(page_token="not ours"), "page_token"),
        (pb.ListCollectionsRequest(page_token="é" * 50_000), "page_token"),
    ],
)
def test_a_bad_page_of_collections_is_refused(
    service: Service, request_message: pb.ListCollectionsRequest, field: str
) -> None:
    refused = refusal_of(lambda: service.stubs.collections.ListCollections(request_message))
    assert (refused.code, refused.reason, refused.field) == (INVALID, "INVALID_REQUEST", field)
