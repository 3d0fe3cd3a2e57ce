"""What joint scoring reads of many images, against the same images read one by one."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored_images import encoded, record, spec, unit_vectors

from regionsearch.collection import Candidates, Collection, DataDirectory
from regionsearch.collection.record_layout import candidate_parts
from regionsearch.errors import DataLoss

KEY = bytes(12)
"""Of the row that a record made here would lie in."""


@pytest.fixture(scope="module", params=[12, 128], ids=["short", "long"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    random = np.random.default_rng(0)
    dimension = request.param
    with DataDirectory(tmp_path_factory.mktemp("candidates") / "data", "write") as directory:
        collection = directory.create_collection(spec(dimension=dimension))
        for number in range(12):
            # One entity to ten; ids of all lengths, so that short records are not aligned in their page.
            image = record(
                random, f"{'é' * number}{number}", entities=1 + 3 * (number % 4), dimension=dimension
            )
            if number % 3 == 0:
                nothing = (None,) * len(image.entities)
                image = replace(
                    image, entities=replace(image.entities, labels=nothing, label_sources=nothing)
                )
            collection.upsert([image])
        yield collection


@given(data=st.data())
def test_candidates_are_what_their_records_hold(filled: Collection, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(1, 14)))
    queries = unit_vectors(
        np.random.default_rng(data.draw(st.integers(0, 9))),
        data.draw(st.integers(1, 4)),
        filled.spec.embedder.dimension,
    )
    # 13 and 14 were never given; a number asked twice is answered once.
    records = [each for each in filled.records(list(dict.fromkeys(numbers))) if each is not None]
    copied = filled.candidates(numbers, labels=True)
    compared = filled.candidates(numbers, compared_with=list(queries), labels=True)
    apart = filled.candidates(numbers, compared_with=[], images_compared_with=list(queries))
    for found in (copied, compared):
        assert found.numbers == [each.number for each in records]
        assert found.image_ids == [each.image_id for each in records]
        assert found.sizes.tolist() == [[each.width, each.height] for each in records]
        assert found.labels == [label for each in records for label in each.entities.labels]
        for name in ("boxes", "areas", "objectness"):
            expected = [row for each in records for row in getattr(each.entities, name).tolist()]
            assert getattr(found, name).tolist() == expected
    rows = [vector.astype(np.float64) for each in records for vector in each.vectors]
    true = np.array(rows).reshape(len(rows), queries.shape[1]) @ queries.T.astype(np.float64)
    firsts = np.cumsum([0, *(len(each.vectors) for each in records)])[:-1]
    for found in (copied, compared):
        np.testing.assert_allclose(found.similarities(list(queries)), true, atol=1e-6)
        np.testing.assert_allclose(found.image_similarities(queries[-1]), true[firsts, -1], atol=1e-6)
    np.testing.assert_array_equal(apart.image_similarities(queries[0]), copied.image_similarities(queries[0]))
    for each, expected_record in zip(copied, records, strict=True):
        np.testing.assert_array_equal(each.vectors, expected_record.vectors)
        assert each.labels == expected_record.entities.labels
        assert (each.width, each.height) == (expected_record.width, expected_record.height)


def test_images_read_for_comparison_answer_only_what_was_compared(filled: Collection) -> None:
    asked, other = unit_vectors(np.random.default_rng(0), 2, filled.spec.embedder.dimension)
    found = filled.candidates([1, 2, 3], compared_with=[asked])
    assert found.labels is None
    np.testing.assert_array_equal(
        found.similarities([asked.copy()]), filled.candidates([1, 2, 3]).similarities([asked])
    )
    for answer in (
        lambda: found.similarities([asked, other]),
        lambda: found.image_similarities(other),
        lambda: found.vectors,
        lambda: found[0],
    ):
        with pytest.raises(ValueError, match="compared where they lay"):
            answer()
    assert len(filled.candidates([], compared_with=[asked])) == 0
    assert len(filled.candidates([99], compared_with=[asked])) == 0


@pytest.mark.parametrize("dimension", [12, 640])
def test_equal_vectors_compare_equally_in_whatever_record_they_lie(tmp_path: Path, dimension: int) -> None:
    random = np.random.default_rng(0)
    repeated = unit_vectors(random, 1, dimension)
    query = unit_vectors(random, 1, dimension)[0]
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec(dimension=dimension))
        counts = [1, 2, 3, 5, 8, 13, 21]
        results = collection.upsert(
            [
                record(random, "x" * (1 + count), entities=count, vectors=repeated.repeat(1 + count, axis=0))
                for count in counts
            ]
        )
        found = collection.candidates([result.number for result in results], compared_with=[query])
        assert len(found.similarities([query])) == sum(counts) + len(counts)
        assert len(set(found.similarities([query]).ravel().tolist())) == 1
        # What ties here ties in the arms too.
        assert set(collection.search(query, 5).similarities.tolist()) == set(
            found.similarities([query]).ravel().tolist()
        )


def test_candidates_made_one_by_one_are_those_that_were_read(filled: Collection) -> None:
    query = unit_vectors(np.random.default_rng(0), 1, filled.spec.embedder.dimension)[0]
    found = filled.candidates([3, 1, 2], labels=True)
    made = Candidates.of([*found, found[1]])
    assert made.numbers == [3, 1, 2, 1]
    assert made.image_ids == [*found.image_ids, found.image_ids[1]]
    assert made.sizes.tolist() == [*found.sizes.tolist(), found.sizes[1].tolist()]
    rows, entities = int(found.starts[-1]), int(found.entity_starts[-1])
    assert made.starts[:4].tolist() == found.starts.tolist()
    np.testing.assert_array_equal(made.vectors[:rows], found.vectors)
    np.testing.assert_array_equal(made.similarities([query])[:rows], found.similarities([query]))
    np.testing.assert_array_equal(made.boxes[:entities], found.boxes)
    assert made.labels is not None
    assert made.labels[:entities] == found.labels
    assert Candidates.of([replace(found[0], labels=None), found[1]]).labels is None


def test_a_record_that_cannot_be_read_as_a_candidate_is_said_to_be_damaged() -> None:
    header, body = encoded(record(np.random.default_rng(0), "image", entities=2))
    value = header.pack(KEY) + body
    parts = candidate_parts(value, KEY)
    assert parts.image_id == "image"
    for length in (0, 7, 111, 112, header.id_start, header.id_start + header.id_bytes):
        with pytest.raises(DataLoss):
            candidate_parts(value[: length - 1] if length else b"", KEY)
    for position in range(112):
        damaged = bytearray(value)
        damaged[position] ^= 4
        with pytest.raises(DataLoss, match="checksum"):
            candidate_parts(damaged, KEY)
    damaged = bytearray(value)
    damaged[header.id_start] = 0xFF
    with pytest.raises(DataLoss, match="id"):
        candidate_parts(damaged, KEY)


@pytest.mark.parametrize("stored", [b'["dog","cat"]', b"7", b'["dog"', b"\xff"])
def test_damaged_labels_are_noticed_when_they_are_asked_for(stored: bytes) -> None:
    header, body = encoded(record(np.random.default_rng(0), "image", entities=3))
    at = header.id_start + header.id_bytes - 112
    body = body[:at] + stored + body[at + header.labels_bytes :]
    value = header._replace(labels_bytes=len(stored)).pack(KEY) + body
    assert candidate_parts(value, KEY).labels is None
    with pytest.raises(DataLoss, match="labels"):
        candidate_parts(value, KEY, labels=True)


def test_a_damaged_candidate_is_named_in_the_log_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(0)
    images = [record(random, f"image {letter}", entities=30, dimension=128) for letter in "abc"]
    query = unit_vectors(random, 1, 128)[0]
    with DataDirectory(tmp_path / "data", "write") as directory:
        directory.create_collection(spec(dimension=128)).upsert(images)
    data = tmp_path / "data" / "catalog" / "data.mdb"
    raw = bytearray(data.read_bytes())
    start = raw.index(images[1].vectors[0].tobytes()) - 112
    key = struct.pack(">IQ", 1, 2)
    assert struct.unpack_from("<I", raw, start + 4)[0] == zlib.crc32(
        raw[start + 8 : start + 112], zlib.crc32(key)
    )
    raw[start + 48] ^= 1  # how many entities it says to have
    data.write_bytes(raw)
    with DataDirectory(tmp_path / "data", "read") as directory:
        collection = directory.collection("photos")
        for options in ({}, {"compared_with": [query]}):
            assert collection.candidates([1, 2, 3], **options).image_ids == ["image a", "image c"]
        assert ["image number 2 is left out" in each for each in caplog.messages] == [True]
        assert any("1 image is left out" in each for each in collection.stats.warnings)
        with pytest.raises(DataLoss, match=r"image 'image b' \(number 2\)"):
            collection.get("image b")


def test_comparisons_beside_replacements_see_each_image_whole(tmp_path: Path) -> None:
    """Versions of an image differ in their vectors and in how many there are; none may be mixed."""
    random = np.random.default_rng(0)
    query = unit_vectors(random, 1, 64)[0]
    versions = [record(random, "a", entities=count, dimension=64) for count in (1, 9, 40)]
    expected = {len(each.entities): each.vectors.astype(np.float64) @ query for each in versions}
    wrong: list[str] = []
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec(dimension=64))
        (result,) = collection.upsert([versions[0]])
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                number = int(collection.search(query, 1).numbers[0])
                found = collection.candidates([number], compared_with=[query])
                similar = found.similarities([query])[:, 0]
                if len(found) != 1 or not np.allclose(similar, expected[len(similar) - 1], atol=1e-6):
                    wrong.append(f"{found.numbers} {len(similar)}")

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for turn in range(60):
            collection.upsert([versions[turn % 3]])
        stop.set()
        for reader in readers:
            reader.join()
    assert result.number == 1
    assert wrong == []
