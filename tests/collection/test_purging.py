"""What is purged is in no file any more, and nothing else is missing."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from stored_images import assert_same_image, record, spec, unit_vectors

from regionsearch.collection import Collection, DataDirectory, ImageRecord, snapshots
from regionsearch.collection.purging import purge
from regionsearch.collection.records import IndexedField
from regionsearch.collection.scrubbing import mark_pending, scrub
from regionsearch.collection.segments.upkeep import UpkeepSettings
from regionsearch.errors import Cancelled, CollectionNotFound, InvalidRecord, ReadOnly, SnapshotNotFound

SECRET = "unutterable-{}-word-of-the-purged-image"
MARK = b"pixels that nobody may see again"


def secret_record(random: np.random.Generator, image_id: str, vectors: NDArray[np.float32]) -> ImageRecord:
    return record(
        random,
        image_id,
        entities=len(vectors) - 1,
        vectors=vectors,
        payload={"note": SECRET.format(image_id), "year": 1999},
        content_hash=hashlib.sha256(image_id.encode()).hexdigest(),
        pixels=MARK + image_id.encode(),
    )


def files_with(folder: Path, needles: dict[str, bytes]) -> list[str]:
    """Where any of them occurs, in any file below the folder; a tar is one of them."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            found += [
                f"{name} in {path.relative_to(folder)}" for name, each in needles.items() if each in content
            ]
    return found


def shuffled_in(collection: Collection, random: np.random.Generator, secrets: list[ImageRecord]) -> None:
    """Other images come and go around the secret ones, singly and in bulk, so that their rows move in LMDB's
    pages; the secret ones have earlier versions too."""
    ids = [f"other-{number:03}" for number in range(60)]
    collection.upsert([record(random, image_id, entities=2, pixels=b"x" * 900) for image_id in ids[::2]])
    collection.upsert(secrets)
    for image_id in ids[1::2]:
        collection.upsert([record(random, image_id, pixels=b"y" * 100)])
    collection.upsert(
        [record(random, secret.image_id, payload={"note": "SECRET.early"}) for secret in secrets]
    )
    collection.upsert(secrets)
    collection.delete(ids[::3])
    collection.upsert([record(random, image_id) for image_id in ids[::9]])


@pytest.mark.parametrize("entities", [1, 30])
def test_nothing_of_a_purged_image_is_left_in_any_file(tmp_path: Path, entities: int) -> None:
    """Of its id, payload, picture and vectors, in the data directory and in the snapshots that were named."""
    random = np.random.default_rng(entities)
    names = ["secret-holiday-1", "secret-holiday-2"]
    secrets = [secret_record(random, name, unit_vectors(random, entities + 1)) for name in names]
    needles = {
        "payload": b"unutterable-",
        "id": b"secret-holiday-",
        "picture": MARK,
        "early": b"SECRET.early",
    }
    for place, each in enumerate(secrets):
        needles[f"image vector {place}"] = each.vectors[0].tobytes()
        needles[f"last vector {place}"] = each.vectors[-1].tobytes()
    data = tmp_path / "all" / "data"
    taken = [tmp_path / "all" / shape for shape in ("snapshot", "snapshot.tar")]
    with DataDirectory(data, "write", upkeep=UpkeepSettings.small(background=False)) as directory:
        photos = directory.create_collection(
            spec(
                pixels="original",
                indexed_fields=(IndexedField("note", "string"), IndexedField("year", "number")),
            )
        )
        shuffled_in(photos, random, secrets)
        photos.seal()
        for path in taken:
            snapshots.create(directory, "photos", path)
        shuffled_in(photos, random, secrets)
        photos.seal()
        assert photos.stats.segments
        left = {name: photos.get(name, pixels=True) for name in photos.image_ids() if name not in names}
        assert len(files_with(tmp_path / "all", needles)) >= 12
        report = purge(directory, "photos", [*names, "never-there"], snapshots=taken)
        assert (report.deleted, report.complete, report.notes) == (2, True, ())
        assert (report.rewritten, report.missing) == (tuple(taken), ("never-there",))
        assert report.scrubbed_bytes > 1_000
        assert files_with(tmp_path / "all", needles) == []
        # Writing goes on in the pages that were scrubbed, and brings nothing back.
        for number in range(40):
            photos.upsert([record(random, f"later-{number}", payload={"note": "later"})])
        assert files_with(tmp_path / "all", needles) == []
        for name, was in left.items():
            assert_same_image(photos.get(name), was)
        for place, path in enumerate(taken):
            assert snapshots.verify(path).problems == ()
            copy = snapshots.restore(directory, path, name=f"copy-{place}")
            assert not {*copy.image_ids()} & {*names}
            assert copy.stats.images == snapshots.describe(path).images > 30
            assert len(copy.search(unit_vectors(random, 1)[0], 10).numbers) == 10
        again = purge(directory, "photos", names, snapshots=taken)
        assert (again.deleted, again.rewritten, again.missing) == (0, (), tuple(names))
    assert files_with(tmp_path / "all", needles) == []
    with DataDirectory(data, "write") as directory:
        photos = directory.collection("photos")
        assert photos.stats.images == len(left) + 40
        for name, was in left.items():
            assert_same_image(photos.get(name), was)
    assert files_with(tmp_path / "all", needles) == []


