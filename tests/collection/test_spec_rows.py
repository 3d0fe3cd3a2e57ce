"""What a collection is comes back from the catalog as it was written, older rows with defaults."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from stored_images import spec, unit_vectors

from regionsearch.collection import CollectionSpec, DataDirectory
from regionsearch.collection.records import IndexedField, IndexWish
from regionsearch.collection.spec_rows import rewrite_spec, spec_from_json, spec_to_json
from regionsearch.errors import CollectionNotFound


def test_a_spec_comes_back_with_its_fields_and_wish() -> None:
    fields = (IndexedField("year", "number"), IndexedField("camera.maker", "string"))
    probe = unit_vectors(np.random.default_rng(0), 1)[0]
    given = spec(
        "trips",
        pixels="none",
        entity_limit=5,
        indexed_fields=fields,
        index=IndexWish(0.99, "speed"),
        probe=probe,
    )
    back, number = spec_from_json(spec_to_json(given, 7))
    assert number == 7
    np.testing.assert_array_equal(back.probe, probe)
    assert dataclasses.replace(back, probe=None) == dataclasses.replace(given, probe=None)


def test_a_row_of_an_older_version_has_no_indexed_fields_and_the_default_wish() -> None:
    row = json.loads(spec_to_json(spec(), 1))
    del row["indexed_fields"], row["index"]
    back, _ = spec_from_json(json.dumps(row).encode())
    assert back == spec()
    assert (back.indexed_fields, back.index) == ((), IndexWish())


def test_a_rewritten_spec_is_seen_by_readers_and_kept(tmp_path: Path) -> None:
    fields = (IndexedField("year", "number"),)

    def declared(old: CollectionSpec) -> CollectionSpec:
        return dataclasses.replace(old, indexed_fields=fields)

    with DataDirectory(tmp_path / "data", "write") as directory:
        photos = directory.create_collection(spec())
        environment = directory._environment
        with DataDirectory(tmp_path / "data", "read") as reading:
            assert reading.collection("photos").spec.indexed_fields == ()
            with environment.transaction(write=True) as transaction:
                rewrite_spec(environment, transaction, "photos", photos.number, declared)
            assert reading.collection("photos").spec.indexed_fields == fields
        with (
            pytest.raises(CollectionNotFound, match="dropped"),
            environment.transaction(write=True) as transaction,
        ):
            rewrite_spec(environment, transaction, "photos", photos.number + 1, declared)
    with DataDirectory(tmp_path / "data", "write") as directory:
        assert directory.collection("photos").spec.indexed_fields == fields
