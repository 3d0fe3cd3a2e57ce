"""Snapshots that are damaged, cut or made to harm: a clear error, and nothing left behind."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_images import record, spec

from regionsearch.collection import DataDirectory, snapshots
from regionsearch.errors import (
    DataLoss,
    InvalidRequest,
    RegionSearchError,
    SnapshotNotFound,
    UnsupportedFormat,
)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data directory and both shapes of a snapshot of its collection."""
    folder = tmp_path_factory.mktemp("snapshots")
    random = np.random.default_rng(1)
    with DataDirectory(folder / "data", "write") as directory:
        photos = directory.create_collection(spec())
        photos.upsert([record(random, f"{number}", pixels=random.bytes(50)) for number in range(5)])
        for shape in ("folder", "one.tar"):
            snapshots.create(directory, "photos", folder / shape)
    return folder


def contents(path: Path) -> set[str]:
    # What LMDB itself keeps changes with every transaction.
    return {str(each.relative_to(path)) for each in path.rglob("*") if each.name != "lock.mdb"}


def assert_refused(
    path: Path, data: Path, expected: type[RegionSearchError] = DataLoss, match: str = "snapshot '"
) -> None:
    """Neither `verify` nor `restore` takes it, and the data directory is as if nobody had asked."""
    with DataDirectory(data, "write") as directory:
        before = contents(data), directory.collection_names()
        report = snapshots.verify(path)
        assert not report.ok
        assert report.problems
        with pytest.raises(expected, match=match):
            snapshots.restore(directory, path, name="again")
        assert (contents(data), directory.collection_names()) == before
        environment = directory.environment
        with environment.transaction() as transaction:
            for database, rows in (("ids", 5), ("records", 5), ("pixels", 5), ("dropped", 0)):
                assert transaction.stat(environment.database(database))["entries"] == rows


def damaged_tar(taken: Path, tmp_path: Path, change: Callable[[bytearray], object]) -> Path:
    content = bytearray((taken / "one.tar").read_bytes())
    change(content)
    path = tmp_path / "damaged.tar"
    path.write_bytes(content)
    return path


def added_to_tar(taken: Path, tmp_path: Path, member: tarfile.TarInfo, content: bytes = b"") -> Path:
    path = tmp_path / "hostile.tar"
    shutil.copy(taken / "one.tar", path)
    with tarfile.open(path, "a") as tar:
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../climbed",
        "/tmp/absolute",
        "rows/../../climbed",
        "segments/1/../../x",
        "segments/1/.hidden",
        "other",
    ],
)
def test_a_tar_with_a_name_that_no_snapshot_has_is_refused(taken: Path, tmp_path: Path, name: str) -> None:
    path = added_to_tar(taken, tmp_path, tarfile.TarInfo(name), b"harm")
    assert_refused(path, taken / "data", match="which no snapshot has")
    assert not (tmp_path / "climbed").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_a_tar_with_anything_but_plain_files_is_refused(taken: Path, tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("rows/00099.rows")
    member.type = kind
    member.linkname = "/etc/passwd"
    assert_refused(added_to_tar(taken, tmp_path, member), taken / "data", match="which no snapshot has")


@pytest.mark.parametrize("kind", [b"0", b"L", b"K", b"x", b"g", b"S", b"M", b"V"])
@pytest.mark.parametrize("size", [-(1 << 40), -5_000, -512, -1, 1 << 40, 1 << 80])
def test_a_tar_whose_headers_say_what_cannot_be_is_refused(
    taken: Path, tmp_path: Path, kind: bytes, size: int
) -> None:
    """Sizes below zero, or beyond what the file has, of files, long names and extended headers: neither is as
    much memory taken, nor does reading run in circles."""
    header = tarfile.TarInfo("rows/00099.rows")
    header.type = kind
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT)[:512])
    block[124:136] = (b"\x80" if size >= 0 else b"\xff") + (size % (1 << 88)).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    path = tmp_path / "crafted.tar"
    path.write_bytes(bytes(block) + b"17 GNU.sparse.map=a" * 99 + bytes(1_024))
    report = snapshots.verify(path)
    assert not report.ok
    assert str(path) in report.problems[0]
    assert snapshots.find(tmp_path) == []


