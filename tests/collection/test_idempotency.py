"""The same request under the same key is answered again and done once, over restarts too."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from stored_images import record, spec

from regionsearch.collection import DataDirectory, idempotency
from regionsearch.collection.environment import Environment
from regionsearch.collection.idempotency import OnceOnly, StoredResults
from regionsearch.errors import InvalidRequest, VersionMismatch


def test_a_repeated_write_returns_the_first_result_also_after_a_restart(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    given = [record(random, "a"), record(random, "b", pixels=random.bytes(100))]
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec())
        first = collection.upsert(given, idempotency_key="key 1")
        assert collection.upsert(given, idempotency_key="key 1") == first
        changed = collection.update_payload("a", {"x": 1}, idempotency_key="key 2")
        collection.upsert([record(random, "a")])
        generation = collection.stats.generation
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.collection("photos")
        assert collection.upsert(given, idempotency_key="key 1") == first
        assert collection.update_payload("a", {"x": 1}, idempotency_key="key 2") == changed
        assert collection.stats.generation == generation
        assert collection.get("a").version == 3
        assert collection.delete(["a", "b"], idempotency_key="key 3") == 2
        collection.upsert([given[0]])
        assert collection.delete(["a", "b"], idempotency_key="key 3") == 2
        assert list(collection.image_ids()) == ["a"]


def test_another_request_under_the_key_is_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    given = record(random, "a", content_hash="")
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec())
        collection.upsert([given], idempotency_key="mine")
        others = [
            lambda: collection.upsert([record(random, "a")], idempotency_key="mine"),
            lambda: collection.upsert([given], idempotency_key="mine", if_versions={"a": 0}),
            lambda: collection.upsert([given, record(random, "b")], idempotency_key="mine"),
            lambda: collection.delete(["a"], idempotency_key="mine"),
            lambda: collection.update_payload("a", {}, idempotency_key="mine"),
            lambda: collection.upsert([record(random, "c")], idempotency_key="mine", durability="buffered"),
        ]
        for other in others:
            with pytest.raises(InvalidRequest, match="'mine' was given to another request") as refused:
                other()
            assert refused.value.field == "idempotency_key"
        assert collection.get("a").version == 1
        assert list(collection.image_ids()) == ["a"]
        second = directory.create_collection(spec("second"))  # keys are a collection's own
        assert second.upsert([record(random, "a")], idempotency_key="mine")[0].created
        for key in ("x" * 129, "two\nlines", "\ud800"):
            with pytest.raises(InvalidRequest, match="idempotency key"):
                collection.upsert([given], idempotency_key=key)


def test_a_refused_write_leaves_its_key_free(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    given = record(random, "a")
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec())
        with pytest.raises(VersionMismatch):
            collection.upsert([given], if_versions={"a": 1}, idempotency_key="k")
        assert collection.upsert([given], idempotency_key="k")[0].version == 1


def test_of_equal_requests_at_once_one_writes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    given = record(random, "a")
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec())
        together = threading.Barrier(8)

        def write(thread: int) -> tuple[int, int]:
            together.wait()
            (result,) = collection.upsert([given], idempotency_key="k")
            return result.number, result.version

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(write, range(8))) == {(1, 1)}
        assert collection.stats.generation == 1


def test_results_are_forgotten_after_a_day_and_when_they_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a dictionary in the order of times; what is due goes within a few writes, 32 at a time."""
    monkeypatch.setattr(idempotency, "KEPT_RESULTS", 50)
    day = idempotency.KEPT_SECONDS * 1_000_000
    (tmp_path / "catalog").mkdir()
    environment = Environment.open(tmp_path / "catalog", writable=True, map_size=64 << 20, create=True)
    results, others = StoredResults(environment, 1), StoredResults(environment, 2)

    def rows() -> int:
        with environment.transaction() as transaction:
            return int(transaction.stat(environment.database("idempotency"))["entries"])

    digest = bytes(32)
    with environment.transaction(write=True) as transaction:
        others.remember(transaction, OnceOnly("k0", digest, 1), "other")
        for number in range(80):
            results.remember(transaction, OnceOnly(f"k{number}", digest, number), number)
            results.remember(transaction, OnceOnly(f"k{number}", digest, number), number)  # in its own place
    assert rows() == 3 + 2 * 50 + 1
    with environment.transaction(write=True) as transaction:
        known = [results.earlier(transaction, OnceOnly(f"k{each}", digest, 100)) for each in range(80)]
        assert known == [None] * 30 + list(range(30, 80))
        assert results.earlier(transaction, OnceOnly("k79", digest, 79 + day)) == 79
        assert results.earlier(transaction, OnceOnly("k79", digest, 80 + day)) is None
        assert results.earlier(transaction, OnceOnly("k79", bytes([1]) * 32, 80 + day)) is None
    with environment.transaction(write=True) as transaction:
        results.remember(transaction, OnceOnly("new", digest, 2 * day), None)
    assert rows() == 3 + 2 * (51 - 32) + 1
    with environment.transaction(write=True) as transaction:
        results.remember(transaction, OnceOnly("newer", digest, 2 * day), None)
        assert others.earlier(transaction, OnceOnly("k0", digest, 2)) == "other"
    assert rows() == 3 + 2 * 2 + 1
    environment.close()
