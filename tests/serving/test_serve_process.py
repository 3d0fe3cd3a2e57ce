"""`regionsearch serve` as a process: its first line, its exit status, its end."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from precomputed import fill
from served import Service, png

from regionsearch.client import Answer, AsyncClient, Client, Query
from regionsearch.errors import Cancelled, InvalidRequest, RegionSearchError, Unavailable
from regionsearch.search.scoring import shipped_scoring
from regionsearch.serving.address import Address


def command(data: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "regionsearch", "serve", "--data", str(data), *options]


@contextmanager
def served(data: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server on a free port, and its address. Killed at the end if it still runs."""
    arguments = command(data, "--address", "127.0.0.1:0", *options)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("127.0.0.1:"), text_of(process.stderr)
            yield process, address
        finally:
            process.kill()


def text_of(stream: IO[str] | None) -> str:
    return stream.read() if stream is not None else ""


def until_stored(client: Client, images: int) -> None:
    """Waits until the collection has so many: then the upload is a call in flight beyond doubt."""
    for _ in range(1_000):
        if client.get_collection("c").images == images:
            return
        time.sleep(0.02)
    pytest.fail(f"the server never stored {images} images")


def refused(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


def test_sigterm_lets_the_call_in_flight_finish_and_ends_with_0(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with served(data, "--log-level", "debug") as (process, address), Client(address) as client:
        client.wait_until_ready()
        client.create_collection("c", embedder="dummy", segmenter="dummy")

        def pictures() -> Iterator[bytes]:
            for seed in range(9):
                yield png(seed)
            until_stored(client, 8)
            process.send_signal(signal.SIGTERM)
            yield png(9)

        report = client.upsert_stream("c", pictures())
        assert (report.created, report.failed) == (10, 0)
        assert process.wait(timeout=20) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""
        log = text_of(process.stderr)
        assert "event=stopped" in log
        assert "method=/regionsearch.v1.CollectionService/CreateCollection outcome=OK" in log
        assert "Traceback" not in log
        assert all(line.startswith("time=") for line in log.splitlines())
    # What was acknowledged is there for the next server, on whatever port.
    with served(data) as (process, address), Client(address) as client:
        assert client.get_collection("c").images == 10
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


def test_a_call_that_outlasts_the_grace_is_cut_and_the_server_still_ends_with_0(tmp_path: Path) -> None:
    with served(tmp_path / "data", "--grace", "0.2") as (process, address), Client(address) as client:
        client.create_collection("c", embedder="dummy", segmenter="dummy")

        def endless() -> Iterator[bytes]:
            for seed in range(9):
                yield png(seed)
            until_stored(client, 8)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
            yield png(9)

        with pytest.raises((Cancelled, Unavailable)):
            client.upsert_stream("c", endless())
        assert process.wait(timeout=20) == 0


def test_snapshots_lie_where_the_operator_said_and_serve_the_next_server(tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    with (
        served(tmp_path / "data", "--snapshots", str(shelf)) as (process, address),
        Client(address) as client,
    ):
        fill(client, "c", range(5))
        client.wait_operation(client.create_snapshot("c", "friday"), timeout=20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    assert [path.name for path in shelf.iterdir()] == ["friday"]
    with (
        served(tmp_path / "other", "--snapshots", str(shelf)) as (process, address),
        Client(address) as client,
    ):
        client.wait_operation(client.restore_snapshot("friday"), timeout=20)
        assert [image.image_id for image in client.list_images("c")] == [f"r{seed:03}" for seed in range(5)]
        assert list(client.list_operations(kind="snapshot")) == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_a_server_scores_by_the_file_that_it_is_given(tmp_path: Path) -> None:
    shipped = shipped_scoring()
    own = replace(
        shipped,
        weights={**shipped.weights, "global": 0.25},
        calibration=replace(shipped.calibration, version="our-own-judgements"),
    )
    path = tmp_path / "scoring.json"
    path.write_text(json.dumps(own.to_json()), encoding="utf-8")
    with served(tmp_path / "data", "--scoring", str(path)) as (_, address), Client(address) as client:
        client.create_collection("c", embedder="dummy", segmenter="dummy")
        client.upsert("c", [png(0)])
        answer = client.search("c", image=png(0))
        assert answer.calibration == "our-own-judgements"
        assert answer.hits[0].parts["global"].weight == 0.25


@pytest.mark.parametrize("text", [None, "{}", "no JSON"])
def test_a_scoring_file_that_is_none_is_refused_with_one_line(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "scoring.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    done = refused(*command(tmp_path / "data", "--address", "127.0.0.1:0", "--scoring", str(path)))
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert str(path) in line
    assert not (tmp_path / "data").exists()


def test_a_port_in_use_is_refused_with_one_line_before_anything_is_created(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = refused(*command(tmp_path / "data", "--address", address))
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert address in line
    assert "in use" in line
    assert not (tmp_path / "data").exists()


def test_a_limit_that_no_message_can_tell_is_refused_as_a_command_line(tmp_path: Path) -> None:
    for option in ("--max-message-bytes", "--max-hits"):
        done = refused(*command(tmp_path / "data", option, str(2**31)))
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{option}: '2147483648' is not a whole number" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_second_server_on_the_port_of_the_first_is_refused(service: Service, tmp_path: Path) -> None:
    done = refused(*command(tmp_path / "data", "--address", service.address))
    assert done.returncode == 1
    assert "in use" in done.stderr


def test_a_directory_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear diary")
    done = refused(*command(tmp_path, "--address", "127.0.0.1:0"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert str(tmp_path) in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_second_server_on_the_same_directory_is_refused_naming_the_first(tmp_path: Path) -> None:
    with served(tmp_path / "data") as (process, _):
        done = refused(*command(tmp_path / "data", "--address", "127.0.0.1:0"))
        assert done.returncode == 1
        assert str(process.pid) in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--address", "nowhere"),
        ("--address", "127.0.0.1:99999"),
        ("--address", "::1:80"),
        ("--max-megapixels", "0"),
        ("--max-megapixels", "nan"),
        ("--max-hits", "-1"),
        ("--max-hits", "1.5"),
        ("--threads", "0"),
        ("--grace", "-1"),
        ("--log-level", "loud"),
        ("--max-hit", "5"),
    ],
)
def test_an_option_that_is_not_of_its_form_ends_with_2(
    tmp_path: Path, options: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    from regionsearch.cli import main

    with pytest.raises(SystemExit) as caught:
        main(["serve", "--data", str(tmp_path / "data"), *options])
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("localhost:50051", Address("localhost", 50051)),
        ("[::1]:80", Address("::1", 80)),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", ":80", "host", "host:", "host:x", "host:-1", "host:65536", "a:b:80"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="HOST:PORT"):
        Address.parse(text)


def test_health_is_told_for_the_server_and_each_service(service: Service) -> None:
    with grpc.insecure_channel(service.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        names = [
            "",
            *(f"regionsearch.v1.{name}Service" for name in ("Collection", "Image", "Search", "Server")),
        ]
        states = [check(health_pb2.HealthCheckRequest(service=name)).status for name in names]
        assert states == [health_pb2.HealthCheckResponse.SERVING] * 5


def test_health_says_not_serving_while_the_last_calls_finish(tmp_path: Path) -> None:
    with served(tmp_path / "data") as (process, address), grpc.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        assert process.wait(timeout=20) == 0


def test_reflection_names_every_service(service: Service) -> None:
    with grpc.insecure_channel(service.address) as channel:
        names = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert {
        "regionsearch.v1.CollectionService",
        "regionsearch.v1.ImageService",
        "regionsearch.v1.SearchService",
        "regionsearch.v1.ServerService",
        "grpc.health.v1.Health",
    } <= names


def test_many_questions_are_asked_of_a_server_that_takes_few_and_small_calls(tmp_path: Path) -> None:
    options = ("--max-batch-queries", "3", "--max-message-bytes", "20000")
    with served(tmp_path / "d", *options) as (_, address), Client(address, timeout=20) as client:
        client.create_collection("c", embedder="dummy", segmenter="dummy")
        client.upsert("c", [png(1), png(2)], ids=["a", "b"])
        words = [Query(text=word, masks=False) for word in ("red", "green", "blue", "a thing") * 3]
        found = client.search_many("c", [*words, Query(image=b"x" * 30_000), words[0]])
        assert [isinstance(answer, Answer) for answer in found] == [True] * 12 + [False, True]
        assert isinstance(found[12], InvalidRequest)

        async def asked() -> list[Answer | RegionSearchError]:
            async with AsyncClient(address, timeout=20) as asynchronous:
                return await asynchronous.search_many("c", [*words, Query(image=b"x" * 30_000)])

        for one, other in zip(asyncio.run(asked()), found[:13], strict=True):
            assert type(one) is type(other)
            assert getattr(one, "hits", ()) == getattr(other, "hits", ())
