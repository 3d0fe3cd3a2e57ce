from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from served import LIMITS, Service, png

from regionsearch.client import Client
from regionsearch.collection import DataDirectory
from regionsearch.errors import Cancelled, DeadlineExceeded, Overloaded
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.calls import CallInterceptor, Turnstile
from regionsearch.serving.required import collection_of
from regionsearch.serving.server import Server
from regionsearch.serving.uploads import bring_in
from regionsearch.v1 import images_pb2, operations_pb2, operations_pb2_grpc

INFO = operations_pb2.GetServerInfoRequest()


class Caller:
    """A caller whose patience the test controls."""

    def __init__(self, remaining: float | None = None) -> None:
        self._ends = None if remaining is None else time.monotonic() + remaining
        self.active = True

    def time_remaining(self) -> float | None:
        return None if self._ends is None else self._ends - time.monotonic()

    def is_active(self) -> bool:
        return self.active


def test_a_turnstile_lets_no_more_through_than_it_has_places() -> None:
    turnstile = Turnstile(2)
    inside, most = 0, 0
    lock = threading.Lock()

    def pass_through() -> None:
        nonlocal inside, most
        with turnstile.turn(Caller()):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=pass_through) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


def test_who_waits_at_a_turnstile_leaves_when_the_deadline_passes_or_the_caller_goes() -> None:
    turnstile = Turnstile(1)
    with turnstile.turn(Caller()):
        with pytest.raises(DeadlineExceeded), turnstile.turn(Caller(remaining=0.05)):
            pass
        gone = Caller()
        threading.Timer(0.05, lambda: setattr(gone, "active", False)).start()
        with pytest.raises(Cancelled), turnstile.turn(gone):
            pass
    with turnstile.turn(Caller()):
        pass  # the place is free again


