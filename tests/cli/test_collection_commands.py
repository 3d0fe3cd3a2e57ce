"""`collection`, `alias`, `snapshot` and `purge` on a data directory, as a person or a script runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regionsearch import contract_names
from regionsearch.cli import collection_command
from regionsearch.cli.main import main
from regionsearch.collection import DataDirectory, ImageRecord
from regionsearch.entities import Entities
from regionsearch.regions import Mask


def made(data: Path, count: int = 6) -> None:
    """A collection `trips` of vectors computed elsewhere, with payloads."""
    words = ["collection", "create", "trips", "--data", str(data), "--space", "test", "--dimension", "8"]
    words += ["--field", "year=number", "--recall-target", "0.9", "--favour", "speed", "--json"]
    assert main(words) == 0
    random = np.random.default_rng(1)
    with DataDirectory(data, "write") as directory:
        records = []
        for number in range(count):
            vectors = random.standard_normal((2, 8)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            entities = Entities.from_masks([Mask.full(8, 8)], np.array([0.5], np.float32))
            records.append(
                ImageRecord(f"{number}.jpg", 8, 8, entities, vectors, payload={"year": 2000 + number})
            )
        directory.collection("trips").upsert(records)


def answer(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line on stderr of a command that is refused."""
    capsys.readouterr()
    assert main(list(map(str, words))) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


def test_what_a_command_can_say_of_an_index_is_what_the_contract_can() -> None:
    assert tuple(contract_names.FIELD_KINDS) == collection_command.FIELD_KINDS
    assert tuple(contract_names.FAVOURS) == collection_command.FAVOURS


def test_a_collection_is_made_described_counted_and_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    made(data)
    stats = answer(capsys, "collection", "stats", "trips", "--data", data)
    assert (stats["images"], stats["entities"], stats["dimension"]) == (6, 6, 8)
    assert (stats["indexed_fields"], stats["recall_target"], stats["favour"]) == (
        {"year": "number"},
        0.9,
        "speed",
    )
    listed = answer(capsys, "collection", "list", "--data", data)
    assert listed == {"collections": [{"name": "trips", "images": 6, "entities": 6, "aliases": []}]}
    where = "payload.year >= 2003"
    assert answer(capsys, "collection", "count", "trips", "--data", data, "--where", where)["images"] == 3
    deleted = answer(capsys, "collection", "delete", "trips", "--data", data, "--where", where)
    assert deleted == {"deleted": 3}
    deleted = answer(capsys, "collection", "delete", "trips", "--data", data, "--id", "0.jpg", "--id", "none")
    assert deleted == {"deleted": 1}
    assert main(["collection", "stats", "trips", "--data", str(data)]) == 0
    assert "images          2" in capsys.readouterr().out
    assert answer(capsys, "collection", "drop", "trips", "--data", data) == {"name": "trips"}
    assert main(["collection", "list", "--data", str(data)]) == 0
    assert capsys.readouterr().out == "no collections\n"


def test_fields_and_wishes_of_a_collection_are_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    made(data)
    words = ("collection", "update", "trips", "--data", data)
    changed = answer(
        capsys, *words, "--field", "year=number", "--field", "place=string", "--favour", "memory"
    )
    assert changed["indexed_fields"] == {"year": "number", "place": "string"}
    assert (changed["recall_target"], changed["favour"]) == (0.9, "memory")
    added = answer(capsys, *words, "--add-field", "month=number", "--add-field", "place=boolean")
    assert added["indexed_fields"] == {"year": "number", "place": "boolean", "month": "number"}
    assert "contradict" in refused(capsys, *words, "--field", "a=number", "--add-field", "b=number")
    assert answer(capsys, *words, "--no-fields")["indexed_fields"] == {}
    assert "nothing is to be changed" in refused(capsys, *words)
    assert "contradict" in refused(capsys, *words, "--no-fields", "--field", "a=number")
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words), "--field", "year"])
    assert ended.value.code == 2


def test_an_alias_is_set_switched_listed_used_and_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    made(data)
    first = answer(capsys, "alias", "set", "newest", "trips", "--data", data)
    assert first == {"alias": "newest", "collection": "trips", "previous": None}
    assert answer(capsys, "alias", "list", "--data", data) == {"aliases": {"newest": "trips"}}
    assert answer(capsys, "collection", "stats", "newest", "--data", data)["name"] == "trips"
    snapshot = tmp_path / "trips.tar"
    answer(capsys, "snapshot", "create", snapshot, "--collection", "newest", "--data", data)
    answer(capsys, "snapshot", "restore", snapshot, "--collection", "trips-2", "--data", data)
    assert answer(capsys, "alias", "set", "newest", "trips-2", "--data", data)["previous"] == "trips"
    assert "'newest' is an alias" in refused(capsys, "collection", "drop", "newest", "--data", data)
    assert "has the alias 'newest'" in refused(capsys, "collection", "drop", "trips-2", "--data", data)
    answer(capsys, "collection", "drop", "trips-2", "--aliases", "--data", data)
    assert "no alias 'newest'" in refused(capsys, "alias", "delete", "newest", "--data", data)
    assert answer(capsys, "alias", "list", "--data", data) == {"aliases": {}}


