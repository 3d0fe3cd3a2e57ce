"""`verify` names every kind of damage with what mends it; `repair` mends what is derived."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damaged_stores import BY_HAND, answers, copy_of, damage_row, flip, live_rows, make_store, offset
from stored_images import record, spec

from regionsearch.cli.verify_command import as_text
from regionsearch.collection import DataDirectory, snapshots
from regionsearch.collection.catalog import CollectionRows, mark_dropped
from regionsearch.collection.integrity import VerifyReport, derived_checks, examination, repair, verify
from regionsearch.collection.integrity.clean_stop import CLEAN_STOP
from regionsearch.collection.integrity.derived_checks import DerivedChecks
from regionsearch.collection.integrity.pages import CatalogPages, current_meta
from regionsearch.collection.row_seals import open_value, seal_value
from regionsearch.collection.segments.manifest import SegmentRow
from regionsearch.collection.segments.segment import SegmentPart
from regionsearch.collection.spec_rows import delete_spec
from regionsearch.errors import Cancelled, DataDirectoryInUse, NotADataDirectory


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "store"
    make_store(path)
    return path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return copy_of(made, tmp_path / "store")


@pytest.fixture(autouse=True)
def examined_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one more process each time, as where none can be started: that would take most of the time."""

    def start(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
        raise OSError("no process to be had")

    if "beside" not in request.node.name:
        monkeypatch.setattr(examination, "_start", start)


def told(store: Path) -> dict[str, Any]:
    raised: list[str] = []
    with DataDirectory(store, "read") as directory:
        seen = answers(directory, raised=raised)
    assert raised == []
    return seen


def kinds(report: VerifyReport) -> set[str]:
    return {problem.repair for problem in report.problems}


def test_a_sound_store_has_no_problems(store: Path) -> None:
    progress: list[float] = []
    report = verify(store, progress=progress.append)
    assert report.problems == ()
    assert report.images == told(store)["photos"][0] + told(store)["plain"][0]
    assert report.fill is not None
    assert 0 < report.fill < 1
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    assert verify(store, thorough=False).ok
    assert repair(store).mended == ()
    assert verify(store).ok


@pytest.mark.parametrize(
    ("database", "which"),
    [
        *[("ids", 2), ("hashes", 5), ("counters", 0), ("counters", 1), ("dropped", 0)],
        *[("idempotency", 1), ("fields", 0), ("fields", 1), ("segments", 0), ("segments", 1)],
    ],
)
def test_damaged_rows_that_are_derived_are_made_again(
    made: Path, store: Path, database: str, which: int
) -> None:
    if database == "dropped":
        half_dropped(store)
    before = told(store)
    damage_row(store, database, which)
    report = verify(store)
    assert any(f"'{database}'" in problem.where for problem in report.problems)
    assert kinds(report) == {"repair"}
    mended = repair(store)
    assert mended.problems == ()
    assert mended.mended != ()
    after = told(store)
    for name in ("photos", "plain"):  # similarities of segments are exact, so they may be gone
        assert after[name] == before[name]
    assert after == before
    with DataDirectory(store, "write", upkeep=BY_HAND) as directory:
        directory.collection("photos").seal()
        directory.collection("photos").upsert([record(np.random.default_rng(1), "late")])
    assert verify(store).problems == ()


def half_dropped(store: Path) -> None:
    """As a crash between the two halves of dropping a collection leaves it."""
    with DataDirectory(store, "write", upkeep=BY_HAND) as directory:
        gone = directory.create_collection(spec("gone"))
        gone.upsert([record(np.random.default_rng(0), "g")])
        environment = directory.environment
        with environment.transaction(write=True) as transaction:
            delete_spec(environment, transaction, "gone")
            mark_dropped(environment, transaction, gone.number)


def test_a_damaged_background_or_alias_is_taken_out(store: Path) -> None:
    damage_row(store, "backgrounds")
    damage_row(store, "aliases")
    assert kinds(verify(store)) == {"repair"}
    assert repair(store).ok
    with DataDirectory(store, "read") as directory:
        assert directory.aliases() == {}
        assert directory.collection("photos").background() is None


def id_of(store: Path, number: int) -> str:
    with DataDirectory(store, "read") as directory, directory.environment.transaction() as transaction:
        rows = CollectionRows(directory.environment, "photos", directory.collection("photos").number)
        return next(each for each, row in rows.id_rows(transaction, "", "") if row.number == number)


@pytest.mark.parametrize(("database", "lost"), [("records", 1), ("pixels", 0)])
def test_what_cannot_be_rebuilt_is_dropped_only_when_asked(store: Path, database: str, lost: int) -> None:
    key = damage_row(store, database, which=4, at=130 if database == "records" else 3)
    number = struct.unpack(">Q", key[4:])[0]
    report = verify(store)
    assert [problem.repair for problem in report.problems] == ["drop"]
    image_id = report.problems[0].image_id
    assert f"image '{image_id}' (number {number}) of collection 'photos'" in report.problems[0].where
    assert image_id == id_of(store, number)
    assert repair(store).problems == report.problems
    before = len([key for key in live_rows((store / "catalog" / "data.mdb").read_bytes()) if key[0] == "ids"])
    after = repair(store, drop_damaged=True)
    assert after.problems == ()
    assert set(after.mended) >= set(report.problems)
    assert [problem.image_id for problem in after.mended if problem.repair == "drop"] == [image_id]
    assert f"dropped: {report.problems[0]}" in as_text(after)
    rows = live_rows((store / "catalog" / "data.mdb").read_bytes())
    assert len([key for key in rows if key[0] == "ids"]) == before - lost
    assert (database, key) not in rows


def test_an_image_whose_id_is_damaged_too_is_named_by_its_number(store: Path) -> None:
    key = damage_row(store, "records", which=4, at=130)
    rows = live_rows((store / "catalog" / "data.mdb").read_bytes())
    ids = sorted(each for database, each in rows if database == "ids")
    number = struct.unpack(">Q", key[4:])[0]
    damage_row(store, "ids", which=ids.index(key[:4] + id_of(store, number).encode()))
    (problem,) = [each for each in verify(store).problems if each.repair == "drop"]
    assert problem.where == f"image number {number} of collection 'photos', whose id cannot be read"
    assert "indexing the photo again mends it" in as_text(verify(store))


def test_what_keeps_everything_from_being_mended_is_said_first_and_nothing_is_promised(store: Path) -> None:
    damage_row(store, "records", which=4, at=130)
    damage_row(store, "hashes")
    damage_row(store, "collections")
    for report in (verify(store), repair(store, drop_damaged=True)):
        assert report.blocked
        first, stopping, *others = as_text(report).splitlines()
        assert "mends nothing here" in first
        assert "snapshot create" in first
        assert stopping.startswith("! 'collections'")
        assert stopping.endswith("only a snapshot brings it back")
        assert len(others) >= 3
        assert all(line.endswith("stays while that lasts") for line in others[:-1])
        assert "mends it" not in "".join(others)


def test_a_damaged_name_of_a_collection_is_left_for_a_snapshot(store: Path) -> None:
    damage_row(store, "collections")
    before = (store / "catalog" / "data.mdb").read_bytes()
    report = repair(store, drop_damaged=True)
    assert [(problem.repair, problem.stops) for problem in report.problems] == [("restore", True)]
    assert (store / "catalog" / "data.mdb").read_bytes() == before


def test_a_damaged_list_of_free_pages_is_made_again(store: Path) -> None:
    """Nothing is lost yet, but the next write would use a page that holds images."""
    before = told(store)
    data = store / "catalog" / "data.mdb"
    raw = data.read_bytes()
    view = memoryview(raw)
    meta = current_meta(view)
    pages = CatalogPages(view, meta, lambda fault: None)
    _, value, _ = next(iter(pages._nodes("free", meta.free, 1)))
    at = offset(value, view)
    used = next(iter(live_rows(raw).values()))[0] // 4096
    data.write_bytes(raw[: at + 8] + struct.pack("<Q", used) + raw[at + 16 :])
    report = verify(store)
    assert {(problem.where, problem.repair, problem.stops) for problem in report.problems} >= {
        ("catalog/data.mdb", "repair", True)
    }
    assert repair(store).ok
    assert told(store) == before
    with DataDirectory(store, "write", upkeep=BY_HAND) as directory:
        for number in range(30):
            directory.collection("plain").upsert([record(np.random.default_rng(number), f"n{number}")])
    assert verify(store).ok


def test_counters_ids_and_columns_that_disagree_with_the_records_are_noticed(store: Path) -> None:
    """Each row by itself is whole, as a mistake of this program, not of the disk, would leave it."""
    before = told(store)
    with DataDirectory(store, "write", upkeep=BY_HAND) as directory:
        environment = directory.environment
        photos = directory.collection("photos")
        rows = CollectionRows(environment, "photos", photos.number)
        with environment.transaction(write=True) as transaction:
            ids = environment.database("ids")
            fields = environment.database("fields")
            hashes = environment.database("hashes")
            prefix = struct.pack(">I", photos.number)
            value = bytes(open_value("ids", prefix + b"002", transaction.get(prefix + b"002", db=ids)))
            transaction.put(
                prefix + b"002", seal_value("ids", prefix + b"002", value[:8] + b"\x09" + value[9:]), db=ids
            )
            stale = prefix + bytes(32) + bytes(8)
            transaction.put(stale, seal_value("hashes", stale, b""), db=hashes)
            with transaction.cursor(db=fields) as cursor:
                cursor.set_range(prefix + b"\x01")
                block = bytes(cursor.key())
            transaction.delete(block, db=fields)
            counters = rows.counters(transaction)
            rows.put_counters(transaction, replace(counters, entities=counters.entities + 5))
    found = {problem.what.split(";")[0][:30] for problem in verify(store).problems}
    assert any("entities" in what for what in found)
    assert any("its row in 'ids'" in what for what in found)
    assert any("'hashes' does not agree" in what for what in found)
    assert any("its column differs" in what for what in found)
    assert repair(store).ok
    assert told(store) == before


def flip_in_the_middle(file: Path) -> None:
    flip(file, file.stat().st_size // 2)


@pytest.mark.parametrize(
    "damaging",
    [
        flip_in_the_middle,
        Path.unlink,
        lambda file: file.write_bytes(b""),
        lambda file: shutil.rmtree(file.parent),
    ],
)
def test_missing_and_damaged_files_of_segments_are_named_and_built_again(
    store: Path, damaging: Callable[[Path], object]
) -> None:
    before = told(store)
    damaging(min((store / "segments").rglob("*.faiss")))
    (store / "segments" / "1" / "77").mkdir()
    (store / "segments" / "99").mkdir()
    report = verify(store)
    assert kinds(report) == {"repair"}
    assert len(report.problems) == 3
    with DataDirectory(store, "read") as directory:
        (warning,) = directory.collection("photos").stats.warnings
    assert "index segment" in warning
    assert "damaged" in warning
    mended = repair(store)
    assert mended.ok
    assert len(mended.mended) == 3
    assert "None" not in str(mended.mended[0])
    assert not (store / "segments" / "99").exists()
    assert verify(store).problems == ()
    assert repair(store).mended == ()
    with DataDirectory(store, "read") as directory:
        assert directory.collection("photos").stats.warnings == ()
    after = told(store)
    assert {what: after[what] for what in before if "payload" in what} == {
        what: before[what] for what in before if "payload" in what
    }


def test_a_damaged_marker_is_written_again(store: Path) -> None:
    before = told(store)
    (store / "regionsearch.json").write_text("{")
    report = verify(store)
    assert [(problem.where, problem.repair) for problem in report.problems] == [
        ("regionsearch.json", "repair")
    ]
    assert repair(store).ok
    assert told(store) == before


def test_the_state_that_is_there_is_taken_after_the_catalog_was_exchanged(made: Path, store: Path) -> None:
    with DataDirectory(store, "write", upkeep=BY_HAND) as directory:
        directory.collection("plain").delete(["p1"])
    shutil.copy(made / "catalog" / "data.mdb", store / "catalog" / "data.mdb")
    report = verify(store)
    assert "was closed at transaction" in report.problems[0].what
    assert repair(store).ok
    assert told(store) == told(made)


def test_verify_runs_beside_a_writer_and_repair_does_not(store: Path) -> None:
    with DataDirectory(store, "write", upkeep=BY_HAND) as directory:
        photos = directory.collection("photos")
        stop = threading.Event()

        def write() -> None:
            random = np.random.default_rng(5)
            while not stop.is_set():
                photos.upsert([record(random, f"{number:03}") for number in random.integers(60, size=3)])

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(3):
                assert verify(store).problems == ()
            with pytest.raises(DataDirectoryInUse):
                repair(store)
        finally:
            stop.set()
            writer.join()
    assert verify(store).problems == ()


def test_verify_can_be_cancelled_and_refuses_what_is_no_data_directory(store: Path, tmp_path: Path) -> None:
    def check() -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        verify(store, check=check)
    (tmp_path / "else").mkdir()
    for path in (tmp_path / "else", tmp_path / "nothing"):
        with pytest.raises(NotADataDirectory):
            verify(path)


def test_the_command_prints_json_and_exits_with_1_when_there_are_problems(store: Path) -> None:
    def run(*words: str) -> tuple[int, dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-m", "regionsearch", "verify", "--data", str(store), "--json", *words],
            capture_output=True,
            text=True,
        )
        return done.returncode, json.loads(done.stdout)

    status, report = run()
    assert (status, report["ok"], report["problems"]) == (0, True, [])
    damage_row(store, "hashes")
    (store / CLEAN_STOP).unlink()
    status, report = run("--quick")
    assert (status, report["ok"]) == (1, False)
    assert set(report["problems"][0]) == {"what", "where", "costs", "repair"}
    status, report = run("--repair")
    assert (status, report["ok"], len(report["mended"])) == (0, True, 1)


def test_an_image_that_was_left_out_of_a_segment_for_its_damage_is_no_fault_of_the_segment(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store"
    random = np.random.default_rng(3)
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory:
        collection = directory.create_collection(spec())
        collection.upsert([record(random, f"{number}") for number in range(6)])
        key = CollectionRows(directory.environment, "photos", collection.number).record_key(3)
        records = directory.environment.database("records")
        with directory.environment.transaction(write=True) as transaction:
            value = bytearray(transaction.get(key, db=records))
            value[-3] ^= 1
            transaction.put(key, bytes(value), db=records)
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory:
        collection = directory.collection("photos")
        collection.seal()
        assert "1 image is left out of searches" in collection.stats.warnings[0]
    (problem,) = verify(path).problems
    assert (problem.where, problem.repair) == ("image '2' (number 3) of collection 'photos'", "drop")
    assert repair(path).mended == ()


@pytest.mark.parametrize("how", ["missing", "unreadable"])
def test_segments_that_are_merged_all_the_time_beside_it_are_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = tmp_path / "store"
    random = np.random.default_rng(3)
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory:
        collection = directory.create_collection(spec())
        collection.upsert([record(random, f"{number}") for number in range(6)])
        collection.seal()
        merges: list[int] = []

        class TooLate:
            @staticmethod
            def open(folder: Path, row: SegmentRow) -> SegmentPart:
                merges.append(row.number)
                collection.upsert([record(random, "0")])
                collection.compact()
                if how == "unreadable":
                    raise RuntimeError("'f.get()' failed")
                return SegmentPart.open(folder, row)

        monkeypatch.setattr(derived_checks, "SegmentPart", TooLate)
        derived = DerivedChecks(path, directory.environment, thorough=True, beside_writer=True)
        derived.run(lambda _: None, lambda: None)
        assert len(merges) > 1
        assert derived.problems == []


def test_collections_beside_a_damaged_page_are_rescued_by_snapshots(store: Path, tmp_path: Path) -> None:
    """As docs/storage.md says it."""
    before = told(store)
    data = store / "catalog" / "data.mdb"
    places = live_rows(data.read_bytes())
    at = min(start for (database, key), (start, _) in places.items() if (database, key[3]) == ("records", 1))
    with data.open("r+b") as file:
        file.seek(at // 4096 * 4096 + 10)
        file.write(b"\xff\xff")  # what kind of page it is
    assert verify(store).blocked
    assert repair(store, drop_damaged=True).mended == ()
    saved, fresh = tmp_path / "plain.tar", tmp_path / "fresh"
    with DataDirectory(store, "read") as directory:
        snapshots.create(directory, "plain", saved)
    with DataDirectory(fresh, "write") as directory:
        snapshots.restore(directory, saved)
    assert verify(fresh).ok
    with DataDirectory(fresh, "read") as directory:
        kept = list(directory.collection("plain").image_ids())
    assert kept == [f"p{number}" for number in range(8)]
    assert before["plain"][0] == len(kept)
