from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from served import LIMITS, Service, png

from regionsearch.errors import Cancelled, DeadlineExceeded, Overloaded
from regionsearch.serving.calls import Turnstile
from regionsearch.v1 import images_pb2


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


def test_a_call_beyond_the_limit_is_refused_with_a_delay_and_room_comes_back(
    service: Service, filled: str
) -> None:
    release = threading.Event()

    def held_open() -> Iterator[images_pb2.UpsertImageStreamRequest]:
        yield images_pb2.UpsertImageStreamRequest(
            collection=filled, image=images_pb2.ImageUpload(image_id="p00", image=png(0))
        )
        release.wait(30)

    with grpc.insecure_channel(service.address) as channel:
        path = "/regionsearch.v1.ImageService/UpsertImageStream"
        method = channel.stream_unary(path, images_pb2.UpsertImageStreamRequest.SerializeToString)
        streams = [method.future(held_open()) for _ in range(LIMITS.concurrent_calls)]
        try:
            _until_refused(service)
            with pytest.raises(Overloaded, match=r"limits\.concurrent_calls") as caught:
                service.client.search(filled, text="x")
            assert caught.value.retry_after_seconds > 0
        finally:
            release.set()
        for stream in streams:
            stream.result(timeout=20)
    assert len(service.client.search(filled, text="x", limit=3).hits) == 3


def _until_refused(service: Service) -> None:
    for _ in range(200):
        try:
            service.client.server_info()
        except Overloaded:
            return
        time.sleep(0.02)
    pytest.fail("the streams never filled the server")


def test_a_deadline_that_passes_is_told_as_such(service: Service, filled: str) -> None:
    with pytest.raises(DeadlineExceeded):
        service.client.search(filled, image=png(1), timeout=1e-6)


def test_a_stream_that_breaks_off_keeps_what_was_stored(service: Service, collection: str) -> None:
    def broken() -> Iterator[bytes]:
        for seed in range(12):
            yield png(seed)
        # The first eight fill a batch; wait until it is stored.
        for _ in range(500):
            if service.client.get_collection(collection).images == 8:
                break
            time.sleep(0.01)
        raise OSError("the card was pulled out")

    with pytest.raises(OSError, match="pulled out"):
        service.client.upsert_stream(collection, broken())
    assert service.client.get_collection(collection).images == 8


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