@pytest.mark.parametrize("name", ["snapshot", "snapshot.tar"])
def test_a_snapshot_is_taken_verified_listed_restored_and_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    data, path = tmp_path / "data", tmp_path / "kept" / name
    made(data)
    taken = answer(capsys, "snapshot", "create", path, "--collection", "trips", "--data", data)
    assert (taken["ok"], taken["problems"], taken["images"]) == (True, [], 6)
    assert "exists already" in refused(
        capsys, "snapshot", "create", path, "--collection", "trips", "--data", data
    )
    verified = answer(capsys, "snapshot", "verify", path)
    assert (verified["ok"], verified["problems"]) == (True, [])
    (listed,) = answer(capsys, "snapshot", "list", tmp_path / "kept")["snapshots"]
    assert listed["snapshot"] == str(path)
    assert listed == {each: taken[each] for each in listed}
    restored = answer(capsys, "snapshot", "restore", path, "--data", tmp_path / "new")
    assert restored == {"ok": True, "problems": [], "collection": "trips", "images": 6, "entities": 6}
    assert "exists already" in refused(capsys, "snapshot", "restore", path, "--data", data)
    answer(capsys, "snapshot", "restore", path, "--data", data, "--replace")
    assert answer(capsys, "snapshot", "delete", path) == {"snapshot": str(path)}
    assert answer(capsys, "snapshot", "list", tmp_path / "kept") == {"snapshots": []}


def test_a_damaged_snapshot_is_told_by_code_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, path = tmp_path / "data", tmp_path / "snapshot.tar"
    made(data)
    answer(capsys, "snapshot", "create", path, "--collection", "trips", "--data", data)
    content = bytearray(path.read_bytes())
    content[1_000] ^= 1
    path.write_bytes(content)
    report = answer(capsys, "snapshot", "verify", path, code=1)
    assert not report["ok"]
    assert "does not match its checksum" in report["problems"][0]
    report = answer(capsys, "snapshot", "restore", path, "--collection", "b", "--data", data, code=1)
    assert (report["ok"], len(report["problems"])) == (False, 1)
    assert "checksum" in refused(capsys, "snapshot", "restore", path, "--collection", "b", "--data", data)
    assert "no snapshot" in refused(capsys, "snapshot", "verify", tmp_path / "none")


def test_purged_images_are_gone_from_the_directory_and_the_named_snapshots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, path = tmp_path / "data", tmp_path / "snapshot.tar"
    made(data)
    answer(capsys, "snapshot", "create", path, "--collection", "trips", "--data", data)
    words = ("purge", "1.jpg", "none.jpg", "--collection", "trips", "--data", data, "--snapshot", path)
    report = answer(capsys, *words)
    assert (report["deleted"], report["missing"], report["complete"]) == (1, ["none.jpg"], True)
    assert report["rewritten"] == [str(path)]
    assert answer(capsys, "snapshot", "verify", path)["images"] == 5
    assert b"1.jpg" not in path.read_bytes() + (data / "catalog" / "data.mdb").read_bytes()


def test_no_command_makes_a_data_directory_of_a_mistyped_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["collection", "list"],
        ["collection", "seal", "trips"],
        ["collection", "drop", "trips"],
        ["alias", "set", "a", "trips"],
        ["purge", "id", "--collection", "trips"],
        ["snapshot", "create", str(tmp_path / "x.tar"), "--collection", "trips"],
    ):
        assert "does not exist" in refused(capsys, *words, "--data", tmp_path / "mistyped")
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_go_together_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    made(data)
    create = ("collection", "create", "more", "--data", data)
    for words, reason in (
        ((*create, "--space", "s"), "come together"),
        ((*create, "--space", "s", "--dimension", 3, "--embedder", "compact"), "instead of"),
        (("collection", "delete", "trips", "--data", data), "which images"),
        (("collection", "delete", "trips", "--data", data, "--id", "a", "--where", "a"), "which images"),
        (("collection", "list", "--data", data, "--timeout", 3), "--timeout is for a server"),
        (("snapshot", "list"), "name the folder"),
        (("collection", "stats", "none", "--data", data), "no collection 'none'"),
        (("collection", "count", "trips", "--data", data, "--where", "year >"), "year"),
    ):
        assert reason in refused(capsys, *words)


def test_a_stopped_command_ends_as_the_signal_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    from regionsearch.collection import steps

    data = tmp_path / "data"
    made(data)
    monkeypatch.setattr(
        steps,
        "_observer",
        lambda name: os.kill(os.getpid(), signal.SIGINT) if name == "snapshot: rows copied" else None,
    )
    with pytest.raises(SystemExit) as ended:
        main(["snapshot", "create", str(tmp_path / "a.tar"), "--collection", "trips", "--data", str(data)])
    assert ended.value.code == 130
    assert "nothing of it is left half done" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
