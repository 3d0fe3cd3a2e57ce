from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from served import refusal_of

from regionsearch import errors
from regionsearch.client import Client
from regionsearch.client.channel import Stubs
from regionsearch.errors import (
    CollectionNotFound,
    InvalidRequest,
    Overloaded,
    RegionSearchError,
    Unavailable,
)
from regionsearch.serving.calls import CallInterceptor
from regionsearch.serving.status import shortened, status_of
from regionsearch.v1 import (
    collections_pb2,
    collections_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
)

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, RegionSearchError)
]


@dataclass
class Failing:
    """A server whose calls fail as the test says: with `error`, after `good` more calls."""

    address: str = ""
    error: Exception | None = None
    failures_left: int = 1_000
    calls: int = 0
    seen: list[Any] = field(default_factory=list)

    def answer(self) -> None:
        self.calls += 1
        if self.error is not None and self.failures_left > 0:
            self.failures_left -= 1
            raise self.error


@pytest.fixture
def failing() -> Iterator[Failing]:
    script = Failing()

    class Collections(collections_pb2_grpc.CollectionServiceServicer):
        def DeleteCollection(self, request: Any, context: Any) -> Any:  # noqa: N802
            script.answer()
            return collections_pb2.DeleteCollectionResponse()

    class Server(operations_pb2_grpc.ServerServiceServicer):
        def GetServerInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
            script.answer()
            return operations_pb2.GetServerInfoResponse(version="9")

    server = grpc.server(ThreadPoolExecutor(4), interceptors=[CallInterceptor(4)])
    collections_pb2_grpc.add_CollectionServiceServicer_to_server(Collections(), server)
    operations_pb2_grpc.add_ServerServiceServicer_to_server(Server(), server)
    script.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield script
    server.stop(0).wait()


def made(kind: type[RegionSearchError]) -> RegionSearchError:
    if kind is Overloaded:
        return Overloaded("too much: 'größer'", retry_after_seconds=2.5)
    return kind(
        "the thing 'größer' is 7; the limit is 5", field="a.b[2]", metadata={"collection": "c", "é": "ü"}
    )


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_arrives_as_what_it_was(failing: Failing, kind: type[RegionSearchError]) -> None:
    error = failing.error = made(kind)
    with Client(failing.address) as client, pytest.raises(RegionSearchError) as caught:
        client.delete_collection("c")
    received = caught.value
    assert type(received) is kind
    assert (received.message, received.field, received.metadata) == (
        error.message,
        error.field,
        error.metadata,
    )
    if isinstance(error, Overloaded):
        assert isinstance(received, Overloaded)
        assert received.retry_after_seconds == 2.5


def test_reasons_are_unique_and_codes_exist() -> None:
    assert len({kind.reason for kind in CLASSES}) == len(CLASSES)
    assert {kind.grpc_status for kind in CLASSES} <= {code.name for code in grpc.StatusCode}


def test_an_unexpected_error_tells_no_secrets_but_a_number_that_the_log_has(
    failing: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    failing.error = KeyError("secret of the house")
    with grpc.insecure_channel(failing.address) as channel, caplog.at_level(logging.ERROR):
        stub = Stubs(channel).collections
        request = collections_pb2.DeleteCollectionRequest(name="c")
        refused = refusal_of(lambda: stub.DeleteCollection(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "secret" not in refused.message
    assert "KeyError" not in refused.message
    [record] = [record for record in caplog.records if record.name == "regionsearch.serving"]
    incident = refused.message.split()[-1]
    assert incident in record.getMessage()
    assert "secret of the house" in caplog.text


def test_the_resource_that_is_missing_is_named_in_the_details() -> None:
    status: Any = status_of(CollectionNotFound("no such", metadata={"collection": "photos"}))
    info = error_details_pb2.ResourceInfo()
    assert any(detail.Is(info.DESCRIPTOR) and detail.Unpack(info) for detail in status.details)
    assert (info.resource_type, info.resource_name) == ("collection", "photos")


def test_a_message_of_any_length_arrives_shortened(failing: Failing) -> None:
    failing.error = InvalidRequest(
        "€" * 100_000, field="f" * 100_000, metadata={str(n): "€" * 10_000 for n in range(50)}
    )
    with Client(failing.address) as client, pytest.raises(InvalidRequest) as caught:
        client.delete_collection("c")
    assert caught.value.message.startswith("€" * 300)
    assert caught.value.message.endswith("…")


@pytest.mark.parametrize("limit", range(4, 12))
def test_text_is_cut_between_characters(limit: int) -> None:
    cut = shortened("aé€😀" * 5, limit)
    assert len(cut.encode()) <= limit
    assert "aé€😀".startswith(cut[:-1][:4])
    assert cut.endswith("…")
    assert shortened("aé", 3) == "aé"


def test_reads_are_tried_again_while_the_server_is_unavailable(failing: Failing) -> None:
    failing.error, failing.failures_left = Unavailable("stopping"), 2
    with Client(failing.address) as client:
        assert client.server_info().version == "9"
    assert failing.calls == 3


def test_writes_are_tried_once(failing: Failing) -> None:
    failing.error = Unavailable("stopping")
    with Client(failing.address) as client, pytest.raises(Unavailable):
        client.delete_collection("c")
    assert failing.calls == 1


def test_a_status_without_our_details_becomes_the_nearest_error(failing: Failing) -> None:
    with Client(failing.address) as client, pytest.raises(RegionSearchError, match="UNIMPLEMENTED") as caught:
        client.search("c", text="t")
    assert type(caught.value) is RegionSearchError


def test_a_status_carries_the_code_and_the_details_that_a_foreign_client_reads(failing: Failing) -> None:
    failing.error = Overloaded("busy", retry_after_seconds=0.25)
    with grpc.insecure_channel(failing.address) as channel, pytest.raises(grpc.RpcError) as caught:
        Stubs(channel).collections.DeleteCollection(collections_pb2.DeleteCollectionRequest())
    status = rpc_status.from_call(caught.value)
    retry = error_details_pb2.RetryInfo()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert any(detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.ToMilliseconds() == 250
