"""Second names: set and switched at once, in the way of nobody."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from other_processes import hear, other_process, tell
from stored_images import record, spec, unit_vectors

from regionsearch.collection import DataDirectory
from regionsearch.errors import (
    AliasNotFound,
    CollectionExists,
    CollectionNotFound,
    FailedPrecondition,
    InvalidRequest,
    ReadOnly,
)


def test_a_collection_is_found_by_its_aliases_and_an_alias_can_be_switched_and_deleted(
    tmp_path: Path,
) -> None:
    with DataDirectory(tmp_path / "data", "write") as directory:
        old = directory.create_collection(spec("trips-1"))
        new = directory.create_collection(spec("trips-2"))
        assert directory.set_alias("trips", "trips-1") is None
        assert directory.set_alias("holidays", "trips") is None  # an alias of an alias's collection
        assert directory.collection("trips") is old
        assert directory.set_alias("trips", "trips-2") == "trips-1"
        assert directory.collection("trips") is new
        assert directory.collection("holidays") is old  # which led to the collection, not to the alias
        assert directory.collection_names() == ["trips-1", "trips-2"]
    with DataDirectory(tmp_path / "data", "write") as directory:
        assert directory.aliases() == {"holidays": "trips-1", "trips": "trips-2"}
        assert directory.collection("trips").spec.name == "trips-2"
        assert directory.delete_alias("trips") == "trips-2"
        with pytest.raises(CollectionNotFound, match="'trips'"):
            directory.collection("trips")
        with pytest.raises(AliasNotFound, match="'trips'"):
            directory.delete_alias("trips")
        assert directory.collection("trips-2").stats.images == 0


def test_a_name_is_never_both_a_collection_and_an_alias(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data", "write") as directory:
        directory.create_collection(spec("photos"))
        directory.set_alias("pictures", "photos")
        with pytest.raises(CollectionExists, match="'pictures' is an alias of collection 'photos'"):
            directory.create_collection(spec("pictures"))
        with pytest.raises(CollectionExists, match="'photos' is a collection's own name"):
            directory.set_alias("photos", "photos")
        with pytest.raises(CollectionNotFound, match="'none'"):
            directory.set_alias("more", "none")
        for name in ("", "a b", "../x", "x" * 129):
            with pytest.raises(InvalidRequest, match="name"):
                directory.set_alias(name, "photos")
        assert directory.aliases() == {"pictures": "photos"}
    with DataDirectory(tmp_path / "data", "read") as directory:
        with pytest.raises(ReadOnly):
            directory.set_alias("more", "photos")
        with pytest.raises(ReadOnly):
            directory.delete_alias("pictures")


def test_a_collection_with_an_alias_is_dropped_only_when_that_is_said(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data", "write") as directory:
        directory.create_collection(spec("photos"))
        directory.set_alias("b", "photos")
        directory.set_alias("a", "photos")
        with pytest.raises(FailedPrecondition, match="has the alias 'a', 'b'"):
            directory.drop_collection("photos")
        with pytest.raises(FailedPrecondition, match="'a' is an alias of collection 'photos'"):
            directory.drop_collection("a", aliases="delete")
        assert directory.collection("a").stats.images == 0
        directory.drop_collection("photos", aliases="delete")
        assert (directory.collection_names(), directory.aliases()) == ([], {})
        directory.create_collection(spec("a"))


def test_searches_end_on_the_collection_that_they_began_on_while_the_alias_switches(tmp_path: Path) -> None:
    """Two models' vectors of the same photos: what was found in one is looked up in the same one."""
    random = np.random.default_rng(3)
    with DataDirectory(tmp_path / "data", "write") as directory:
        for name, dimension in (("small", 12), ("large", 20)):
            made = directory.create_collection(spec(name, dimension=dimension))
            made.upsert(
                [record(random, f"{name}-{number}", entities=2, dimension=dimension) for number in range(30)]
            )
        directory.set_alias("photos", "small")
        faults: list[str] = []
        seen: set[str] = set()
        over = threading.Event()

        def ask(seed: int) -> None:
            own = np.random.default_rng(seed)
            while not over.is_set():
                photos = directory.collection("photos")
                size = photos.spec.embedder.dimension
                found = photos.search(unit_vectors(own, 1, size)[0], 5)
                names = [each.image_id for each in photos.candidates(found.numbers.tolist())]
                seen.add(photos.spec.name)
                if not names or any(not name.startswith(photos.spec.name + "-") for name in names):
                    faults.append(f"{photos.spec.name}: {names}")

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for turn in range(40):
            directory.set_alias("photos", ("large", "small")[turn % 2])
        over.set()
        for thread in threads:
            thread.join()
        assert (faults, seen) == ([], {"small", "large"})


def test_a_reader_in_another_process_follows_a_switch_at_its_next_look(tmp_path: Path) -> None:
    script = """
with DataDirectory(path, 'write') as directory:
    for name in ('one', 'two'):
        directory.create_collection(spec(name)).upsert([record(random, f'image-of-{name}')])
    say('open')
    while line := ask():
        directory.set_alias('photos', line)
        say('switched')
"""
    with other_process(script, tmp_path / "data") as writer:
        assert hear(writer) == "open"
        with DataDirectory(tmp_path / "data", "read") as directory:
            for name in ("one", "two", "one"):
                assert tell(writer, name) == "switched"
                assert list(directory.collection("photos").image_ids()) == [f"image-of-{name}"]
            began = directory.collection("photos")
            assert tell(writer, "two") == "switched"
            assert list(began.image_ids()) == ["image-of-one"]


def test_re_embedding_goes_through_a_new_collection_and_loses_nobody(tmp_path: Path) -> None:
    """Index into a new collection, switch the alias, drop the old one: clients say `photos` throughout."""
    random = np.random.default_rng(4)
    ids = [f"{number:02}.jpg" for number in range(12)]
    with DataDirectory(tmp_path / "data", "write") as directory:
        first = directory.create_collection(spec("photos-model-a"))
        first.upsert([record(random, image_id) for image_id in ids])
        directory.set_alias("photos", "photos-model-a")
        second = directory.create_collection(spec("photos-model-b", dimension=20))
        second.upsert([record(random, image_id, dimension=20) for image_id in ids])
        assert directory.collection("photos").spec.embedder.dimension == 12
        assert directory.set_alias("photos", "photos-model-b") == "photos-model-a"
        assert list(directory.collection("photos").image_ids()) == list(first.image_ids()) == ids
        directory.drop_collection("photos-model-a")
        with pytest.raises(CollectionNotFound, match="dropped"):
            first.get(ids[0])
        assert directory.collection("photos").get(ids[0]).vectors.shape[1] == 20
    with DataDirectory(tmp_path / "data", "read") as directory:
        assert directory.collection("photos").stats.images == 12
        assert directory.aliases() == {"photos": "photos-model-b"}
