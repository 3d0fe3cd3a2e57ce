"""Listing and deleting what a filter lets through, while writes go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from stored_images import record, spec

from regionsearch.collection import Collection, DataDirectory, ImageRecord, deletion_by_filter
from regionsearch.collection.records import IndexedField, IndexWish
from regionsearch.errors import Cancelled, InvalidFilter, InvalidRequest, ReadOnly


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with DataDirectory(tmp_path / "data", "write") as directory:
        yield directory.create_collection(spec(indexed_fields=(IndexedField("n", "number"),)))


def numbered(count: int, first: int = 0) -> list[ImageRecord]:
    random = np.random.default_rng(first)
    return [record(random, f"{each:04}", entities=1, payload={"n": each}) for each in range(first, count)]


def ids(collection: Collection, where: str, page_size: int = 7, prefix: str = "") -> list[str]:
    found: list[str] = []
    token = ""
    while True:
        listings, token = collection.list(page_size, token, prefix, where)
        found += [listing.image_id for listing in listings]
        assert len(listings) == page_size or not token
        if not token:
            return found


@pytest.mark.parametrize("page_size", [1, 7, 1_000])
def test_pages_of_a_filter_are_what_it_lets_through_in_the_order_of_ids(
    collection: Collection, page_size: int
) -> None:
    collection.upsert(numbered(300))
    for where, expected in {
        "payload.n < 3": range(3),  # few: their ids are read
        "payload.n >= 3": range(3, 300),  # many: all ids are walked
        "payload.n > 299": (),
        " ": range(300),
    }.items():
        assert ids(collection, where, page_size) == [f"{each:04}" for each in expected]
    assert ids(collection, "payload.n < 150", page_size, "01") == [f"{each:04}" for each in range(100, 150)]
    assert ids(collection, "payload.n < 102", page_size, "01") == ["0100", "0101"]


def test_pages_of_a_filter_stay_in_step_while_writes_go_on(collection: Collection) -> None:
    collection.upsert(numbered(200))
    stop = threading.Event()

    def change() -> None:
        random = np.random.default_rng(9)
        while not stop.is_set():
            number = int(random.integers(200, 260))
            collection.upsert([record(random, f"{number:04}", entities=1, payload={"n": number})])
            collection.update_payload(f"{int(random.integers(100, 200)):04}", {"n": 500}, merge=True)
            collection.delete([f"{int(random.integers(200, 260)):04}"])

    writer = threading.Thread(target=change)
    writer.start()
    try:
        for _ in range(15):
            found = ids(collection, "payload.n < 100 OR payload.n = 500")
            assert [each for each in found if each < "0100"] == [f"{each:04}" for each in range(100)]
            assert found == sorted(set(found))
            assert all(each < "0200" for each in found)
    finally:
        stop.set()
        writer.join()


def test_a_token_is_good_for_its_filter_alone(collection: Collection) -> None:
    collection.upsert(numbered(20))
    token = collection.list(5, where="payload.n < 15")[1]
    assert len(collection.list(5, token, where="payload.n < 15")[0]) == 5
    for where in ("", "payload.n < 16"):
        with pytest.raises(InvalidRequest, match="page token"):
            collection.list(5, token, where=where)
    with pytest.raises(InvalidFilter):
        collection.list(5, where="payload.n <")


def test_deleting_by_filter_takes_what_matches_and_nothing_else(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion_by_filter, "IMAGES_AT_ONCE", 10)
    collection.upsert(numbered(100))
    shares: list[float] = []
    checks: list[int] = []
    deleted = collection.delete_matching(
        "payload.n >= 25 AND payload.n < 60", progress=shares.append, check=lambda: checks.append(1)
    )
    assert deleted == 35
    assert list(collection.image_ids()) == [f"{each:04}" for each in (*range(25), *range(60, 100))]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(checks) == 4
    assert collection.delete_matching("payload.n >= 25 AND payload.n < 60") == 0
    vector = numbered(26, 25)[0].vectors[1]
    assert collection.count().images == 65
    assert len(collection.search(vector, 1_000).numbers) == 65
    with pytest.raises(InvalidFilter):
        collection.delete_matching("payload.n >")


def test_what_stops_matching_while_a_deletion_goes_on_stays(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the pieces images are replaced, given other payloads, and added."""
    monkeypatch.setattr(deletion_by_filter, "IMAGES_AT_ONCE", 10)
    collection.upsert(numbered(50))
    random = np.random.default_rng(3)
    pieces = 0

    def between() -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 2:
            collection.update_payload("0040", {"n": -1})  # stops matching
            collection.update_payload("0041", {"n": 41, "seen": True})  # changed, and still matches
            collection.upsert([record(random, "0042", payload={"n": 42})])  # another image under its id
            collection.upsert([record(random, "0001", payload={"n": 1})])  # came after it was deleted
            collection.upsert([record(random, "new", payload={"n": 1})])  # did not match when it began
            collection.delete(["0043"])

    assert collection.delete_matching("payload.n >= 0", check=between) == 50 - 3
    assert list(collection.image_ids()) == ["0001", "0040", "0042", "new"]


