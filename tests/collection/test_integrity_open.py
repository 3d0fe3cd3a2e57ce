"""What is looked at before a directory is opened: nothing after a clean stop, the catalog after a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damaged_stores import copy_of, damage_row, flip, live_rows, make_store
from stored_images import record

from regionsearch.collection import DataDirectory
from regionsearch.collection.integrity import examination, verify
from regionsearch.collection.integrity.clean_stop import CLEAN_STOP
from regionsearch.errors import DataLoss

META_TRANSACTION = 16 + 24 + 96 + 8
"""Where a meta page says which transaction wrote it."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "store"
    make_store(path)
    return path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return copy_of(made, tmp_path / "store")


@pytest.fixture
def killed(store: Path) -> Path:
    """As if its last writer had been killed."""
    (store / CLEAN_STOP).unlink()
    return store


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of the examining processes that are started."""
    commands: list[list[str]] = []

    def start(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
        commands.append(words)
        return subprocess.Popen(words, **options)

    monkeypatch.setattr(examination, "_start", start)
    return commands


def test_nothing_is_examined_after_a_clean_stop(store: Path, examined: list[list[str]]) -> None:
    for mode in ("read", "write", "read"):
        with DataDirectory(store, mode) as directory:  # type: ignore[arg-type]
            assert directory.collection("plain").stats.images == 8
            assert (store / CLEAN_STOP).exists() == (mode == "read")
    assert examined == []
    (store / CLEAN_STOP).unlink()
    DataDirectory(store, "write").close()
    assert len(examined) == 1
    DataDirectory(store, "write").close()
    assert len(examined) == 1


def test_a_reader_beside_a_writer_examines_nothing_and_one_after_a_kill_does(
    store: Path, examined: list[list[str]]
) -> None:
    script = (
        "import sys; from pathlib import Path; from regionsearch.collection import DataDirectory\n"
        "directory = DataDirectory(Path(sys.argv[1]), 'write'); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        examined.clear()
        DataDirectory(store, "read").close()
        assert examined == []
        writer.send_signal(signal.SIGKILL)
    DataDirectory(store, "read").close()
    assert len(examined) == 1
    assert not (store / CLEAN_STOP).exists()  # a reader has not made it whole


def test_a_small_store_opens_soon_after_a_kill(killed: Path) -> None:
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        with DataDirectory(killed, "read") as directory:
            assert directory.collection("plain").stats.images == 8
        seconds.append(time.monotonic() - start)
    print(seconds)
    assert min(seconds) < 5.0  # 0.25 on a quiet machine; this one may be anything but


@pytest.mark.parametrize("page", [0, 1])
def test_a_commit_that_a_damaged_meta_page_hides_is_missed(store: Path, page: int) -> None:
    """LMDB by itself goes back to the other page's commit and says nothing."""
    data = store / "catalog" / "data.mdb"
    before = data.read_bytes()
    for at in (META_TRANSACTION, META_TRANSACTION + 4, 16, 16 + 24 + 48 + 40):
        data.write_bytes(before)
        flip(data, page * 4096 + at, bit=1)
        for mode in ("read", "write"):
            with pytest.raises(DataLoss, match=r"damaged|was closed at transaction"):
                DataDirectory(store, mode)  # type: ignore[arg-type]
        assert not verify(store).ok
    data.write_bytes(before)
    DataDirectory(store, "write").close()


def test_an_exchanged_catalog_is_told_from_the_one_that_was_closed(made: Path, store: Path) -> None:
    with DataDirectory(store, "write") as directory:
        directory.collection("plain").delete(["p1"])
    older = (made / "catalog" / "data.mdb").read_bytes()
    (store / "catalog" / "data.mdb").write_bytes(older)
    with pytest.raises(DataLoss, match="was closed at transaction"):
        DataDirectory(store, "write")


@pytest.mark.parametrize("said", [b"", b"{", b"[1]", b'{"transaction": 3}', b"\xff" * 40])
def test_a_note_of_the_clean_stop_that_says_nothing_has_the_catalog_examined(
    store: Path, said: bytes, examined: list[list[str]]
) -> None:
    (store / CLEAN_STOP).write_bytes(said)
    with DataDirectory(store, "write") as directory:
        assert directory.collection("plain").stats.images == 8
    assert len(examined) == 1


def test_a_catalog_whose_pages_are_damaged_is_not_opened_after_a_kill(killed: Path) -> None:
    data = killed / "catalog" / "data.mdb"
    at = min(at for (name, _), (at, _) in live_rows(data.read_bytes()).items() if name == "ids")
    flip(data, at // 4096 * 4096 + 10)  # what kind of page it is
    for mode in ("read", "write"):
        with pytest.raises(DataLoss, match=r"not closed by its last writer.*Restore a snapshot"):
            DataDirectory(killed, mode)  # type: ignore[arg-type]


def test_damaged_counters_are_named_with_what_mends_them(killed: Path) -> None:
    damage_row(killed, "counters")
    with pytest.raises(DataLoss, match=r"'counters'.*verify --repair` mends it"):
        DataDirectory(killed, "write")


def test_a_damaged_image_does_not_stop_the_others(killed: Path) -> None:
    with DataDirectory(killed, "read") as directory:
        before = [listing.image_id for listing in directory.collection("photos").list(1_000)[0]]
    damage_row(killed, "ids", which=3)
    damage_row(killed, "records", which=-1, at=130)  # of 'plain', which has no index segment
    with DataDirectory(killed, "write") as directory:
        assert [problem.stops for problem in directory.environment.damaged] == [False, False]
        photos, plain = directory.collection("photos"), directory.collection("plain")
        listed = [listing.image_id for listing in photos.list(1_000)[0]]
        assert len(listed) == len(before) - 1
        assert set(listed) < set(before)
        (lost,) = set(before) - set(listed)
        with pytest.raises(DataLoss, match="does not match its checksum"):
            photos.get(lost)
        photos.upsert([record(np.random.default_rng(0), "another")])
        query = plain.get("p0").vectors[0]
        assert len(plain.search_images(query, 100).numbers) == 7
        with pytest.raises(DataLoss, match="image 'p7'"):
            plain.get("p7")
        plain.delete(["p7"])
        assert plain.stats.images == 7


class Child:
    """Stands in for the program that examines, to show what is made of its end."""

    def __init__(self, script: str) -> None:
        self.script = script

    def __call__(self, words: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", self.script], **options)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGBUS)",
            r"killed the examining process \(SIGBUS\)",
        ),
        ("import time; time.sleep(600)", "did not move for 1 s"),
        ("print('{\"progress\": 0.5}')", "broke off"),
        ("raise SystemExit('out of order')", "broke off: out of order"),
    ],
)
def test_a_child_that_dies_or_hangs_over_a_catalog_means_damage(
    killed: Path, script: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "SECONDS_WITHOUT_A_SIGN", 1.0)
    monkeypatch.setattr(examination, "_start", Child(script))
    with pytest.raises(DataLoss, match=message):
        DataDirectory(killed, "write")
    monkeypatch.undo()
    DataDirectory(killed, "write").close()


def test_the_note_holds_what_the_catalog_says_when_it_is_closed(store: Path) -> None:
    note = json.loads((store / CLEAN_STOP).read_text())
    report = examination.examine_catalog(store / "catalog" / "data.mdb", thorough=True)
    assert (note["transaction"], note["pages"]) == (report.transaction, report.pages)
    assert report.problems == ()
    assert (store / CLEAN_STOP).stat().st_size < 200
