"""Collections are made, found and dropped by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from other_processes import assert_whole
from stored_images import record, spec, unit_vectors

from regionsearch.collection import Collection, DataDirectory
from regionsearch.collection.catalog import PER_COLLECTION, dropped_collections
from regionsearch.collection.records import IndexedField
from regionsearch.collection.segments.upkeep import UpkeepSettings
from regionsearch.errors import CollectionExists, CollectionNotFound, InvalidRequest


def test_collections_are_made_found_and_dropped_by_name(tmp_path: Path) -> None:
    probe = unit_vectors(np.random.default_rng(0), 1)[0]
    with DataDirectory(tmp_path / "data", "write") as directory:
        photos = directory.create_collection(spec(probe=probe, pixels="original", entity_limit=7))
        directory.create_collection(spec("Zoo.2-b_1"))
        with pytest.raises(CollectionExists, match="'photos'"):
            directory.create_collection(spec())
        for name in ("", ".hidden", "a/b", "ä", "x" * 129, "a b", "a\n"):
            with pytest.raises(InvalidRequest, match="collection name"):
                directory.create_collection(spec(name))
        for settings in ({"entity_limit": 0}, {"pixels": "all"}, {"probe": probe[:3]}, {"dimension": 0}):
            with pytest.raises(InvalidRequest):
                directory.create_collection(spec("bad", **settings))
        assert directory.collection_names() == ["Zoo.2-b_1", "photos"]
        assert directory.collection("photos") is photos
        with pytest.raises(CollectionNotFound, match=r"'Zoo\.2-b_1', 'photos'"):
            directory.collection("bad")
    with DataDirectory(tmp_path / "data", "write") as directory:
        stored = directory.collection("photos").spec
        np.testing.assert_array_equal(stored.probe, probe)
        assert (stored.embedder, stored.segmenter) == (spec().embedder, spec().segmenter)
        assert (stored.pixels, stored.entity_limit) == ("original", 7)
        directory.drop_collection("photos")
        assert directory.collection_names() == ["Zoo.2-b_1"]


def test_a_dropped_collection_is_gone_at_once_and_its_rows_after_a_crash_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    monkeypatch.setattr("regionsearch.collection.data_directory._SWEEP_ROWS", 7)
    with DataDirectory(tmp_path / "data", "write") as directory:
        photos = directory.create_collection(spec())
        kept = directory.create_collection(spec("kept"))
        for collection in (photos, kept):
            collection.upsert([record(random, f"{number}", pixels=b"x") for number in range(30)])
        monkeypatch.setattr(DataDirectory, "finish_drops", lambda self: None)  # as if killed here
        directory.drop_collection("photos")
        with pytest.raises(CollectionNotFound, match="dropped"):
            photos.get("1")
        with pytest.raises(CollectionNotFound, match="dropped"):
            photos.upsert([record(random, "1")])
        again = directory.create_collection(spec())
        assert again.stats.images == 0
        assert list(again.image_ids()) == []
        again.upsert([record(random, "1", entities=3)])
        monkeypatch.undo()
    monkeypatch.setattr("regionsearch.collection.data_directory._SWEEP_ROWS", 7)
    with DataDirectory(tmp_path / "data", "write") as directory:
        environment = directory._environment
        with environment.transaction() as transaction:
            assert dropped_collections(environment, transaction) == []
            rows = transaction.stat(environment.database("records"))["entries"]
        assert rows == 31
        assert directory.commits >= 30 * 4 // 7
        assert_whole(directory.collection("photos"), ["1"])
        assert directory.collection("kept").stats.images == 30


def test_a_collection_made_while_another_of_its_name_is_dropped_is_one_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DataDirectory(tmp_path / "data", "write") as directory:
        directory.create_collection(spec())
        writer = directory.writing()
        submit = writer.submit
        made: list[Collection] = []

        def submit_and_lose_the_race(*work: Any) -> Any:
            answer = submit(*work)
            monkeypatch.undo()
            made.append(directory.create_collection(spec()))  # another thread's, before the drop goes on
            return answer

        monkeypatch.setattr(writer, "submit", submit_and_lose_the_race)
        directory.drop_collection("photos")
        assert directory.collection("photos") is made[0]


def test_nothing_of_a_dropped_collection_is_left_in_the_catalog_or_among_the_files(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with DataDirectory(
        tmp_path / "data", "write", upkeep=UpkeepSettings.small(background=False)
    ) as directory:
        photos = directory.create_collection(
            spec(pixels="original", indexed_fields=(IndexedField("year", "number"),))
        )
        photos.upsert(
            [record(random, f"{number}", pixels=b"x") for number in range(40)], idempotency_key="once"
        )
        photos.set_background({"mean": 1.0})
        photos.seal()
        directory.set_alias("pictures", "photos")
        environment = directory.environment

        def entries() -> dict[str, int]:
            with environment.transaction() as transaction:
                names = (*PER_COLLECTION, "collections", "aliases", "dropped")
                return {name: transaction.stat(environment.database(name))["entries"] for name in names}

        assert all(count > 0 for name, count in entries().items() if name != "dropped")
        assert list((tmp_path / "data" / "segments").glob("*/*/*"))
        directory.drop_collection("photos", aliases="delete")
        assert not any(entries().values())
        assert not list((tmp_path / "data" / "segments").glob("*"))
