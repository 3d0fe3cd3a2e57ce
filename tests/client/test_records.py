"""Records become messages that a server has room for, and keys that tell the messages apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.client import Record
from regionsearch.client.records import BATCH_RECORDS, record_message, record_messages
from regionsearch.errors import InvalidRecord, InvalidRegion, InvalidRequest, RegionSearchError
from regionsearch.regions import Mask
from regionsearch.v1 import types_pb2

MOST = 2_000
"""Bytes of a message."""


def record(number: int, bytes_more: int = 0) -> Record:
    return Record(str(number), np.ones(4), 10, 10, payload={"x": "y" * bytes_more})


@given(st.lists(st.sampled_from([0, 0, 0, 300, MOST // 3, MOST + 1]), max_size=12))
def test_messages_hold_all_records_in_order_and_no_more_bytes_than_they_may(sizes: list[int]) -> None:
    records = [record(number, size) for number, size in enumerate(sizes)]
    messages = list(record_messages("c", records, "key", "buffered", repeat_name=False, most_bytes=MOST))
    assert [each.image_id for message in messages for each in message.records] == [
        str(number) for number in range(len(sizes))
    ]
    for message in messages:
        held = sum(each.ByteSize() for each in message.records)
        assert held <= MOST or len(message.records) == 1
        assert message.durability == types_pb2.DURABILITY_BUFFERED
    keys = [message.idempotency_key for message in messages]
    assert keys[:2] == ["key", "key/1"][: len(keys)]
    assert len(set(keys)) == len(keys)
    assert [message.collection for message in messages][:2] == ["c", ""][: len(messages)]


@pytest.mark.parametrize("key", ["k" * 128, "k" * 126, "é" * 64])
def test_keys_of_messages_are_no_longer_than_keys_may_be(key: str) -> None:
    records = [record(number, MOST) for number in range(20)]
    messages = list(record_messages("c", records, key, "synced", repeat_name=True, most_bytes=MOST))
    keys = [message.idempotency_key for message in messages]
    assert keys[0] == key
    assert len(set(keys)) == 20
    assert max(len(each.encode()) for each in keys) <= 128


def test_a_message_has_a_bounded_number_of_records() -> None:
    messages = list(record_messages("c", map(record, range(600)), "", "synced", repeat_name=True))
    assert [len(message.records) for message in messages] == [BATCH_RECORDS, BATCH_RECORDS, 88]
    assert {(message.collection, message.idempotency_key) for message in messages} == {("c", "")}


def test_a_record_that_cannot_be_sent_is_named_by_its_image_and_its_place() -> None:
    records = [record(0), Record("2024/a.jpg", np.ones(4), 10, 10, boxes=[[1, 2, 3]])]
    with pytest.raises(InvalidRecord) as caught:
        list(record_messages("c", records, "", "synced", repeat_name=True))
    assert str(caught.value) == "image '2024/a.jpg': boxes have shape (1, 3); they are (n, 4)"
    assert caught.value.field == "records[1].boxes"


@pytest.mark.parametrize("payload", [[1], "year", 3])
def test_a_payload_that_is_no_mapping_is_called_what_it_is(payload: Any) -> None:
    with pytest.raises(InvalidRecord, match=f"the payload is a {type(payload).__name__}, not a mapping"):
        record_message(Record("a", np.ones(4), 10, 10, payload=payload))


def test_arrays_and_masks_of_the_library_say_the_same() -> None:
    array = np.zeros((10, 12), np.bool_)
    array[2:5, 3:9] = True
    one = record_message(Record("i", [1.0, 0.0], 12, 10, masks=[array], labels=["dog"]))
    other = record_message(
        Record("i", np.array([[1, 0]]), 12, 10, masks=[Mask.from_array(array)], labels=["dog"])
    )
    assert one == other
    assert one.entities.masks[0] == Mask.from_array(array).to_coco()["counts"]
    assert np.frombuffer(one.vectors.packed, "<f4").tolist() == [1, 0]


def test_masks_say_how_large_the_image_is() -> None:
    message = record_message(Record("i", np.ones(4), masks=[np.ones((10, 12), np.bool_)]))
    assert (message.height, message.width) == (10, 12)


def test_boxes_count_as_the_masks_that_a_server_makes_of_them() -> None:
    wide = [
        Record(str(number), np.ones(4), 1_000_000, 2, boxes=[[0, 0, 1_000_000, 1]]) for number in range(12)
    ]
    messages = list(record_messages("c", wide, "", "synced", repeat_name=True))
    assert [len(message.records) for message in messages] == [4, 4, 4]


@pytest.mark.parametrize(
    ("said", "kind", "field"),
    [
        ({"vectors": np.ones((2, 2, 2))}, InvalidRecord, "records[0].vectors"),
        ({"vectors": ["a"]}, InvalidRecord, "records[0].vectors"),
        ({"boxes": [1, 2, 3, 4]}, InvalidRecord, "records[0].boxes"),
        ({"boxes": [[1, 2, 3]]}, InvalidRecord, "records[0].boxes"),
        ({"masks": [np.ones((3, 3))]}, InvalidRegion, "records[0].masks"),
        ({"masks": [np.ones((3, 3), np.bool_)]}, InvalidRecord, "records[0].masks"),
        # As many pixels, lying down.
        ({"masks": [np.ones((20, 5), np.bool_)]}, InvalidRecord, "records[0].masks"),
        (
            {"width": None, "masks": [np.ones((10, 10), np.bool_), np.ones((10, 9), np.bool_)]},
            InvalidRecord,
            "records[0].masks",
        ),
        ({"objectness": [1.0]}, InvalidRecord, "records[0].boxes"),
        ({"boxes": [[0, 0, 1, 1]], "labels": [3]}, InvalidRequest, "records[0].labels"),
        ({"width": -1}, InvalidRequest, "records[0].width"),
        ({"payload": {"x": float("nan")}}, InvalidRecord, "records[0].payload_json"),
        ({"if_version": -1}, InvalidRequest, "records[0].if_version"),
        ({"if_version": "1"}, InvalidRequest, "records[0].if_version"),
    ],
)
def test_what_no_message_can_carry_is_refused_before_anything_is_sent(
    said: dict[str, Any], kind: type[RegionSearchError], field: str
) -> None:
    fields: dict[str, Any] = {"image_id": "i", "vectors": np.ones(4), "width": 10, "height": 10, **said}
    with pytest.raises(kind) as caught:
        list(record_messages("c", [Record(**fields)], "", "synced", repeat_name=True))
    assert (type(caught.value), caught.value.field) == (kind, field)