def test_a_deletion_that_was_cut_short_goes_on_under_its_key(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion_by_filter, "IMAGES_AT_ONCE", 10)
    collection.upsert(numbered(50))
    pieces = 0

    def cancel() -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        collection.delete_matching("payload.n < 45", idempotency_key="k", check=cancel)
    assert collection.stats.images == 30
    assert collection.delete_matching("payload.n < 45", idempotency_key="k") == 45
    collection.upsert(numbered(10))
    assert collection.delete_matching("payload.n < 45", idempotency_key="k") == 45
    assert collection.stats.images == 15
    with pytest.raises(InvalidRequest, match="another request"):
        collection.delete_matching("payload.n < 46", idempotency_key="k")


def test_a_payload_update_is_seen_by_the_next_filter(collection: Collection) -> None:
    collection.upsert(numbered(30))
    for number in range(0, 30, 3):
        collection.update_payload(f"{number:04}", {"n": 100 + number, "tag": "x"})
        assert ids(collection, f"payload.n = {100 + number}") == [f"{number:04}"]
        assert ids(collection, f"payload.n = {number}") == []
    assert ids(collection, 'payload.tag = "x"') == [f"{number:04}" for number in range(0, 30, 3)]


def test_fields_and_wishes_are_updated_and_kept(tmp_path: Path) -> None:
    wish = IndexWish(recall_target=0.99, favour="speed")
    fields = (IndexedField("n", "number"), IndexedField("tag", "string"))
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec())
        collection.upsert(numbered(30))
        assert collection.matching("payload.n < 10").notes
        collection.update(indexed_fields=fields)
        assert not collection.matching("payload.n < 10").notes
        collection.update(index=wish)
        assert (collection.spec.indexed_fields, collection.spec.index) == (fields, wish)
        for target in (0.4, 1.0, True):
            with pytest.raises(InvalidRequest) as refused:
                collection.update(index=IndexWish(recall_target=target), indexed_fields=())
            assert refused.value.field == "index.recall_target"
        with pytest.raises(InvalidRequest):
            directory.create_collection(spec("other", index=IndexWish(favour="luck")))  # type: ignore[arg-type]

        def stop() -> None:
            raise Cancelled("enough")

        with pytest.raises(Cancelled):
            collection.update(indexed_fields=(), check=stop)
        assert collection.spec.indexed_fields == fields
    with DataDirectory(tmp_path / "data", "read") as directory:
        collection = directory.collection("photos")
        assert (collection.spec.indexed_fields, collection.spec.index) == (fields, wish)
        assert collection.matching("payload.n < 10").image_count == 10
        with pytest.raises(ReadOnly):
            collection.update(index=wish)