@pytest.mark.parametrize("shape", ["snapshot", "snapshot.tar"])
def test_a_snapshot_is_purged_where_a_link_leads_and_under_any_name(tmp_path: Path, shape: str) -> None:
    """Not beside it: the old one would stay where the link leads."""
    random = np.random.default_rng(7)
    needles = {"payload": b"unutterable-", "id": b"secret-holiday"}
    secret = secret_record(random, "secret-holiday", unit_vectors(random, 3))
    with DataDirectory(tmp_path / "data", "write") as directory:
        photos = directory.create_collection(spec(pixels="original"))
        photos.upsert([secret, *(record(random, f"{number}") for number in range(5))])
        snapshots.create(directory, "photos", tmp_path / "kept" / shape)
        renamed = tmp_path / "kept" / "of last summer"
        (tmp_path / "kept" / shape).rename(renamed)
        (tmp_path / "link").symlink_to(renamed)
        report = purge(directory, "photos", ["secret-holiday"], snapshots=[tmp_path / "link"])
        assert (report.rewritten, report.complete) == ((tmp_path / "link",), True)
        assert files_with(tmp_path, needles) == []
        assert [path.name for path in (tmp_path / "kept").iterdir()] == ["of last summer"]
        assert (tmp_path / "link").is_symlink()
        assert snapshots.verify(renamed).problems == ()
        assert snapshots.describe(renamed).images == 5
    assert files_with(tmp_path, needles) == []


@pytest.mark.parametrize("shape", ["snapshot", "snapshot.tar"])
def test_segments_of_a_snapshot_know_nothing_of_an_image_that_was_deleted_before_it(
    tmp_path: Path, shape: str
) -> None:
    """Its row is dead, but its vector's code is there: in a snapshot that has no image of this id."""
    random = np.random.default_rng(8)
    with DataDirectory(
        tmp_path / "data", "write", upkeep=UpkeepSettings.small(background=False)
    ) as directory:
        photos = directory.create_collection(spec())
        photos.upsert([record(random, f"{number}", entities=2) for number in range(30)])
        photos.seal()
        photos.delete(["7"])
        snapshots.create(directory, "photos", tmp_path / shape)
        report = purge(directory, "photos", ["7"], snapshots=[tmp_path / shape])
        assert (report.rewritten, report.missing) == ((tmp_path / shape,), ("7",))
        assert snapshots.verify(tmp_path / shape).problems == ()
        restored = snapshots.restore(directory, tmp_path / shape, name="again")
        assert restored.stats.images == 29
        assert not restored.stats.segments  # they are made again
        # One without dead rows stays as it is.
        snapshots.create(directory, "photos", tmp_path / "clean")
        assert purge(directory, "photos", ["7"], snapshots=[tmp_path / "clean"]).rewritten == ()


