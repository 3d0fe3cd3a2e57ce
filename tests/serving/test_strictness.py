"""Every RPC refuses what it does not know, wherever in the request it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from served import Service, refusal_of

from regionsearch.errors import InvalidRequest
from regionsearch.serving.strictness import MAX_MESSAGES, refuse_unknown
from regionsearch.v1 import (
    collections_pb2,
    images_pb2,
    operations_pb2,
    search_pb2,
    types_pb2,
)

UNKNOWN_FIELD = b"\xaa\x3e\x01?"  # field 997, length-delimited
MODULES = (collections_pb2, images_pb2, operations_pb2, search_pb2)
METHODS = [
    method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def bare_call(service: Service, channel: grpc.Channel, method: Any) -> Callable[[bytes], object]:
    """Sends these very bytes as the request."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    if method.client_streaming:
        stream = channel.stream_unary(path)
        return lambda data: stream(iter([data]), timeout=10)
    unary = channel.unary_unary(path)
    return lambda data: unary(data, timeout=10)


@pytest.fixture(scope="module")
def channel(service: Service) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(service.address) as channel:
        yield channel


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_call_refuses_a_field_it_does_not_know(
    service: Service, channel: grpc.Channel, method: Any
) -> None:
    refused = refusal_of(lambda: bare_call(service, channel, method)(UNKNOWN_FIELD))
    assert (refused.code, refused.reason, refused.field) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_REQUEST",
        "997",
    )


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_call_refuses_bytes_that_are_no_message(
    service: Service, channel: grpc.Channel, method: Any
) -> None:
    refused = refusal_of(lambda: bare_call(service, channel, method)(b"\xff\xff\xff"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert method.input_type.full_name in refused.message


def messages_inside(descriptor: Descriptor, path: str = "") -> Iterator[tuple[str, list[FieldDescriptor]]]:
    """The paths of all messages inside a request, and the fields that lead to each."""

    def walk(current: Descriptor, way: list[FieldDescriptor]) -> Iterator[list[FieldDescriptor]]:
        for field in current.fields:
            if field.message_type is None or field.message_type.GetOptions().map_entry:
                continue
            yield [*way, field]
            yield from walk(field.message_type, [*way, field])

    for way in walk(descriptor, []):
        yield ".".join(field.name + ("[0]" if field.is_repeated else "") for field in way), way


NESTED = [
    pytest.param(method.input_type, path, way, id=f"{method.input_type.name}-{path}")
    for method in METHODS
    for path, way in messages_inside(method.input_type)
]


@pytest.mark.parametrize(("descriptor", "path", "way"), NESTED)
def test_an_unknown_field_deep_inside_is_found_and_named(
    descriptor: Descriptor, path: str, way: list[FieldDescriptor]
) -> None:
    request = GetMessageClass(descriptor)()
    inner: Message = request
    for field in way:
        inner = getattr(inner, field.name).add() if field.is_repeated else getattr(inner, field.name)
    inner.SetInParent()
    refuse_unknown(request)  # known so far
    inner.MergeFromString(UNKNOWN_FIELD)
    with pytest.raises(InvalidRequest) as caught:
        refuse_unknown(request)
    assert caught.value.field == f"{path}.997"


def test_an_enum_value_that_is_not_known_is_refused() -> None:
    request = search_pb2.SearchRequest(
        regions=[types_pb2.Region(), types_pb2.Region(coordinates=17)],
    )
    with pytest.raises(InvalidRequest, match="COORDINATE_SPACE_PIXELS") as caught:
        refuse_unknown(request)
    assert caught.value.field == "regions[1].coordinates"


def test_a_message_above_the_limit_is_refused_before_it_is_read(service: Service, filled: str) -> None:
    request = search_pb2.SearchRequest(collection=filled, image=b"x" * 2_000_000)
    with pytest.raises(grpc.RpcError) as caught:
        service.stubs.search.Search(request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(InvalidRequest, match="larger than max"):
        service.client.search(filled, image=b"x" * 2_000_000)


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (search_pb2.SearchRequest(liked=[{}] * (MAX_MESSAGES + 1)), "liked"),
        (search_pb2.SearchRequest(regions=[{"points": [{}] * (MAX_MESSAGES // 2)}] * 2), "regions[1].points"),
        (images_pb2.UpsertImagesRequest(images=[{}] * (MAX_MESSAGES + 1)), "images"),
    ],
    ids=["one list", "two lists together", "pictures"],
)
def test_a_request_of_very_many_tiny_messages_is_refused_before_they_are_looked_at(
    request_: Message, path: str
) -> None:
    with pytest.raises(InvalidRequest, match=str(MAX_MESSAGES)) as caught:
        refuse_unknown(request_)
    assert caught.value.field == path
