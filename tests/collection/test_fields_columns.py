"""Columns of declared fields: built, kept, mended, and never more than a copy of the records."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_images import record, spec, unit_vectors

from regionsearch.collection import Collection, DataDirectory
from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.fields.field_block import BLOCK_IMAGES, MAX_VALUES, FieldBlock
from regionsearch.collection.fields.field_columns import FieldColumns
from regionsearch.collection.fields.field_rows import FieldRows
from regionsearch.collection.fields.filtering import Filtering
from regionsearch.collection.fields.scanned_values import ScannedValues
from regionsearch.collection.records import IndexedField
from regionsearch.collection.segments.upkeep import UpkeepSettings
from regionsearch.errors import Cancelled, InvalidFilter, InvalidRequest

YEAR = IndexedField("year", "number")
MAKER = IndexedField("camera.maker", "string")
RANDOM = np.random.default_rng(5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def directory(path: Path) -> Iterator[DataDirectory]:
    with DataDirectory(path, "write") as opened:
        yield opened


def fill(collection: Collection, payloads: list[dict[str, Any]], first: int = 0) -> None:
    collection.upsert(
        [
            record(RANDOM, f"{first + place:05}.jpg", entities=1, payload=each)
            for place, each in enumerate(payloads)
        ]
    )


def found(collection: Collection, where: str) -> list[str]:
    matching = collection.matching(where)
    images = collection.records(matching.image_numbers().tolist())
    return sorted(image.image_id for image in images if image is not None)


def notes(collection: Collection, where: str) -> str:
    return " ".join(collection.matching(where).notes)


def test_an_undeclared_field_filters_by_reading_records_and_says_how_many(directory: DataDirectory) -> None:
    collection = directory.create_collection(spec(indexed_fields=(YEAR,)))
    fill(collection, [{"year": year, "colour": "red"} for year in range(2000, 2020)])
    assert notes(collection, "payload.year > 2010") == ""
    assert (
        notes(collection, 'payload.colour = "red"')
        == "payload.colour is not an indexed field: 20 records were read"
    )
    # What was read is remembered; a replaced image is read again.
    assert notes(collection, 'payload.colour != "red"').endswith(": no record had to be read")
    fill(collection, [{"colour": "blue"}])
    collection.update_payload("00001.jpg", {"colour": "blue"})
    assert found(collection, 'payload.colour = "blue"') == ["00000.jpg", "00001.jpg"]
    assert notes(collection, 'payload.colour = "blue" OR payload.size:*').startswith(
        "payload.colour, payload.size are not indexed fields: 20 records"
    )


def test_only_images_that_the_rest_leaves_open_are_read(directory: DataDirectory) -> None:
    collection = directory.create_collection(spec(indexed_fields=(YEAR,)))
    fill(collection, [{"year": year, "colour": "red"} for year in range(2000, 2020)])
    # However it is written, the column comes first.
    assert notes(collection, 'payload.colour = "red" AND payload.year >= 2017').endswith(
        ": 3 records were read"
    )
    assert notes(collection, "payload.size = 1 OR payload.year < 2018").endswith(": 2 records were read")
    assert notes(collection, "NOT (payload.weight = 1 OR payload.year < 2019)").endswith(
        ": 1 records were read"
    )
    assert notes(collection, "payload.depth = 1 AND entity.area > 5").endswith(": no record had to be read")


def test_a_record_is_read_once_however_many_conditions_ask_for_it(directory: DataDirectory) -> None:
    """Also when nothing of it can be remembered from one condition to the next."""
    collection = directory.create_collection(spec(name="many", indexed_fields=(YEAR,)))
    fill(collection, [{"year": 2000 + place, f"f{place % 9}": place} for place in range(50)])
    forgetful = FieldColumns(scanned=ScannedValues(remembered_bytes=0))
    view = replace(collection.matching("").view, fields=forgetful)
    rows = CollectionRows(directory.environment, "many", 1)
    filtering = Filtering(directory.environment, rows, lambda: view, lambda _: None)
    fields = [f"payload.f{place}" for place in range(9)]
    for join in (" OR ", " AND "):
        matching = filtering.matching(join.join(f"{each} != -1" for each in fields))
        assert matching.image_count == (50 if join == " OR " else 0)
        assert matching.notes[0].endswith(": 50 records were read")


def test_an_answer_that_is_kept_does_not_keep_what_searches_saw_before(directory: DataDirectory) -> None:
    """A view has files of segments mapped, which may have been removed since."""
    collection = directory.create_collection(spec(indexed_fields=(YEAR,)))
    fill(collection, [{"year": 2000}])
    seen = weakref.ref(collection.matching("payload.year = 2000").view)
    assert collection.matching("payload.year = 2000").view is seen()
    fill(collection, [{"year": 2001}], first=1)
    collection.search(unit_vectors(RANDOM, 1)[0], 1)
    gc.collect()
    assert seen() is None
    fill(collection, [{"year": 2000}], first=2)
    assert collection.count("payload.year = 2000").images == 2


def test_fields_are_declared_on_a_collection_that_has_images_and_taken_back(directory: DataDirectory) -> None:
    collection = directory.create_collection(spec())
    fill(
        collection,
        [{"year": 2000 + place % 30, "camera": {"maker": "AB"[place % 2]}} for place in range(200)],
    )
    expected = found(collection, 'payload.year > 2020 AND payload.camera.maker = "A"')
    progress: list[float] = []
    collection.update(indexed_fields=[YEAR, MAKER], progress=progress.append)
    assert progress[-1] == 1.0
    assert found(collection, 'payload.year > 2020 AND payload.camera.maker = "A"') == expected
    assert notes(collection, 'payload.year > 2021 AND payload.camera.maker = "A"') == ""
    collection.update(indexed_fields=[MAKER])
    assert collection.spec.indexed_fields == (MAKER,)
    assert "payload.year is not an indexed field" in notes(collection, "payload.year > 2022")
    assert notes(collection, 'payload.camera.maker = "B"') == ""
    collection.update(indexed_fields=[])
    with collection._environment.transaction() as transaction:
        database = collection._environment.database("fields")
        left = transaction.stat(db=database)["entries"]
    assert left == 1  # the declaration itself; all blocks were freed


def test_declaring_beside_writes_misses_none_of_them(directory: DataDirectory) -> None:
    collection = directory.create_collection(spec())
    fill(collection, [{"year": place} for place in range(1500)])
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            fill(collection, [{"year": 5000 + written}], first=written)
            written += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        collection.update(indexed_fields=[YEAR, MAKER])
    finally:
        stop.set()
        writer.join()
    matching = collection.matching("payload.year >= 5000")
    assert matching.notes == ()
    assert matching.image_count == min(written, 1500 + max(0, written - 1500))
    assert collection.count("payload.year < 5000").images == max(0, 1500 - written)


def test_a_cancelled_declaration_leaves_the_fields_of_before(directory: DataDirectory) -> None:
    collection = directory.create_collection(spec(indexed_fields=(MAKER,)))
    fill(collection, [{"year": place} for place in range(BLOCK_IMAGES + 200)])
    pieces = 0

    def check() -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        collection.update(indexed_fields=[YEAR], check=check)
    assert collection.spec.indexed_fields == (MAKER,)
    assert notes(collection, 'payload.camera.maker = "x"') == ""
    assert "is not an indexed field" in notes(collection, "payload.year = 3")
    collection.update(indexed_fields=[YEAR])
    assert collection.count(f"payload.year >= {BLOCK_IMAGES}").images == 200


def test_a_declaration_that_a_crash_cut_short_is_completed_when_the_directory_is_opened(path: Path) -> None:
    with DataDirectory(path, "write") as directory:
        collection = directory.create_collection(spec())
        fill(collection, [{"year": place} for place in range(3 * BLOCK_IMAGES)])
        rows = FieldRows(collection._environment, collection._rows)
        with collection._environment.transaction(write=True) as transaction:
            rows.declare(transaction, [YEAR])
            rows.advance(transaction)  # one block of three
    with DataDirectory(path, "read") as directory:
        collection = directory.collection("photos")
        assert "payload.year: the column is still being built" in notes(collection, "payload.year < 10")
        assert collection.count("payload.year >= 10").images == 3 * BLOCK_IMAGES - 10
    with DataDirectory(path, "write") as directory:
        collection = directory.collection("photos")
        for thread in threading.enumerate():
            if thread.name == "regionsearch-fields":
                thread.join()
        assert notes(collection, "payload.year < 10") == ""
        assert collection.count("payload.year >= 10").images == 3 * BLOCK_IMAGES - 10


def test_a_reader_sees_columns_as_the_writer_changes_them(path: Path) -> None:
    with DataDirectory(path, "write") as directory, DataDirectory(path, "read") as beside:
        collection = directory.create_collection(spec(indexed_fields=(YEAR,)))
        fill(collection, [{"year": 1, "colour": "red"}, {"year": 2}])
        reader = beside.collection("photos")
        assert found(reader, "payload.year = 2") == ["00001.jpg"]
        assert found(reader, "payload.colour:*") == ["00000.jpg"]
        collection.update_payload("00000.jpg", {"year": 2})
        assert found(reader, "payload.year = 2") == ["00000.jpg", "00001.jpg"]
        assert found(reader, "payload.colour:*") == []
        collection.update(indexed_fields=[IndexedField("colour", "string")])
        assert "payload.year is not an indexed field" in notes(reader, "payload.year != 2")
        assert notes(reader, "payload.colour:*") == ""


def test_images_with_more_values_than_a_column_holds_are_read(directory: DataDirectory) -> None:
    collection = directory.create_collection(spec(indexed_fields=(IndexedField("tags", "string"),)))
    many = [f"tag{place}" for place in range(MAX_VALUES + 1)]
    fill(collection, [{"tags": many}, {"tags": ["tag64"]}, {"tags": ["x" * 2000]}, {"tags": many[:3]}, {}])
    assert found(collection, 'payload.tags:"tag64"') == ["00000.jpg", "00001.jpg"]
    assert found(collection, 'payload.tags = "xxx*"') == ["00002.jpg"]
    assert found(collection, 'NOT payload.tags:"tag64"') == ["00002.jpg", "00003.jpg", "00004.jpg"]
    assert "payload.tags: some images have more values than a column holds" in notes(
        collection, 'payload.tags:"tag0"'
    )
    collection.update_payload("00000.jpg", {"tags": ["tag0"]})
    collection.delete(["00002.jpg"])
    assert notes(collection, 'payload.tags:"tag1"') == ""
    assert found(collection, 'payload.tags:"tag0"') == ["00000.jpg", "00003.jpg"]


def test_an_integer_of_thousands_of_digits_is_not_held_in_a_column(directory: DataDirectory) -> None:
    """Its digits are a text there, and as long as texts may be."""
    large = 10**3_000 + 7
    collection = directory.create_collection(spec(indexed_fields=(YEAR,)))
    fill(collection, [{"year": large}, {"year": 10**30}, {"year": 1}])
    assert "00000.jpg" in found(collection, "payload.year > 5")
    assert "more values than a column holds" in notes(collection, "payload.year > 6")
    assert found(collection, f"payload.year = {large}") == ["00000.jpg"]


def test_filters_answer_the_same_when_images_are_sealed_and_merged(path: Path) -> None:
    with DataDirectory(path, "write", upkeep=UpkeepSettings.small(background=False)) as directory:
        collection = directory.create_collection(spec(indexed_fields=(YEAR,)))
        where = 'payload.year >= 10 AND payload.year < 40 AND entity.label = "dog" AND payload.colour = 1'
        for first in (0, 50, 100):
            collection.upsert(
                [
                    record(RANDOM, f"{place:05}.jpg", payload={"year": place % 60, "colour": place % 2})
                    for place in range(first, first + 50)
                ]
            )
            before = collection.matching(where)
            collection.seal()
            after = collection.matching(where)
            assert after.image_numbers().tolist() == before.image_numbers().tolist()
            assert after.count.entities == before.count.entities
        collection.delete([f"{place:05}.jpg" for place in range(0, 150, 3)])
        before = collection.matching(where)
        collection.compact()
        after = collection.matching(where)
        assert len(after.view.parts) != len(before.view.parts) or after.view is not before.view
        assert after.image_numbers().tolist() == before.image_numbers().tolist()
        numbers = after.image_numbers().tolist()
        counts = [len(image.entities) for image in collection.records(numbers) if image is not None]
        assert after.entity_mask(numbers, counts).tolist() == before.entity_mask(numbers, counts).tolist()


def test_a_damaged_block_is_read_from_the_records_again(path: Path) -> None:
    with DataDirectory(path, "write") as directory:
        collection = directory.create_collection(spec(indexed_fields=(YEAR, MAKER)))
        fill(collection, [{"year": place, "camera": {"maker": "A"}} for place in range(10)])
        environment = collection._environment
        database = environment.database("fields")
        with environment.transaction(write=True) as transaction:
            with transaction.cursor(db=database) as cursor:
                rows = [(bytes(key), bytes(value)) for key, value in cursor.iternext()]
            for key, value in rows[1:]:
                flipped = bytes([*value[:40], value[40] ^ 1, *value[41:]])
                transaction.put(key, flipped, db=database)
    with DataDirectory(path, "write") as directory:
        collection = directory.collection("photos")
        assert collection.count("payload.year >= 5").images == 5
        fill(collection, [{"year": 100}], first=10)  # a write over a damaged block mends its row
        assert found(collection, "payload.year >= 9") == ["00009.jpg", "00010.jpg"]
    with DataDirectory(path, "read") as directory:
        assert found(directory.collection("photos"), "payload.year >= 9") == ["00009.jpg", "00010.jpg"]


def test_a_block_that_was_cut_is_refused_by_its_length() -> None:
    from regionsearch.errors import DataLoss

    block = FieldBlock.empty().changed((), {3: ["a", 1, 2.5, True], 5: ["2020-01-01T00:00:00Z"]})
    assert block is not None
    coded = block.encoded(with_instants=True)
    again = FieldBlock.decoded(coded, b"")
    assert again.values.texts.all() == block.values.texts.all()
    for end in range(len(coded)):
        with pytest.raises(DataLoss):
            FieldBlock.decoded(coded[:end], b"")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([IndexedField("", "number")], "expected a key"),
        ([IndexedField("2024", "number")], "need quotes"),
        ([IndexedField("a = 1", "number")], "end of the path"),
        ([IndexedField("a", "float")], "there are number, string, boolean, timestamp"),  # type: ignore[arg-type]
        ([YEAR, IndexedField('"year"', "string")], "declared twice"),
        ([IndexedField(f"f{number}", "number") for number in range(65)], "the limit is 64"),
    ],
)
def test_fields_that_filters_could_not_name_are_not_declared(
    directory: DataDirectory, fields: list[IndexedField], words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        directory.create_collection(spec(indexed_fields=tuple(fields)))


def test_a_blank_filter_matches_everything_that_lives(directory: DataDirectory) -> None:
    collection = directory.create_collection(spec())
    collection.upsert([record(RANDOM, f"{place}.jpg", entities=2) for place in range(5)])
    collection.delete(["3.jpg"])
    assert (collection.count().images, collection.count(" ").entities) == (4, 8)
    with pytest.raises(InvalidFilter):
        collection.count("year > 3")


def test_a_matching_says_of_the_entities_of_any_images_which_match(directory: DataDirectory) -> None:
    collection = directory.create_collection(spec())
    collection.upsert([record(RANDOM, f"{place}.jpg", entities=3) for place in range(5)])
    matching = collection.matching("entity.index = 1")
    gone = collection.delete(["2.jpg"])
    assert gone == 1
    later = collection.matching("entity.index = 1")
    none = [False, False, False]
    one = [False, True, False]
    # In the order asked, twice if asked twice; unknown, dead and differently sized images match in nothing.
    assert matching.entity_mask([5, 3, 5], [3, 3, 3]).tolist() == [*one, *one, *one]
    assert later.entity_mask([3, 99, 4, 1], [3, 3, 2, 3]).tolist() == [*none, *none, False, False, *one]
    assert later.entity_mask([], []).tolist() == []


def test_the_same_filter_on_the_same_state_is_answered_once(directory: DataDirectory) -> None:
    collection = directory.create_collection(spec())
    fill(collection, [{"a": 1}])
    before = collection.matching("payload.a = 1")
    assert collection.matching("payload.a = 1").rows is before.rows
    collection.update_payload("00000.jpg", {"a": True})
    assert (before.image_count, collection.count("payload.a = 1").images) == (1, 0)
