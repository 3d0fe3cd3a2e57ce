"""Purging images over the API, from a collection and from the snapshots that a server keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from precomputed import fill
from served import Service, done, refusal_of, running

from regionsearch.collection.purging import PurgeReport, purge
from regionsearch.errors import ImageNotFound, SnapshotNotFound, StorageFull
from regionsearch.v1 import images_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.usefixtures("emptied_shelf")
def test_a_purged_image_is_in_no_snapshot_any_more(service: Service) -> None:
    client, name = service.client, fill(service.client, "purged", range(6))
    done(service, client.create_snapshot(name, "before"))
    purged = done(service, client.purge_images(name, ["r002", "r004"], snapshots=["before"]))
    assert (purged.kind, purged.images) == ("purge", 2)
    done(service, client.restore_snapshot("before", "purged-back"))
    for there in (name, "purged-back"):
        assert client.get_collection(there).images == 4
        with pytest.raises(ImageNotFound):
            client.get_image(there, "r002")
    with pytest.raises(SnapshotNotFound) as caught:
        client.purge_images(name, ["r001"], snapshots=["before", "never"])
    assert caught.value.field == "snapshots[1]"


@pytest.mark.usefixtures("emptied_shelf")
def test_a_purge_is_judged_before_it_is_an_operation_and_names_a_snapshot_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = service.client
    fill(client, "purged-once", range(3))
    done(service, client.create_snapshot("purged-once", "single"))
    for said, field in (
        ({"image_ids": ["r000", "a\nb"]}, "image_ids[1]"),
        ({"image_ids": ["r000"], "snapshots": ["single"] * 1_001}, "snapshots"),
    ):
        request = images_pb2.PurgeImagesRequest(collection="purged-once", **said)
        refused = refusal_of(lambda request=request: service.stubs.images.PurgeImages(request))
        assert (refused.code, refused.field) == (INVALID, field)
    rewritten: list[list[Path]] = []

    def counting(*said: Any, snapshots: list[Path], **how: Any) -> PurgeReport:
        rewritten.append(snapshots)
        return purge(*said, snapshots=snapshots, **how)

    monkeypatch.setattr("regionsearch.serving.image_service.purge", counting)
    done(service, client.purge_images("purged-once", ["r000"], snapshots=["single"] * 20))
    assert [[path.name for path in paths] for paths in rewritten] == [["single"]]


def test_a_purge_that_a_reader_hinders_says_that_it_is_not_complete(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, name = service.client, fill(service.client, "read-meanwhile", range(4))

    def impatient(*said: Any, **how: Any) -> PurgeReport:
        return purge(*said, **how, readers_seconds=0.1)

    monkeypatch.setattr("regionsearch.serving.image_service.purge", impatient)
    with service.backend.directory.environment.transaction():
        hindered = done(service, client.purge_images(name, ["r001"]))
    assert (hindered.images, hindered.complete) == (1, False)
    assert "purge again" in " ".join(hindered.notes)
    again = done(service, client.purge_images(name, ["r001"]))
    assert (again.images, again.complete, again.notes) == (0, True, ())
    assert done(service, client.compact_collection(name)).complete is None


def test_a_purge_without_room_says_so_where_no_snapshots_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> PurgeReport:
        raise StorageFull("no space left for the data directory")

    monkeypatch.setattr("regionsearch.serving.image_service.purge", full)
    with running(tmp_path / "data") as service:
        fill(service.client, "c", range(2))
        with pytest.raises(StorageFull, match="no space left"):
            service.client.wait_operation(service.client.purge_images("c", ["r000"]))