@pytest.mark.parametrize("places", [1, 3])
def test_a_call_beyond_the_limit_is_refused_with_a_delay_and_room_comes_back(places: int) -> None:
    answers, entered = threading.Event(), threading.Semaphore(0)

    class Waiting(operations_pb2_grpc.ServerServiceServicer):
        def GetServerInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
            entered.release()
            answers.wait(30)
            return operations_pb2.GetServerInfoResponse(version="9")

    server = grpc.server(ThreadPoolExecutor(places + 1), interceptors=[CallInterceptor(places)])
    operations_pb2_grpc.add_ServerServiceServicer_to_server(Waiting(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        with Client(address, timeout=20) as client, ThreadPoolExecutor(places) as pool:
            calls = [pool.submit(client._stubs.server.GetServerInfo, INFO) for _ in range(places)]
            for _ in calls:
                assert entered.acquire(timeout=20)
            with pytest.raises(Overloaded, match=r"limits\.concurrent_calls") as caught:
                client.server_info()
            assert caught.value.retry_after_seconds > 0
            answers.set()
            assert [call.result(timeout=20).version for call in calls] == ["9"] * places
            assert client._stubs.server.GetServerInfo(INFO).version == "9"
    finally:
        answers.set()
        server.stop(0).wait()


def test_uploads_that_wait_for_pictures_leave_three_quarters_of_the_places_to_searches(
    service: Service, filled: str, collection: str
) -> None:
    release = threading.Event()

    def held_open() -> Iterator[images_pb2.UpsertImageStreamRequest]:
        yield images_pb2.UpsertImageStreamRequest(
            collection=collection, image=images_pb2.ImageUpload(image_id="a", image=png(0))
        )
        release.wait(30)

    with grpc.insecure_channel(service.address) as channel:
        path = "/regionsearch.v1.ImageService/UpsertImageStream"
        method = channel.stream_unary(path, images_pb2.UpsertImageStreamRequest.SerializeToString)
        streams = [method.future(held_open()) for _ in range(LIMITS.concurrent_calls)]
        try:
            refused = [stream for stream in streams if _refused_soon(stream)]
            assert len(refused) == LIMITS.concurrent_calls * 3 // 4
            with pytest.raises(Overloaded, match=r"4 uploads .*limits\.concurrent_calls") as caught:
                service.client.upsert(collection, [png(1)])
            assert caught.value.retry_after_seconds > 0
            assert len(service.client.search(filled, text="x", limit=3).hits) == 3
        finally:
            release.set()
        for stream in streams:
            if stream not in refused:
                stream.result(timeout=20)
    assert len(service.client.upsert(collection, [png(1)]).upserted) == 1


def _refused_soon(stream: Any) -> bool:
    try:
        return stream.exception(timeout=1).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    except grpc.FutureTimeoutError:
        return False


def test_a_stream_that_brings_nothing_is_ended_and_what_it_brought_is_kept(tmp_path: Path) -> None:
    finished = threading.Event()

    def pictures() -> Iterator[bytes]:
        yield from (png(seed) for seed in range(3))
        finished.wait(30)

    with DataDirectory(tmp_path / "data", "write") as directory:
        models = ModelRegistry(1)
        server = Server(Address("127.0.0.1", 0), LIMITS, idle_seconds=0.3)
        server.start(Backend(directory, models, SearchEngine(models, LIMITS), LIMITS))
        with Client(str(server.address), timeout=20) as client:
            client.create_collection("c", embedder="dummy", segmenter="dummy")
            with pytest.raises(DeadlineExceeded, match=r"no message for 0\.3 s"):
                client.upsert_stream("c", pictures())
            assert client.get_collection("c").images == 3
            finished.set()
            _until(lambda: all(thread.name != "stream" for thread in threading.enumerate()))
        server.stop(1)


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("what was waited for never came")


def test_a_deadline_that_passes_is_told_as_such(service: Service, filled: str) -> None:
    with pytest.raises(DeadlineExceeded):
        service.client.search(filled, image=png(1), timeout=1e-6)


def test_a_stream_that_breaks_off_keeps_what_was_stored(service: Service, collection: str) -> None:
    def broken() -> Iterator[bytes]:
        for seed in range(12):
            yield png(seed)
        # The first eight fill a batch. That it is stored means that the ninth arrived.
        _until(lambda: service.client.get_collection(collection).images == 8)
        raise OSError("the card was pulled out")

    with pytest.raises(OSError, match="pulled out"):
        service.client.upsert_stream(collection, broken())
    # Nobody waits for the rest any more; what arrived of it is stored all the same.
    _until(lambda: service.client.get_collection(collection).images > 8)


def test_a_stream_that_ends_before_its_caller_is_known_to_be_gone_is_kept(
    service: Service, collection: str
) -> None:
    caller = Caller()

    def ending() -> Iterator[images_pb2.ImageUpload]:
        for seed in range(3):
            yield images_pb2.ImageUpload(image_id=f"a{seed}", image=png(seed))
        caller.active = False

    outcomes = bring_in(service.backend, collection_of(service.backend, collection), ending(), caller)
    assert [image.image_id for outcome in outcomes for image in outcome.upserted] == ["a0", "a1", "a2"]


def test_a_malformed_message_does_not_undo_the_pictures_before_it(service: Service, collection: str) -> None:
    good = [
        images_pb2.UpsertImageStreamRequest(
            collection=collection, image=images_pb2.ImageUpload(image_id=f"a{seed}", image=png(seed))
        ).SerializeToString()
        for seed in range(3)
    ]
    unknown_field = b"\xa0\x3f\x01"
    for bad in (b"\xff", unknown_field, b""):
        with grpc.insecure_channel(service.address) as channel:
            method = channel.stream_unary("/regionsearch.v1.ImageService/UpsertImageStream")
            with pytest.raises(grpc.RpcError) as caught:
                method(iter([*good, bad, good[0]]), timeout=20)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        stored = service.client.list_images(collection)
        assert [image.image_id for image in stored] == ["a0", "a1", "a2"]
        service.client.delete_images(collection, ["a0", "a1", "a2"])


def test_a_stream_is_read_no_faster_than_it_is_stored(service: Service, collection: str) -> None:
    pulled = 0
    padding = np.random.default_rng(0).bytes(LIMITS.image_bytes - 10_000)

    def pictures() -> Iterator[bytes]:
        nonlocal pulled
        for seed in range(120):
            pulled += 1
            yield png(seed % 8) + padding + bytes([seed])

    def waited_for_rest() -> int:
        before = -1
        while pulled != before or pulled < 8:
            before = pulled
            time.sleep(0.5)
        return before

    with ThreadPoolExecutor(1) as pool:
        with service.backend.ingest.turn(Caller()):
            task = pool.submit(service.client.upsert_stream, collection, pictures())
            # A batch, and what gRPC and the sockets hold of the next pictures: some megabytes.
            assert 8 <= waited_for_rest() < 100
        assert task.result().created == 120
