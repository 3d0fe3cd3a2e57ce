"""Everything of one moment, while writes go on."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_images import assert_same_image, record, spec

from regionsearch.collection import Collection, DataDirectory, ImageRecord
from regionsearch.errors import DataLoss, FailedPrecondition, InvalidFilter, InvalidRequest


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path / "data", "write") as opened:
        yield opened


def filled(directory: DataDirectory, count: int = 40) -> tuple[Collection, dict[str, ImageRecord]]:
    random = np.random.default_rng(0)
    collection = directory.create_collection(spec())
    given = [
        record(random, f"{number:03}", payload={"n": number}, pixels=random.bytes(50))
        for number in range(count)
    ]
    collection.upsert(given)
    return collection, {each.image_id: each for each in given}


def test_an_export_gives_everything_back_in_the_order_of_ids(directory: DataDirectory) -> None:
    collection, given = filled(directory)
    exported = list(collection.export(parts=["payload", "masks", "vectors", "pixels"]))
    assert [each.image_id for each in exported] == sorted(given)
    for each in exported:
        assert_same_image(each, given[each.image_id])
        assert each.pixels == given[each.image_id].pixels
        assert (each.version, each.number > 0, each.updated[:2]) == (1, True, "20")


def test_parts_that_are_left_out_are_empty(directory: DataDirectory) -> None:
    collection, given = filled(directory, 3)
    for each in collection.export(parts=[]):
        assert (each.payload, each.pixels, each.vectors.shape) == ({}, None, (0, 12))
        assert [mask.pixels for mask in each.entities.masks] == [0] * len(given[each.image_id].entities)
        np.testing.assert_array_equal(each.entities.boxes, given[each.image_id].entities.boxes)
    with pytest.raises(InvalidRequest, match="not 'outlines'"):
        collection.export(parts=["outlines"])  # type: ignore[list-item]


@pytest.mark.parametrize("where", ["", "payload.m < 30"])
def test_an_export_is_of_one_moment_while_writes_go_on(directory: DataDirectory, where: str) -> None:
    """A writer moves one unit from payload to payload in each call: at any moment they add up to the same."""
    random = np.random.default_rng(1)
    collection = directory.create_collection(spec())
    collection.upsert([record(random, f"{each:02}", payload={"n": 10, "m": each}) for each in range(30)])
    stop = threading.Event()

    def move() -> None:
        amounts = [10] * 30
        while not stop.is_set():
            giver, taker = random.choice(30, 2, replace=False).tolist()
            amounts[giver] -= 1
            amounts[taker] += 1
            collection.upsert(
                [
                    record(random, f"{each:02}", payload={"n": amounts[each], "m": each})
                    for each in (giver, taker)
                ]
            )
            collection.delete([f"none-{giver}"])

    writer = threading.Thread(target=move)
    writer.start()
    try:
        for _ in range(10):
            exported = list(collection.export(where))
            assert [each.image_id for each in exported] == [f"{each:02}" for each in range(30)]
            assert sum(each.payload["n"] for each in exported) == 300
    finally:
        stop.set()
        writer.join()


def test_a_filter_is_evaluated_at_the_moment_of_the_call(directory: DataDirectory) -> None:
    collection, given = filled(directory)
    export = collection.export("payload.n >= 20 AND payload.n < 25")
    collection.update_payload("022", {"n": 99})
    collection.update_payload("001", {"n": 22})
    collection.delete(["023"])
    collection.upsert([record(np.random.default_rng(5), "024", payload={"n": 7})])
    exported = {each.image_id: each for each in export}
    assert sorted(exported) == ["020", "021", "022", "023", "024"]
    for each in exported.values():
        assert_same_image(each, given[each.image_id])
    assert sorted(each.image_id for each in collection.export("payload.n = 22")) == ["001"]
    with pytest.raises(InvalidFilter):
        collection.export("payload.n >=")


def test_an_export_beside_another_process_s_writer_is_of_one_moment_too(directory: DataDirectory) -> None:
    collection, _ = filled(directory)
    with DataDirectory(directory.path, "read") as reading:
        reader = reading.collection("photos")
        export = reader.export("payload.n < 5")
        collection.delete(["001"])
        assert [each.image_id for each in export] == [f"{each:03}" for each in range(5)]
        assert [each.image_id for each in reader.export("payload.n < 5")] == ["000", "002", "003", "004"]


def test_a_forgotten_export_lets_go_and_closing_does_not_wait_for_one(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "data", "write")
    collection, _ = filled(directory)
    forgotten = collection.export()
    next(forgotten)
    del forgotten
    gc.collect()
    assert directory._environment._long_reads == set()
    ended = collection.export()
    ended.close()
    with pytest.raises(StopIteration):
        next(ended)
    with collection.export() as inside:
        next(inside)
    assert directory._environment._long_reads == set()
    never_read, half_read = collection.export(), collection.export()
    next(half_read)
    directory.close()
    for export in (never_read, half_read):
        with pytest.raises(FailedPrecondition, match="closing the data directory"):
            next(export)


def test_an_export_ends_before_what_it_holds_grows_without_bound(directory: DataDirectory) -> None:
    collection, _ = filled(directory)
    random = np.random.default_rng(2)
    data = directory.path / "catalog" / "data.mdb"
    pixels = random.bytes(200_000)

    def replace_often() -> None:
        for _ in range(30):
            collection.upsert([record(random, "000", pixels=pixels)])

    replace_often()
    quiet = data.stat().st_size
    replace_often()
    assert data.stat().st_size == quiet  # freed pages are used again
    export = collection.export(growth_limit=3 << 20)
    next(export)
    replace_often()
    grown = data.stat().st_size - quiet
    assert grown > 5 << 20  # while it goes on, they are not
    with pytest.raises(FailedPrecondition, match=r"grew by \d+ MiB meanwhile, of 3 allowed"):
        next(export)
    replace_often()
    replace_often()
    assert data.stat().st_size < quiet + grown + (1 << 20)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data", "write") as directory:
        _, given = filled(directory, 5)
        record_bytes: Any = given["002"].vectors[1].tobytes()
    data = tmp_path / "data/catalog/data.mdb"
    stored = bytearray(data.read_bytes())
    stored[stored.index(record_bytes)] ^= 1
    data.write_bytes(stored)
    with DataDirectory(tmp_path / "data", "write") as directory:
        export = directory.collection("photos").export()
        assert [next(export).image_id, next(export).image_id] == ["000", "001"]
        with pytest.raises(DataLoss, match="'002'"):
            next(export)
