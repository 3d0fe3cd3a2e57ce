"""Segments and records of a collection with segments, damaged."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from segments_oracle import Oracle, segment_files, until
from stored_images import record, spec

from regionsearch.collection import DataDirectory
from regionsearch.collection.segments.upkeep import UpkeepSettings
from regionsearch.errors import DataLoss

SMALL = UpkeepSettings.small()
BY_HAND = UpkeepSettings.small(background=False)


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "missing", "folder missing"])
@pytest.mark.parametrize("name", ["entities.faiss", "images.faiss", "rows"])
def test_a_damaged_segment_is_named_searched_in_its_records_and_rebuilt(
    tmp_path: Path, random: np.random.Generator, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    oracle = Oracle(random)
    path = tmp_path / "data"
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory:
        collection = directory.create_collection(spec())
        for part in range(2):
            oracle.upsert(collection, [f"{part}/{each}" for each in range(20)])
            collection.seal()
        oracle.delete(collection, ["0/3", "1/4"])
    file = next(each for each in segment_files(path) if each.name == name)
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
        file.write_bytes(content)
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "longer":
        file.write_bytes(content + b"\0")
    else:
        file.unlink()
        if damage == "folder missing":
            for each in list(file.parent.iterdir()):
                each.unlink()
            file.parent.rmdir()
    for mode in ("read", "write"):
        caplog.clear()
        with DataDirectory(path, mode, upkeep=BY_HAND) as directory:  # type: ignore[arg-type]
            collection = directory.collection("photos")
            with caplog.at_level(logging.ERROR):
                oracle.assert_found(collection)
            assert [f"segment {file.parent.name} is damaged" in each for each in caplog.messages] == [True]
            oracle.assert_found(collection, 1000)
    with DataDirectory(path, "write", upkeep=SMALL) as directory:
        collection = directory.collection("photos")
        caplog.clear()
        oracle.assert_found(collection)
        until(lambda: int(file.parent.name) not in {each.number for each in collection.stats.segments})
        oracle.assert_found(collection)
    caplog.clear()
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory, caplog.at_level(logging.WARNING):
        oracle.assert_found(directory.collection("photos"))
    assert caplog.messages == []


def test_a_record_that_is_lost_is_reported_not_left_out(
    directory: DataDirectory, random: np.random.Generator
) -> None:
    collection = directory.create_collection(spec())
    given = [record(random, f"{each}") for each in range(30)]
    numbers = {each.image_id: each.number for each in collection.upsert(given)}
    collection.seal()
    rows = collection._arms.rows
    with directory.environment.transaction(write=True) as transaction:
        transaction.delete(rows.record_key(numbers["7"]), db=directory.environment.database("records"))
    with pytest.raises(DataLoss, match=f"image number {numbers['7']} .*missing"):
        collection.search(given[7].vectors[1], 5)
    collection.delete(["7"])
    assert numbers["7"] not in collection.search(given[7].vectors[1], 5).numbers


def test_a_damaged_record_is_left_out_of_new_segments_and_named(
    tmp_path: Path, random: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = Oracle(random)
    with DataDirectory(tmp_path / "data", "write", upkeep=BY_HAND) as directory:
        collection = directory.create_collection(spec())
        oracle.upsert(collection, [f"{each}" for each in range(20)])
        collection.seal()
        oracle.upsert(collection, [f"new {each}" for each in range(20)])
        number, _ = oracle.images.pop("5")
        key = collection._arms.rows.record_key(number)
        with directory.environment.transaction(write=True) as transaction:
            database = directory.environment.database("records")
            value = bytearray(transaction.get(key, db=database))
            value[-1] ^= 1
            transaction.put(key, bytes(value), db=database)
        with caplog.at_level(logging.ERROR):
            collection.compact()
        assert any(f"image number {number} is left out" in each for each in caplog.messages)
        oracle.assert_found(collection, 1000)
    with DataDirectory(tmp_path / "data", "write", upkeep=BY_HAND) as directory:
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            oracle.assert_found(directory.collection("photos"), 1000)
        assert any(f"image number {number} is left out" in each for each in caplog.messages)
