"""Records that are damaged while their collection is open: searches go on without them, and say so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from stored_images import record, spec

from regionsearch.collection import Collection, DataDirectory, ImageRecord
from regionsearch.collection.segments.upkeep import UpkeepSettings
from regionsearch.errors import DataLoss

BY_HAND = UpkeepSettings.small(background=False)
HEADER, BODY = 48, -1
"""Bytes of a record: how many entities it says to have, and its last."""


def damage(directory: DataDirectory, collection: Collection, image_id: str, at: int = HEADER) -> int:
    """Flips a bit of its record where it is stored; the image's number."""
    number = collection.get(image_id).number
    key = collection._arms.rows.record_key(number)
    database = directory.environment.database("records")
    with directory.environment.transaction(write=True) as transaction:
        value = bytearray(transaction.get(key, db=database))
        value[at] ^= 1
        transaction.put(key, bytes(value), db=database)
    return number


@pytest.fixture
def images() -> list[ImageRecord]:
    random = np.random.default_rng(3)
    return [record(random, f"{each}", payload={"year": 2000 + each}) for each in range(30)]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path / "data", "write", upkeep=BY_HAND) as opened:
        yield opened


@pytest.fixture
def collection(directory: DataDirectory, images: list[ImageRecord]) -> Collection:
    """Of sealed images, loaded."""
    created = directory.create_collection(spec())
    created.upsert(images)
    created.seal()
    created.load()
    return created


Search = Callable[[Collection, ImageRecord], list[int]]
SEARCHES: dict[str, Search] = {
    "entities": lambda collection, image: collection.search(image.vectors[1], 30).numbers.tolist(),
    "images": lambda collection, image: collection.search_images(image.vectors[0], 29).numbers.tolist(),
    "a few by filter": lambda collection, image: collection.search(
        image.vectors[1], 30, collection.matching("payload.year >= 2000")
    ).numbers.tolist(),
    "candidates": lambda collection, image: collection.candidates(range(1, 31)).numbers,
    "records": lambda collection, image: [
        each.number for each in collection.records(range(1, 31)) if each is not None
    ],
}


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_an_image_whose_header_is_damaged_is_left_out_named_once_and_counted(
    directory: DataDirectory,
    collection: Collection,
    images: list[ImageRecord],
    search: Search,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = search(collection, images[7])
    number = damage(directory, collection, "7")
    assert number in before
    with caplog.at_level(logging.ERROR):
        found = search(collection, images[7])
        for again in SEARCHES.values():
            assert number not in again(collection, images[7])
    assert number not in found
    assert len(found) >= len(before) - len(images[7].entities)
    assert [f"image number {number} is left out" in each for each in caplog.messages] == [True]
    assert [each for each in collection.stats.warnings if "1 image is left out" in each]
    with pytest.raises(DataLoss, match="'7'"):
        collection.get("7")
    assert collection.matching("").image_count == 29


def test_a_body_that_is_damaged_is_left_out_once_a_search_has_read_it(
    directory: DataDirectory, collection: Collection, images: list[ImageRecord]
) -> None:
    number = damage(directory, collection, "7", BODY)
    assert collection.records([number]) == [None]
    for search in ("entities", "images", "a few by filter"):
        assert number not in SEARCHES[search](collection, images[7])


@pytest.mark.parametrize("scanned", [False, True], ids=["indexed", "scanned"])
def test_the_k_best_of_the_others_are_found_all_the_same(
    tmp_path: Path, images: list[ImageRecord], scanned: bool
) -> None:
    path = tmp_path / "data"
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory:
        collection = directory.create_collection(spec())
        collection.upsert(images)
        collection.seal()
    if scanned:
        next((path / "segments").rglob("rows")).unlink()
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory:
        collection = directory.collection("photos")
        collection.load()
        gone = {damage(directory, collection, f"{each}") for each in (3, 7, 20)}
        expected = [
            number
            for _, number in sorted(
                (-float(each.vectors[0].astype(np.float64) @ images[7].vectors[0]), number)
                for number, each in enumerate(images, start=1)
                if number not in gone
            )
        ]
        for k in (1, 5, 27, 30):
            assert collection.search_images(images[7].vectors[0], k).numbers.tolist() == expected[:k]
        assert any("3 images are left out" in each for each in collection.stats.warnings)


def test_an_image_that_is_written_again_is_found_again(
    directory: DataDirectory, collection: Collection, images: list[ImageRecord]
) -> None:
    damage(directory, collection, "7")
    collection.search(images[7].vectors[1], 30)
    (again,) = collection.upsert([images[7]])
    assert collection.search(images[7].vectors[1], 1).numbers.tolist() == [again.number]
    assert not any("left out" in each for each in collection.stats.warnings)
    collection.compact()
    assert collection.search(images[7].vectors[1], 1).numbers.tolist() == [again.number]
    assert collection.stats.deleted_rows == 0


def test_what_is_left_out_stays_so_when_it_is_sealed(
    directory: DataDirectory, images: list[ImageRecord], caplog: pytest.LogCaptureFixture
) -> None:
    collection = directory.create_collection(spec())
    collection.upsert(images)
    collection.load()
    number = damage(directory, collection, "7")
    assert number not in collection.candidates([number]).numbers
    collection.seal()
    assert number not in collection.search(images[7].vectors[1], 1000).numbers
    collection.compact()
    assert number not in collection.search(images[7].vectors[1], 1000).numbers
    assert [f"image number {number} is left out" in each for each in caplog.messages] == [True]
    assert any("1 image is left out" in each for each in collection.stats.warnings)