def test_a_file_twice_or_one_too_many_is_refused(taken: Path, tmp_path: Path) -> None:
    twice = added_to_tar(taken, tmp_path, tarfile.TarInfo("rows/00001.rows"), b"other rows")
    assert_refused(twice, taken / "data", match="twice")
    more = added_to_tar(taken, tmp_path, tarfile.TarInfo("rows/00002.rows"), b"more rows")
    assert_refused(more, taken / "data", match="none of its files")


@pytest.mark.parametrize("what", ["missing", "cut", "longer", "link", "stranger"])
def test_a_folder_that_is_not_as_it_was_written_is_refused(taken: Path, tmp_path: Path, what: str) -> None:
    path = tmp_path / "damaged"
    shutil.copytree(taken / "folder", path)
    rows = path / "rows" / "00001.rows"
    if what == "missing":
        rows.unlink()
    elif what == "cut":
        os.truncate(rows, rows.stat().st_size - 1)
    elif what == "longer":
        rows.write_bytes(rows.read_bytes() + b"\0")
    elif what == "link":
        rows.rename(tmp_path / "rows")
        rows.symlink_to(tmp_path / "rows")
    else:
        (path / "rows" / "notes.txt").touch()
    assert_refused(path, taken / "data", match="missing|bytes and should have|no snapshot has")


def test_a_snapshot_of_another_format_is_named(taken: Path, tmp_path: Path) -> None:
    for field in ("format", "catalog_format"):
        path = tmp_path / field
        shutil.copytree(taken / "folder", path)
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["manifest"][field] = 7
        (path / "manifest.json").write_text(json.dumps(manifest))
        assert_refused(path, taken / "data", UnsupportedFormat, "format 7")


def test_what_is_no_snapshot_is_named(taken: Path, tmp_path: Path) -> None:
    with DataDirectory(taken / "data", "write") as directory:
        with pytest.raises(SnapshotNotFound, match="none"):
            snapshots.restore(directory, tmp_path / "none")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataLoss, match=r"no manifest\.json"):
            snapshots.restore(directory, tmp_path / "empty")
        (tmp_path / "text.tar").write_text("no tar at all")
        with pytest.raises(DataLoss, match="is no tar"):
            snapshots.restore(directory, tmp_path / "text.tar")
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(SnapshotNotFound, match="neither a folder nor a file"):
            snapshots.restore(directory, tmp_path / "pipe")
        for name in ("a.tar.gz", "a.tgz", "a.zip", "a.partial"):
            with pytest.raises(InvalidRequest, match="snapshot"):
                snapshots.create(directory, "photos", tmp_path / name)


