"""Writes that depend on versions, and payloads that change in place."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored_images import assert_same_image, record, spec

from regionsearch.collection import Collection, DataDirectory
from regionsearch.collection.merge_patch import merged
from regionsearch.errors import ImageNotFound, InvalidRecord, InvalidRequest, VersionMismatch


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with DataDirectory(tmp_path / "data", "write") as directory:
        yield directory.create_collection(spec())


def test_a_write_for_another_version_changes_nothing_and_names_both(collection: Collection) -> None:
    random = np.random.default_rng(0)
    collection.upsert([record(random, "a"), record(random, "b")])
    collection.upsert([record(random, "b")])
    before = {name: collection.get(name) for name in "ab"}
    with pytest.raises(VersionMismatch, match=r"'b'.* has version 2; the write is for version 1") as refused:
        collection.upsert([record(random, "a"), record(random, "b")], if_versions={"a": 1, "b": 1})
    assert refused.value.metadata == {"image_id": "b", "wanted": "1", "found": "2"}
    with pytest.raises(VersionMismatch, match=r"'c'.* has version 0 .*for version 1"):
        collection.delete(["a", "c"], if_versions={"c": 1})
    with pytest.raises(VersionMismatch, match="there must be none"):
        collection.upsert([record(random, "new"), record(random, "a")], if_versions={"a": 0})
    with pytest.raises(VersionMismatch, match="for version 7"):
        collection.update_payload("a", {"x": 1}, if_version=7)
    assert list(collection.image_ids()) == ["a", "b"]
    for name, stored in before.items():
        assert collection.get(name).number == stored.number
        assert_same_image(collection.get(name), stored)
    collection.upsert([record(random, "a"), record(random, "c")], if_versions={"a": 1, "c": 0})
    assert collection.get("a").version == 2
    assert collection.delete(["a", "b"], if_versions={"b": 2}) == 2


def test_versions_that_make_no_sense_are_refused(collection: Collection) -> None:
    random = np.random.default_rng(0)
    given = record(random, "a")
    for versions in ({"b": 1}, {"a": -1}, {"a": True}, {"a": 1.0}):
        with pytest.raises(InvalidRequest) as refused:
            collection.upsert([given], if_versions=versions)
        assert refused.value.field == "if_versions"
    with pytest.raises(InvalidRequest, match="cannot be buffered"):
        collection.upsert([given], if_versions={"a": 0}, durability="buffered")
    with pytest.raises(InvalidRequest, match="'synced' or 'buffered', not 'soon'"):
        collection.delete(["a"], durability="soon")  # type: ignore[arg-type]
    assert collection.stats.images == 0


def test_of_writers_that_race_for_a_version_one_wins(collection: Collection) -> None:
    """Eight threads count in one payload, each adding to what it has read: nothing is lost."""
    collection.upsert([record(np.random.default_rng(0), "counter", payload={"count": 0})])
    together = threading.Barrier(8)

    def count(thread: int) -> int:
        together.wait()
        lost = 0
        done = 0
        while done < 20:
            stored = collection.get("counter")
            try:
                collection.update_payload(
                    "counter", {"count": stored.payload["count"] + 1}, if_version=stored.version
                )
                done += 1
            except VersionMismatch:
                lost += 1
        return lost

    with ThreadPoolExecutor(8) as threads:
        lost = sum(threads.map(count, range(8)))
    assert lost > 0  # they did race
    stored = collection.get("counter")
    assert (stored.payload, stored.version) == ({"count": 160}, 161)


def test_only_one_of_many_creates(collection: Collection) -> None:
    random = np.random.default_rng(0)
    given = [record(random, "a", payload={"by": thread}) for thread in range(8)]
    together = threading.Barrier(8)

    def create(thread: int) -> bool:
        together.wait()
        try:
            collection.upsert([given[thread]], if_versions={"a": 0})
        except VersionMismatch:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(create, range(8)))
    assert created.count(True) == 1
    assert collection.get("a").payload == {"by": created.index(True)}


def test_a_payload_changes_alone(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    given = record(random, "a", payload={"old": [1, 2], "deep": {"x": 1, "y": 2}}, pixels=random.bytes(999))
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec())
        (first,) = collection.upsert([given])
        before = collection.get("a")
        replaced = collection.update_payload("a", {"title": "Straße " * 100})
        assert (replaced.number, replaced.version, replaced.created) == (first.number, 2, False)
        assert collection.get("a").payload == {"title": "Straße " * 100}
        collection.update_payload("a", {"deep": {"x": 1, "y": 2}})
        merged_in = collection.update_payload("a", {"deep": {"y": None, "z": 3}, "n": 1}, merge=True)
        assert (merged_in.number, merged_in.version) == (first.number, 4)
        sizes = collection.stats.bytes
        collection.update_payload("a", {})
        assert collection.stats.bytes == sizes - len('{"deep":{"x":1,"z":3},"n":1}')
        collection.update_payload("a", {"deep": {"x": 1, "z": 3}, "n": 1})
    with DataDirectory(tmp_path / "data", "read") as directory:
        collection = directory.collection("photos")
        stored = collection.get("a", pixels=True)
        assert stored.payload == {"deep": {"x": 1, "z": 3}, "n": 1}
        assert (stored.number, stored.version) == (first.number, 6)
        assert stored.updated > before.updated
        assert stored.pixels == given.pixels
        assert collection.list()[0][0].version == 6
        np.testing.assert_array_equal(stored.vectors, given.vectors)
        assert stored.entities.labels == given.entities.labels
        assert [mask.to_coco() for mask in stored.entities.masks] == [
            mask.to_coco() for mask in given.entities.masks
        ]
        found = collection.search(given.vectors[1], 1)
        assert found.numbers.tolist() == [first.number]


def test_a_payload_that_does_not_fit_is_refused_and_the_old_one_stays(collection: Collection) -> None:
    collection.upsert([record(np.random.default_rng(0), "a", payload={"half": "x" * 40_000})])
    with pytest.raises(InvalidRecord, match="65536"):
        collection.update_payload("a", {"other": "y" * 40_000}, merge=True)
    with pytest.raises(InvalidRecord, match="not a JSON object"):
        collection.update_payload("a", [1])  # type: ignore[arg-type]
    with pytest.raises(InvalidRecord, match="finite"):
        collection.update_payload("a", {"x": float("nan")})
    for unknown in ("b", "", "\ud800", "x" * 999):
        with pytest.raises(ImageNotFound, match=re.escape(repr(unknown)[:500])):
            collection.update_payload(unknown, {}, idempotency_key="k")
    stored = collection.get("a")
    assert (stored.payload, stored.version) == ({"half": "x" * 40_000}, 1)


# RFC 7396, appendix A: target, patch, result.
RFC_CASES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), RFC_CASES)
def test_merging_gives_what_the_standard_gives(target: Any, patch: Any, result: Any) -> None:
    assert merged(target, patch) == result


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abc"), json_values, max_size=3)


@given(target=objects, patch=objects)
def test_merging_a_patch_twice_changes_no_more_than_once(
    target: dict[str, Any], patch: dict[str, Any]
) -> None:
    once = merged(target, patch)
    assert merged(once, patch) == once
    for name, value in patch.items():
        assert (name in once) == (value is not None)