def test_a_purge_writes_no_more_segments_anew_than_had_rows_of_deleted_images(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    with DataDirectory(tmp_path / "data", "write", upkeep=UpkeepSettings(background=False)) as directory:
        photos = directory.create_collection(spec())
        ids = [f"{number}" for number in range(280)]
        for some in (ids[:200], ids[200:260]):
            photos.upsert([record(random, image_id, entities=2) for image_id in some])
            photos.seal()
        photos.upsert([record(random, image_id, entities=2) for image_id in ids[260:]])
        first, second = photos.stats.segments
        assert purge(directory, "photos", ["210"]).complete
        kept, rewritten = photos.stats.segments
        assert kept == first
        assert (rewritten.number > second.number, rewritten.images) == (True, second.images - 1)
        assert photos.stats.fresh_rows == 60
        again = photos.stats.segments
        assert purge(directory, "photos", ["270"]).deleted == 1  # which no segment has
        assert photos.stats.segments == again
        assert photos.stats.fresh_rows == 57
        vector = photos.get("205").vectors[1]
        assert int(photos.search(vector, 1).numbers[0]) == photos.get("205").number


def test_deleting_alone_leaves_bytes_that_a_purge_removes(tmp_path: Path) -> None:
    """Otherwise the test above would prove nothing."""
    random = np.random.default_rng(1)
    vectors = unit_vectors(random, 4)
    needles = {"payload": b"unutterable-", "vector": vectors[2].tobytes()}
    with DataDirectory(tmp_path / "data", "write") as directory:
        photos = directory.create_collection(spec(pixels="original"))
        shuffled_in(photos, random, [secret_record(random, "secret", vectors)])
        photos.delete(["secret"])
        assert files_with(tmp_path, needles) != []
        assert purge(directory, "photos", ["secret"]).complete
        assert files_with(tmp_path, needles) == []


def test_a_purge_that_was_killed_is_finished_by_the_next_open(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    vectors = unit_vectors(random, 4)
    needles = {"payload": b"unutterable-", "vector": vectors[1].tobytes()}
    with DataDirectory(tmp_path / "data", "write") as directory:
        photos = directory.create_collection(spec(pixels="original"))
        shuffled_in(photos, random, [secret_record(random, "secret", vectors)])

        def stop() -> None:
            if not photos.contains("secret"):
                raise Cancelled("as if killed")

        with pytest.raises(Cancelled):
            purge(directory, "photos", ["secret"], check=stop)
        assert files_with(tmp_path, needles) != []
    DataDirectory(tmp_path / "data", "write").close()
    assert files_with(tmp_path, needles) == []


def test_readers_of_an_older_state_keep_its_pages_and_the_report_says_so(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    with DataDirectory(tmp_path / "data", "write") as directory:
        photos = directory.create_collection(spec())
        photos.upsert([record(random, "secret"), record(random, "other")])
        environment = directory.environment
        stored = photos.get("secret")
        with environment.transaction() as transaction:
            rows = photos._rows
            report = purge(directory, "photos", ["secret"], readers_seconds=0.05)
            assert not report.complete
            assert "older state" in report.notes[0]
            value = rows.record(transaction, stored.number)
            assert value is not None
            assert len(value) > 100  # and the reader still finds what it saw
        assert purge(directory, "photos", ["secret"]).complete


def test_searches_and_writes_go_on_while_the_file_is_scrubbed(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    with DataDirectory(tmp_path / "data", "write") as directory:
        photos = directory.create_collection(spec())
        photos.upsert([record(random, f"{number}", entities=3) for number in range(300)])
        over = threading.Event()
        faults: list[BaseException] = []

        def work(seed: int) -> None:
            own = np.random.default_rng(seed)
            try:
                while not over.is_set():
                    photos.upsert([record(own, f"{own.integers(300)}", entities=3)])
                    found = photos.search(unit_vectors(own, 1)[0], 5)
                    assert len(photos.candidates(found.numbers.tolist())) >= 1
                    photos.get(f"{own.integers(300)}")
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
        for thread in threads:
            thread.start()
        cleared = [scrub(directory.environment) for _ in range(15)]
        over.set()
        for thread in threads:
            thread.join()
        assert faults == []
        assert sum(each is not None for each in cleared) >= 10
        assert photos.stats.images == 300
    with DataDirectory(tmp_path / "data", "write") as directory:
        photos = directory.collection("photos")
        assert len([photos.get(image_id) for image_id in photos.image_ids()]) == 300


def test_a_purge_that_cannot_be_done_is_refused_before_anything_is_deleted(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    with DataDirectory(tmp_path / "data", "write") as directory:
        photos = directory.create_collection(spec())
        photos.upsert([record(random, "kept")])
        with pytest.raises(CollectionNotFound):
            purge(directory, "none", ["kept"])
        with pytest.raises(SnapshotNotFound):
            purge(directory, "photos", ["kept"], snapshots=[tmp_path / "none"])
        with pytest.raises(InvalidRecord):
            purge(directory, "photos", ["kept", ""])
        assert photos.contains("kept")
    with DataDirectory(tmp_path / "data", "read") as directory, pytest.raises(ReadOnly):
        purge(directory, "photos", ["kept"])


def test_a_directory_with_a_damaged_page_still_opens_when_a_purge_is_to_be_finished(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(6)
    with DataDirectory(tmp_path / "data", "write") as directory:
        photos = directory.create_collection(spec())
        photos.upsert([record(random, f"{number}", entities=200) for number in range(20)])
        number = photos.get("7").number
        environment = directory.environment
        with environment.transaction() as transaction:
            value = bytes(photos._rows.record(transaction, number) or b"")
        mark_pending(environment)
    data = tmp_path / "data" / "catalog" / "data.mdb"
    content = bytearray(data.read_bytes())
    start = content.index(value)
    content[start - 16] ^= 1  # the number that the record's first page says it has
    data.write_bytes(content)
    with DataDirectory(tmp_path / "data", "write") as directory:
        assert directory.collection("photos").stats.images == 20
        assert "may have left bytes" in caplog.text
