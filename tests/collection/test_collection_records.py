"""What a collection takes, what it gives back, and what it says of a record that is damaged."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_images import DIMENSION, WIDTH, assert_same_image, encoded, record, spec, unit_vectors

from regionsearch.collection import Collection, DataDirectory, ImageRecord
from regionsearch.collection.record_layout import decode, verify
from regionsearch.entities import Entities
from regionsearch.errors import DataLoss, ImageNotFound, InvalidRecord, InvalidRequest
from regionsearch.regions import Mask


@pytest.fixture
def collection(tmp_path: Path) -> Any:
    with DataDirectory(tmp_path / "data", "write") as directory:
        yield directory.create_collection(spec())


def test_every_kind_of_record_comes_back_as_it_was_given(collection: Collection) -> None:
    random = np.random.default_rng(0)
    tall = Mask.from_array(random.random((3, 70_000)) < 0.5)
    large = Mask.from_array(np.arange(70_000 * 3).reshape(3, 70_000) > 70_000 * 2.5)
    outlines = Entities.from_masks([tall, large, Mask.full(3, 70_000)], np.array([0, 0.5, 1], np.float32))
    wide = record(random, "wide", entities=3)
    records = [
        record(random, "plain"),
        record(random, "x" * 480, entities=200),
        record(random, "größe/日本 ''\"%.jpg", payload={}, content_hash="", pixels=b""),
        ImageRecord(
            image_id="wide",
            width=70_000,
            height=3,
            entities=outlines,
            vectors=wide.vectors,
            pixels=b"\0" * 9,
        ),
    ]
    results = collection.upsert(records)
    assert [result.image_id for result in results] == [each.image_id for each in records]
    for each in records:
        stored = collection.get(each.image_id, pixels=True)
        assert_same_image(stored, each)
        assert stored.pixels == each.pixels == collection.pixels(each.image_id)
        assert stored.updated.endswith("Z")
        assert collection.get(each.image_id).pixels is None


BAD_IDS = ["", "x" * 481, "ä" * 241, "a\nb", "a\x00", "\x7f", "\ud800", 7]
BAD_FIELDS: list[tuple[str, dict[str, Any]]] = [
    ("width", {"width": 0}),
    ("height", {"height": 2.5}),
    ("mask", {"width": WIDTH + 1}),
    ("content_hash", {"content_hash": "abc"}),
    ("pixels", {"pixels": "text"}),
    ("vectors are float64", {"vectors": np.ones((3, DIMENSION))}),
    ("vectors have shape", {"vectors": np.ones((4, DIMENSION), np.float32)}),
    ("vectors have shape", {"vectors": np.ones((3, DIMENSION + 1), np.float32)}),
    ("not finite", {"vectors": np.full((3, DIMENSION), np.nan, np.float32)}),
    (r"vectors\[2\] has length 0", {"vectors": np.eye(3, DIMENSION, -1, dtype=np.float32)[::-1]}),
    ("vectors are list", {"vectors": [[1.0]]}),
    ("payload is a list", {"payload": [1]}),
    (r"payload\.a is nan", {"payload": {"a": float("nan")}}),
    (r"payload\.a\[1\] is inf", {"payload": {"a": [1, float("inf")]}}),
    ("key 1, which is not text", {"payload": {"a": {1: 2}}}),
    (r"payload\.a is a bytes", {"payload": {"a": b""}}),
    ("payload has 65.* limit is 65536", {"payload": {"a": "x" * 65_536}}),
    ("lone surrogate", {"payload": {"a": "\ud800"}}),
    (r"payload\.a\[0\] is an integer", {"payload": {"a": [10**5_000]}}),
]


@pytest.mark.parametrize(("message", "fields"), BAD_FIELDS)
def test_a_record_that_does_not_fit_is_refused_with_image_and_field(
    collection: Collection, message: str, fields: dict[str, Any]
) -> None:
    random = np.random.default_rng(0)
    with pytest.raises(
        InvalidRecord, match=f"image 'bad one': .*{message}|image 'bad one': {message}"
    ) as caught:
        collection.upsert([record(random, "good"), record(random, "bad one", entities=2, **fields)])
    # Another width makes the masks those of another image: they are what does not fit.
    (given,) = fields
    assert (caught.value.field or "").startswith("entities" if message == "mask" else given)
    assert collection.stats.images == 0, "all or none"


@pytest.mark.parametrize("image_id", BAD_IDS)
def test_an_id_that_cannot_be_kept_is_refused_and_found_nowhere(
    collection: Collection, image_id: Any
) -> None:
    random = np.random.default_rng(0)
    with pytest.raises(InvalidRecord, match="image_id"):
        collection.upsert([record(random, image_id)])
    if isinstance(image_id, str):
        assert not collection.contains(image_id)
        assert collection.delete([image_id]) == 0
        with pytest.raises(ImageNotFound):
            collection.get(image_id)


def test_a_collection_that_keeps_no_pixels_refuses_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with DataDirectory(tmp_path / "data", "write") as directory:
        bare = directory.create_collection(spec(pixels="none"))
        with pytest.raises(InvalidRecord, match="keeps none"):
            bare.upsert([record(random, "a", pixels=b"jpeg")])
        bare.upsert([record(random, "a")])
        assert bare.pixels("a") is None


def test_the_last_of_equal_ids_in_one_call_wins(collection: Collection) -> None:
    random = np.random.default_rng(0)
    first, other, last = (record(random, image_id) for image_id in ("a", "b", "a"))
    results = collection.upsert([first, other, last])
    assert results[0] is results[2]
    assert (results[0].version, results[0].created) == (1, True)
    assert_same_image(collection.get("a"), last)
    assert collection.stats.images == 2


def test_payloads_and_backgrounds_survive_as_json(collection: Collection) -> None:
    payload = {"n": 2**70, "f": 0.1, "t": True, "none": None, "deep": {"list": [1, [2, {"x": "ü"}]]}}
    collection.upsert([record(np.random.default_rng(0), "a", payload=payload)])
    assert collection.get("a").payload == payload
    assert collection.background() is None
    collection.set_background({"version": "1", "mean": [0.25, -1e-9]})
    assert collection.background() == {"version": "1", "mean": [0.25, -1e-9]}
    with pytest.raises(InvalidRequest, match="background"):
        collection.set_background({"mean": float("nan")})
    assert collection.background() == {"version": "1", "mean": [0.25, -1e-9]}


def test_every_flipped_bit_of_a_record_is_noticed() -> None:
    random = np.random.default_rng(0)
    header, body = encoded(record(random, "a", entities=2))
    key = bytes(12)
    value = header.pack(key) + body
    assert verify(value, key) == header
    assert decode(value, key).image_id == "a"
    with pytest.raises(DataLoss):
        verify(value, b"another row!")
    for position in range(len(value)):
        damaged = bytearray(value)
        damaged[position] ^= 1 << int(random.integers(8))
        with pytest.raises(DataLoss):
            verify(bytes(damaged), key)
    for length in range(0, len(value), 7):
        with pytest.raises(DataLoss):
            verify(value[:length], key)


def flip_a_bit(directory: Path, where: bytes) -> None:
    """Damages what is stored on the disk, at the first place that has these bytes."""
    data = directory / "catalog" / "data.mdb"
    raw = bytearray(data.read_bytes())
    raw[raw.index(where) + 3] ^= 1
    data.write_bytes(raw)


def test_a_damaged_record_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    given = [record(random, f"image {letter}", entities=3) for letter in "abc"]
    with DataDirectory(tmp_path / "data", "write") as directory:
        directory.create_collection(spec()).upsert(given)
    flip_a_bit(tmp_path / "data", given[1].vectors[2].tobytes())
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.collection("photos")
        with pytest.raises(DataLoss, match=r"image 'image b' \(number 2\) of collection 'photos'"):
            collection.get("image b")
        assert collection.find_content(given[1].content_hash) is None
        assert not collection.is_stored("image b", given[1].content_hash)
        assert collection.is_stored("image c", given[2].content_hash)
        vector = unit_vectors(random, 1)[0]
        assert set(collection.search(vector, 100).numbers.tolist()) == {1, 3}
        assert_same_image(collection.get("image c"), given[2])
        collection.upsert([given[1]])  # indexed again
        assert_same_image(collection.get("image b"), given[1])
        assert collection.is_stored("image b", given[1].content_hash)
        assert set(collection.search(vector, 100).numbers.tolist()) == {1, 3, 4}


def test_of_equal_images_a_sound_one_is_found_with_its_pixels(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    first = record(random, "first", pixels=b"kept of the first")
    second = replace(first, image_id="second", pixels=b"kept of the second")
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec())
        collection.upsert([first, second])
        found = collection.find_content(first.content_hash, pixels=True)
        assert found is not None
        assert found.pixels == first.pixels
    flip_a_bit(tmp_path / "data", b"kept of the first")
    with DataDirectory(tmp_path / "data", "read") as directory:
        collection = directory.collection("photos")
        assert not collection.is_stored("first", first.content_hash)
        found = collection.find_content(first.content_hash, pixels=True)
        assert found is not None
        assert (found.image_id, found.pixels) == ("second", second.pixels)


def test_pages_stay_in_step_while_writes_go_on(collection: Collection) -> None:
    random = np.random.default_rng(0)
    stable = [f"stable {number:03}" for number in range(60)]
    collection.upsert([record(random, image_id, entities=1) for image_id in stable])
    seen: list[str] = []
    token = ""
    turn = 0
    while True:
        page, token = collection.list(7, token)
        seen += [listing.image_id for listing in page if listing.image_id.startswith("stable")]
        if not token:
            break
        turn += 1
        last = page[-1].image_id
        collection.upsert([record(random, f"{last} twin", entities=1), record(random, "a first", entities=1)])
        if not last.startswith("stable") or last.endswith("twin"):
            collection.delete([last])  # the token's own image
    assert turn > 8
    assert [image_id for image_id in seen if not image_id.endswith("twin")] == stable


def test_page_tokens_of_other_listings_are_refused(collection: Collection) -> None:
    random = np.random.default_rng(0)
    collection.upsert([record(random, f"a{number}") for number in range(5)])
    _, token = collection.list(2)
    _, prefixed = collection.list(2, prefix="a")
    for bad, prefix in [
        ("rubbish", ""),
        ("ä", ""),
        (token[:-4], ""),
        (token, "a"),
        (prefixed, ""),
        ("AAAA", ""),
    ]:
        with pytest.raises(InvalidRequest, match="page token"):
            collection.list(2, bad, prefix)
    for size in (0, -1, 1_001):
        with pytest.raises(InvalidRequest, match="page_size"):
            collection.list(size)


def test_a_page_token_that_was_made_up_is_refused_whatever_its_bytes(collection: Collection) -> None:
    last = b"\xff\xfe"
    check = zlib.crc32(b"photos/0/" + last)
    token = base64.urlsafe_b64encode(struct.pack("<I", check) + last).decode()
    with pytest.raises(InvalidRequest, match="page token"):
        collection.list(2, token)


def test_queries_that_do_not_fit_are_refused(collection: Collection) -> None:
    good = unit_vectors(np.random.default_rng(0), 1)[0]
    for vector, k in [
        (good[:-1], 1),
        (good[None], 1),
        (good * np.nan, 1),
        (good.astype(np.int64), 1),
        (good, 0),
    ]:
        for search in (collection.search, collection.search_images):
            with pytest.raises(InvalidRequest):
                search(vector, k)
    assert len(collection.search(good, 3).numbers) == 0


def test_candidates_come_in_the_order_asked_and_outlive_later_answers(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    # Large enough (2.5 MB) for memory that is used again.
    given = {f"{number}": record(random, f"{number}", entities=30, dimension=512) for number in range(40)}
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec(dimension=512))
        results = collection.upsert(list(given.values()))
        numbers = [result.number for result in results][::-1]
        held = collection.candidates([*numbers, 10**9, numbers[0]])
        assert [each.number for each in held] == numbers
        for _ in range(3):
            collection.candidates(numbers[::2])
        assert len(collection.candidates([])) == 0
    for each in held:  # also after the directory was closed
        entities = given[each.image_id].entities
        np.testing.assert_array_equal(each.vectors, given[each.image_id].vectors)
        np.testing.assert_array_equal(each.boxes, entities.boxes)
        np.testing.assert_array_equal(each.areas, entities.areas)
        np.testing.assert_array_equal(each.objectness, entities.objectness)


def test_a_replaced_image_is_a_candidate_as_it_is_now_and_gone_under_its_old_number(
    collection: Collection,
) -> None:
    random = np.random.default_rng(0)
    (old,) = collection.upsert([record(random, "a", entities=4)])
    now = record(random, "a", entities=1)
    (new,) = collection.upsert([now])
    (candidate,) = collection.candidates([old.number, new.number])
    assert (candidate.number, candidate.image_id) == (new.number, "a")
    np.testing.assert_array_equal(candidate.vectors, now.vectors)
    gone, found = collection.records([old.number, new.number])
    assert gone is None
    assert found is not None
    assert_same_image(found, now)
    collection.delete(["a"])
    assert len(collection.candidates([old.number, new.number])) == 0


def test_samples_are_seeded_and_without_repetition(collection: Collection) -> None:
    random = np.random.default_rng(0)
    collection.upsert([record(random, f"{number}", entities=1) for number in range(50)])
    first = collection.sample_numbers(20, 5)
    assert first.tolist() == collection.sample_numbers(20, 5).tolist()
    assert first.tolist() != collection.sample_numbers(20, 6).tolist()
    assert len(set(first.tolist())) == 20
    assert sorted(collection.sample_numbers(500, 1).tolist()) == list(range(1, 51))
