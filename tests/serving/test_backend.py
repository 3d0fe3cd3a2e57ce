"""A server goes on with the collections that it can serve."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from precomputed import DIMENSION, wide
from served import LIMITS, Service, png, refusal_of

from regionsearch.client import Client
from regionsearch.client.channel import Stubs
from regionsearch.collection import Collection, DataDirectory
from regionsearch.errors import CollectionNotFound, DataLoss, StorageFull
from regionsearch.fingerprint import Fingerprint
from regionsearch.ingest import collection_spec
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.operations import Outcome, Steps
from regionsearch.serving.required import collection_of
from regionsearch.serving.server import Server
from regionsearch.v1 import images_pb2, search_pb2


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Service]:
    """A server whose directory holds, beside `good`, collections that it cannot search: `other` is of
    other weights, `absent` of a model whose package is not there."""
    with DataDirectory(tmp_path / "data", "write") as directory:
        models = ModelRegistry(1)
        spec = collection_spec("good", models.embedder("dummy"), models.segmenter("dummy"))
        directory.create_collection(spec)
        other = replace(spec.embedder, weights="0" * 64)
        directory.create_collection(replace(spec, name="other", embedder=other))
        absent = Fingerprint("absent", "1" * 64, spec.embedder.dimension, 1)
        directory.create_collection(replace(spec, name="absent", embedder=absent))
        backend = Backend(directory, models, SearchEngine(models, LIMITS), LIMITS)
        backend.load()
        server = Server(Address("127.0.0.1", 0), LIMITS)
        server.start(backend)
        address = str(server.address)
        with Client(address, timeout=20) as client, grpc.insecure_channel(address) as channel:
            yield Service(address, backend, client, Stubs(channel))
        server.stop(1)


def test_a_collection_of_another_model_keeps_nobody_from_the_others(
    started: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "regionsearch.serving"):
        started.backend.load()
    directory = started.backend.directory
    stored = directory.collection("other").spec.embedder
    present = directory.collection("good").spec.embedder
    [line] = [record.getMessage() for record in caplog.records if "collection=other" in record.getMessage()]
    assert "FINGERPRINT_MISMATCH" in line
    assert str(stored) in line
    assert str(present) in line
    assert any("collection=absent" in record.getMessage() for record in caplog.records)
    assert not any("collection=good" in record.getMessage() for record in caplog.records)

    started.client.upsert("good", [png(1)], ids=["a"])
    assert [hit.image_id for hit in started.client.search("good", image=png(1)).hits] == ["a"]
    # What needs no model is answered, what needs one is refused.
    assert list(started.client.list_images("other")) == []
    search = search_pb2.SearchRequest(collection="other", text="x")
    upload = images_pb2.UpsertImagesRequest(
        collection="other", images=[images_pb2.ImageUpload(image_id="a", image=png(1))]
    )
    for refused in (
        refusal_of(lambda: started.stubs.search.Search(search)),
        refusal_of(lambda: started.stubs.images.UpsertImages(upload)),
    ):
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "FINGERPRINT_MISMATCH",
        )


def test_images_that_are_stored_are_acknowledged_even_when_the_statistics_cannot_follow(
    service: Service, collection: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def damaged(stored: Collection) -> None:
        raise DataLoss(f"a record of {stored.spec.name} fails its checksum")

    monkeypatch.setattr(service.backend.engine, "prepare", damaged)
    with caplog.at_level(logging.ERROR, "regionsearch.serving"):
        report = service.client.upsert(collection, [png(1)], ids=["a"])
    assert [image.image_id for image in report.upserted] == ["a"]
    assert service.client.get_collection(collection).images == 1
    assert any("DATA_LOSS" in record.getMessage() for record in caplog.records)


def test_a_collection_that_is_not_there_is_never_among_those_that_are(
    service: Service, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dropped(name: str) -> Collection:
        raise CollectionNotFound(f"collection {name!r} was dropped")

    # Created again between the error and its message.
    monkeypatch.setattr(service.backend.directory, "collection", dropped)
    with pytest.raises(CollectionNotFound) as caught:
        collection_of(service.backend, filled)
    assert filled not in caught.value.message.partition(";")[2]


def test_nobody_far_away_learns_where_the_data_lies(tmp_path: Path) -> None:
    where = tmp_path / "secret" / "data"
    with DataDirectory(where, "write", map_size=4 << 20) as directory:
        models = ModelRegistry(1)
        backend = Backend(directory, models, SearchEngine(models, LIMITS), LIMITS)
        server = Server(Address("127.0.0.1", 0), LIMITS)
        server.start(backend)
        with Client(str(server.address), timeout=20) as client:
            client.create_collection("c", space="s", dimension=DIMENSION)
            with pytest.raises(StorageFull) as full:
                list(itertools.starmap(wide, ((client, "c", [seed]) for seed in range(200))))
            warnings = client.collection_stats("c").warnings

            def work(steps: Steps) -> Outcome:
                raise DataLoss(f"'{where}/catalog/data.mdb' was cut")

            failed = backend.begin("seal", "c", work)
            with pytest.raises(DataLoss, match=r"'…/catalog/data\.mdb' was cut"):
                client.wait_operation(failed.id)
        server.stop(1)
    assert "data directory '…'" in full.value.message
    assert len(warnings) == 1
    assert "secret" not in full.value.message + warnings[0]
