"""Files of index segments: after a flipped byte or a cut the records answer the same, or it is reported."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from damaged_stores import answers, copy_of, make_store
from test_integrity_flips import assert_never_silent

from regionsearch.collection import DataDirectory
from regionsearch.collection.segments.checksums import verify_files
from regionsearch.collection.segments.manifest import Manifest
from regionsearch.errors import DataLoss


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With what it answers beside it, in expected.json."""
    folder = tmp_path_factory.mktemp("flips")
    make_store(folder / "store", images=20)
    raised: list[str] = []
    with DataDirectory(folder / "store", "read") as directory:
        expected = answers(directory, raised=raised)
    assert raised == []
    (folder / "expected.json").write_text(json.dumps(expected))
    return folder / "store"


def files_of(store: Path) -> list[Path]:
    files = sorted(path for path in (store / "segments").rglob("*") if path.is_file())
    assert len(files) == 3
    return files


def assert_noticed(store: Path, file: Path, damages: list[list[Any]]) -> None:
    """A segment that cannot be used is searched in the records: the same answers, and verify tells."""
    found = assert_never_silent(store, str(file.relative_to(store)), damages)
    assert found.total() == len(damages)


def test_a_flipped_byte_or_a_cut_of_a_segments_file_is_never_silent(store: Path) -> None:
    chance = random.Random(6)
    for file in files_of(store):
        size = file.stat().st_size
        flips = [["flip", chance.randrange(size), chance.randrange(8)] for _ in range(6)]
        cuts = [["cut", length] for length in (0, chance.randrange(size), size - 1)]
        assert_noticed(store, file, [*flips, *cuts])


@pytest.mark.slow
def test_many_flips_and_cuts_of_segments_files_are_never_silent(store: Path) -> None:
    chance = random.Random(7)
    for file in files_of(store):
        size = file.stat().st_size
        flips = [["flip", chance.randrange(size), chance.randrange(8)] for _ in range(60)]
        assert_noticed(store, file, [*flips, *(["cut", chance.randrange(size)] for _ in range(20))])


@pytest.mark.slow
def test_no_flipped_byte_and_no_cut_of_segments_files_gets_as_far_as_faiss(
    store: Path, tmp_path: Path
) -> None:
    """Every byte in turn, and every length: what opens a segment compares the checksums before all else."""
    folder = files_of(store)[0].parent
    with DataDirectory(store, "read") as directory:
        number = directory.collection("photos").number
        with directory.environment.transaction() as transaction:
            (row,) = Manifest(directory.environment, number).segments(transaction)
    damaged = copy_of(folder, tmp_path / "segment")
    verify_files(damaged, row.files)
    for file in sorted(damaged.iterdir()):
        whole = file.read_bytes()
        for at in range(len(whole)):
            for changed in (
                whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :],
                whole[:at],
            ):
                file.write_bytes(changed)
                with pytest.raises(DataLoss):
                    verify_files(damaged, row.files)
        file.write_bytes(whole)
    verify_files(damaged, row.files)