def test_a_tar_cut_at_any_length_is_refused_or_whole(taken: Path, tmp_path: Path) -> None:
    """What follows the last file of a tar is zeros that nobody needs."""
    size = (taken / "one.tar").stat().st_size
    with tarfile.open(taken / "one.tar") as tar:
        last = tar.getmembers()[-1]
        needed = last.offset_data + -(-last.size // 512) * 512
    random = np.random.default_rng(2)
    lengths = sorted({0, 1, 511, 512, 513, needed - 1, *random.integers(0, needed, 60).tolist()})
    for length in lengths:
        path = damaged_tar(
            taken, tmp_path, lambda content, length=length: content.__delitem__(slice(length, None))
        )
        assert not snapshots.verify(path).ok, length
    path = damaged_tar(taken, tmp_path, lambda content: content.__delitem__(slice(needed, None)))
    assert snapshots.verify(path).ok
    assert size > needed
    assert_refused(
        damaged_tar(taken, tmp_path, lambda content: content.__delitem__(slice(2000, None))), taken / "data"
    )


def test_a_flipped_bit_is_noticed_wherever_it_counts(taken: Path, tmp_path: Path) -> None:
    """A flip is harmless only in what carries nothing: padding, and a tar's times and owners."""
    content = (taken / "one.tar").read_bytes()
    with tarfile.open(taken / "one.tar") as tar:
        counts = [range(each.offset_data, each.offset_data + each.size) for each in tar.getmembers()]
    random = np.random.default_rng(3)
    places = sorted(random.integers(0, len(content), 250).tolist())
    noticed = 0
    for place in places:
        path = damaged_tar(
            taken, tmp_path, lambda all_bytes, place=place: all_bytes.__setitem__(place, all_bytes[place] ^ 4)
        )
        sound = snapshots.verify(path).ok
        if any(place in each for each in counts) and b"manifest" not in content[place - 20 : place + 20]:
            in_manifest_blank = content[place : place + 1] in b" \n"
            assert not sound or in_manifest_blank, place
        noticed += not sound
    assert noticed > 100


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_as_manifest_are_refused(taken: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "made-up"
    path.mkdir(exist_ok=True)
    (path / "manifest.json").write_bytes(content)
    assert not snapshots.verify(path).ok


def test_rows_that_match_their_checksum_but_no_collection_are_refused(taken: Path, tmp_path: Path) -> None:
    """Someone who makes a snapshot up can give any rows a right sha256: they are still no collection's."""
    import dataclasses
    import hashlib

    from regionsearch.collection.snapshots.manifest import FileEntry, Manifest
    from regionsearch.collection.snapshots.row_files import RowFile, rows_of

    path = tmp_path / "made-up"
    shutil.copytree(taken / "folder", path)
    whole = Manifest.from_bytes((path / "manifest.json").read_bytes(), "it")
    good = list(rows_of((path / "rows" / "00001.rows").read_bytes(), "it"))
    for change in ("torn", "foreign key", "flipped", "one too few", "swapped keys", "not rows"):
        rows = [(database, key, bytearray(value)) for database, key, value in good]
        place = next(place for place, row in enumerate(rows) if row[0] == "records")
        if change == "foreign key":
            rows[place] = ("records", b"\0" * 8, rows[place][2])
        elif change == "flipped":
            rows[place][2][200] ^= 1
        elif change == "one too few":
            del rows[place]
        elif change == "swapped keys":
            a, b = rows[place], rows[place + 1]
            rows[place : place + 2] = [(a[0], b[1], a[2]), (b[0], a[1], b[2])]
        file = RowFile()
        for database, key, value in rows:
            file.add(database, key, bytes(value))
        content = file.take()
        if change == "torn":
            content = content[:-3]
        elif change == "not rows":
            content = b"something else"
        (path / "rows" / "00001.rows").write_bytes(content)
        entry = FileEntry("rows/00001.rows", len(content), hashlib.sha256(content).hexdigest())
        (path / "manifest.json").write_bytes(dataclasses.replace(whole, files=(entry,)).to_bytes())
        assert_refused(path, taken / "data")


def test_no_room_for_a_snapshot_or_a_restore_leaves_nothing_half(taken: Path, tmp_path: Path) -> None:
    """Files of this process end at a limit, as on a disk that is full."""
    from other_processes import hear, other_process

    script = """
import resource, signal
from regionsearch.collection import snapshots
from regionsearch.errors import StorageFull
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
target = Path(sys.argv[2])
with DataDirectory(path, 'write') as directory:
    photos = directory.create_collection(spec(dimension=2000))
    for number in range(30):
        photos.upsert([record(random, f'{number}', entities=40, dimension=2000)])
    snapshots.create(directory, 'photos', target / 'whole.tar')
    limit = max(size.stat().st_size for size in path.glob('catalog/data.mdb')) + (1 << 20)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        snapshots.restore(directory, target / 'whole.tar', name='again')
        say('restored')
    except StorageFull as error:
        say('full')
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    for shape in ('second', 'second.tar'):
        try:
            snapshots.create(directory, 'photos', target / shape)
            say('created')
        except StorageFull:
            say('full')
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    say(str(sorted(each.name for each in target.iterdir())))
    say(str(directory.collection_names()))
    environment = directory.environment
    with environment.transaction() as transaction:
        say(str(transaction.stat(environment.database('records'))['entries']))
    say(snapshots.restore(directory, target / 'whole.tar', name='again').stats.images)
"""
    (tmp_path / "target").mkdir()
    with other_process(script, tmp_path / "data", tmp_path / "target") as process:
        assert [hear(process) for _ in range(3)] == ["full", "full", "full"]
        assert [hear(process) for _ in range(4)] == ["['whole.tar']", "['photos']", "30", "30"]
