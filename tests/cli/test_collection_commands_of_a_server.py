"""`collection`, `alias`, `snapshot` and `purge` against a server: the answers of a data directory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regionsearch.cli.main import main
from regionsearch.collection import DataDirectory, ImageRecord
from regionsearch.collection.purging import PurgeReport, purge
from regionsearch.config import Limits
from regionsearch.entities import Entities
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Mask
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.server import Server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, DataDirectory]]:
    folder: Path = tmp_path_factory.mktemp("served")
    with DataDirectory(folder / "data", "write") as directory:
        models = ModelRegistry(1)
        backend = Backend(
            directory, models, SearchEngine(models, Limits()), Limits(), snapshots=folder / "snapshots"
        )
        server = Server(Address("127.0.0.1", 0), Limits())
        server.start(backend)
        yield str(server.address), directory
        server.stop(1)


def answer(
    capsys: pytest.CaptureFixture[str], served: tuple[str, DataDirectory], *words: object, code: int = 0
) -> Any:
    capsys.readouterr()
    assert main([*map(str, words), "--address", served[0], "--json"]) == code
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], served: tuple[str, DataDirectory], *words: object) -> str:
    capsys.readouterr()
    assert main([*map(str, words), "--address", served[0]]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def filled(served: tuple[str, DataDirectory], name: str, count: int = 6) -> None:
    random = np.random.default_rng(1)
    records = []
    for number in range(count):
        vectors = random.standard_normal((2, 8)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        entities = Entities.from_masks([Mask.full(8, 8)], np.array([0.5], np.float32))
        records.append(ImageRecord(f"{number}.jpg", 8, 8, entities, vectors, payload={"year": 2000 + number}))
    served[1].collection(name).upsert(records)


def test_a_collection_of_a_server_is_looked_after(
    served: tuple[str, DataDirectory], capsys: pytest.CaptureFixture[str]
) -> None:
    create = ("collection", "create", "trips", "--space", "test", "--dimension", 8, "--field", "year=number")
    made = answer(capsys, served, *create)
    assert (made["name"], made["dimension"], made["indexed_fields"]) == ("trips", 8, {"year": "number"})
    filled(served, "trips")
    for action in ("seal", "compact"):
        assert answer(capsys, served, "collection", action, "trips")["fresh_rows"] == 0
    stats = answer(capsys, served, "collection", "stats", "trips")
    assert (stats["images"], sum(each["images"] for each in stats["segments"])) == (6, 6)
    assert stats["bytes"]["segments"] > 0
    where = "payload.year >= 2004"
    assert answer(capsys, served, "collection", "count", "trips", "--where", where)["images"] == 2
    assert answer(capsys, served, "collection", "delete", "trips", "--where", where) == {"deleted": 2}
    assert answer(capsys, served, "collection", "delete", "trips", "--id", "0.jpg") == {"deleted": 1}
    updated = answer(capsys, served, "collection", "update", "trips", "--favour", "speed", "--no-fields")
    assert (updated["favour"], updated["indexed_fields"]) == ("speed", {})
    assert answer(capsys, served, "alias", "set", "newest", "trips")["previous"] is None
    (listed,) = answer(capsys, served, "collection", "list")["collections"]
    assert listed == {"name": "trips", "images": 3, "entities": 3, "aliases": ["newest"]}
    assert "alias" in refused(capsys, served, "collection", "drop", "trips")
    assert answer(capsys, served, "alias", "delete", "newest") == {"alias": "newest", "collection": "trips"}
    assert answer(capsys, served, "alias", "list") == {"aliases": {}}
    assert answer(capsys, served, "collection", "drop", "trips") == {"name": "trips"}
    assert answer(capsys, served, "collection", "list") == {"collections": []}


def test_snapshots_of_a_server_are_taken_restored_and_purged_by_name(
    served: tuple[str, DataDirectory], capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, served, "collection", "create", "photos", "--space", "test", "--dimension", 8)
    filled(served, "photos")
    taken = answer(capsys, served, "snapshot", "create", "kept.tar", "--collection", "photos")
    assert (taken["ok"], taken["problems"], taken["images"], taken["snapshot"]) == (True, [], 6, "kept.tar")
    assert answer(capsys, served, "snapshot", "list")["snapshots"] == [
        {name: value for name, value in taken.items() if name not in ("ok", "problems")}
    ]
    restored = answer(capsys, served, "snapshot", "restore", "kept.tar", "--collection", "copy")
    assert restored == {"ok": True, "problems": [], "collection": "copy", "images": 6, "entities": 6}
    assert "exists already" in refused(capsys, served, "snapshot", "restore", "kept.tar")
    answer(capsys, served, "snapshot", "restore", "kept.tar", "--collection", "copy", "--replace")
    purged = answer(capsys, served, "purge", "1.jpg", "--collection", "photos", "--snapshot", "kept.tar")
    assert (purged["deleted"], purged["complete"], purged["notes"]) == (1, True, [])
    assert answer(capsys, served, "snapshot", "list")["snapshots"][0]["images"] == 5
    answer(capsys, served, "snapshot", "delete", "kept.tar")
    assert answer(capsys, served, "snapshot", "list") == {"snapshots": []}
    assert "kept.tar" in refused(capsys, served, "snapshot", "restore", "kept.tar")
    assert "name the folder" in refused(capsys, served, "snapshot", "list", "somewhere")


def test_a_purge_of_a_server_that_is_not_complete_exits_with_1(
    served: tuple[str, DataDirectory], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(*said: Any, **how: Any) -> PurgeReport:
        return purge(*said, **how, readers_seconds=0.1)

    monkeypatch.setattr("regionsearch.serving.image_service.purge", impatient)
    answer(capsys, served, "collection", "create", "read", "--space", "test", "--dimension", 8)
    filled(served, "read")
    with served[1].environment.transaction():
        purged = answer(capsys, served, "purge", "1.jpg", "--collection", "read", code=1)
    assert (purged["deleted"], purged["complete"]) == (1, False)
    assert answer(capsys, served, "purge", "1.jpg", "--collection", "read")["complete"] is True


def test_writing_to_the_directory_of_a_server_is_refused_naming_it(
    served: tuple[str, DataDirectory], capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(served[1].path)
    assert main(["alias", "set", "a", "b", "--data", data]) == 1
    said = capsys.readouterr().err
    assert "is in use by pid" in said
    assert "with --address" in said
    assert main(["collection", "list", "--data", data]) == 0
