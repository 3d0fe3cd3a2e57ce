"""Fresh rows against a sort over everything, also while images come and go."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from regionsearch.collection.index import image_numbers, ordinals
from regionsearch.collection.segments.entity_columns import EntityColumns
from regionsearch.collection.segments.fresh_rows import FreshRows
from regionsearch.collection.segments.view import Arm, View
from regionsearch.errors import ModelUnavailable

DIMENSION = 8
# Small whole numbers: inner products are exact in float32, so that equal really is equal.
STOCK = np.random.default_rng(0).integers(-2, 3, size=(12, DIMENSION)).astype(np.float32)
LABELS = ("dog", "cat", "tree", "Straße")


def row_ids(number: int, count: int) -> NDArray[np.int64]:
    """Of the first `count` entities of an image."""
    return number * 65_536 + np.arange(count, dtype=np.int64)


def image_row_id(number: int) -> int:
    """Of an image's own vector."""
    return number * 65_536 + 65_535


def columns(count: int, labels: tuple[str, ...] = ()) -> EntityColumns:
    """Of one image whose entities have the labels, all different from each other in their areas."""
    return EntityColumns(
        np.arange(count, dtype=np.float32) / 10,
        np.arange(count, dtype=np.float32) / 20,
        np.zeros((count, 4), np.float32) + np.arange(count, dtype=np.float32)[:, None],
        np.arange(count, dtype=np.int32) % len(labels) if labels else np.full(count, -1, np.int32),
        np.full(count, 1 if labels else 0, np.uint8),
        labels,
    )


def sorted_rows(
    rows: Mapping[int, NDArray[np.float32]], vector: NDArray[np.float32], k: int
) -> tuple[list[int], list[float]]:
    best = sorted(rows, key=lambda row: (-float(rows[row] @ vector), row))[:k]
    return best, [float(rows[row] @ vector) for row in best]


def entity_rows(images: Mapping[int, NDArray[np.float32]]) -> dict[int, NDArray[np.float32]]:
    return {
        row: vector
        for number, vectors in images.items()
        for row, vector in zip(row_ids(number, len(vectors) - 1).tolist(), vectors[1:], strict=True)
    }


def found(fresh: FreshRows, arm: Arm, vector: NDArray[np.float32], k: int) -> tuple[list[int], list[float]]:
    ids, similarities = View((fresh.part,), 1).search(arm, vector, k)
    return ids.tolist(), similarities.tolist()


@given(st.data())
def test_results_are_those_of_a_sort_with_ties_in_the_order_of_ids(data: st.DataObject) -> None:
    fresh = FreshRows(DIMENSION, block_rows=data.draw(st.integers(1, 9)))
    images: dict[int, NDArray[np.float32]] = {}
    labels: dict[int, list[str]] = {}
    number = 0
    for _ in range(data.draw(st.integers(1, 12))):
        doomed = data.draw(st.lists(st.sampled_from(sorted(images)), unique=True)) if images else []
        added, kept = [], []
        for _ in range(data.draw(st.integers(0, 2))):
            number += data.draw(st.integers(1, 3))
            picked = data.draw(st.lists(st.integers(0, 11), min_size=2, max_size=6))
            table = tuple(data.draw(st.lists(st.sampled_from(LABELS), min_size=1, unique=True)))
            added.append((number, STOCK[picked]))
            kept.append(columns(len(picked) - 1, table))
            labels[number] = [table[at % len(table)] for at in range(len(picked) - 1)]
        part = fresh.replace(np.array(doomed, np.int64), added, kept)
        images = {each: vectors for each, vectors in images.items() if each not in doomed} | dict(added)
        query = STOCK[data.draw(st.integers(0, 11))]
        rows = entity_rows(images)
        k = data.draw(st.integers(1, len(rows) + 2))
        assert found(fresh, "entities", query, k) == sorted_rows(rows, query, k)
        own = {image_row_id(each): vectors[0] for each, vectors in images.items()}
        assert found(fresh, "images", query, k) == sorted_rows(own, query, k)
        assert View((part,), 1).live_numbers().tolist() == sorted(images)
        assert (View((part,), 1).images, View((part,), 1).entities) == (len(images), len(rows))
        for place in np.flatnonzero(part.live).tolist():
            own_rows = part.entities.rows(slice(int(part.starts[place]), int(part.starts[place + 1])))
            assert [own_rows.label_table[code] for code in own_rows.labels] == labels[
                int(part.image_numbers[place])
            ]
            np.testing.assert_array_equal(own_rows.areas, columns(len(own_rows)).areas)
            np.testing.assert_array_equal(own_rows.boxes, columns(len(own_rows)).boxes)


@given(st.data())
def test_a_filter_never_lets_another_row_in_and_fills_the_answer(data: st.DataObject) -> None:
    fresh = FreshRows(DIMENSION, block_rows=data.draw(st.integers(1, 9)))
    counts = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=20))
    added = [(number, STOCK[np.arange(1 + count) % 12]) for number, count in enumerate(counts, 1)]
    part = fresh.replace(np.empty(0, np.int64), added, [columns(count) for count in counts])
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=sum(counts), max_size=sum(counts))), bool)
    rows = entity_rows(dict(added))
    allowed = {row: rows[row] for row, is_allowed in zip(sorted(rows), mask, strict=True) if is_allowed}
    for k in (1, 5, 100):
        places, similarities, _ = part.nearest("entities", STOCK[0], k, mask)
        assert (part.ids("entities", places).tolist(), similarities.tolist()) == sorted_rows(
            allowed, STOCK[0], k
        )


def test_what_was_published_stays_as_it_was() -> None:
    fresh = FreshRows(DIMENSION, block_rows=4)
    nothing = np.empty(0, np.int64)
    first = fresh.replace(nothing, [(1, STOCK[:4])], [columns(3, LABELS[:1])])
    fresh.replace(nothing, [(2, STOCK[4:9])], [columns(4, LABELS[1:3])])
    fresh.replace(np.array([1]), [(3, STOCK[:2])], [columns(1)])
    assert first.image_numbers.tolist() == [1]
    assert first.live.tolist() == [True]
    assert first.entities.label_table == LABELS[:1]
    assert [len(block) for block in first.entity_vectors] == [3]
    assert sorted(View((first,), 1).search("entities", STOCK[0], 9)[0].tolist()) == row_ids(1, 3).tolist()


def test_equal_vectors_score_equally_wherever_they_lie() -> None:
    random = np.random.default_rng(1)
    vectors = random.standard_normal((1, 640)).astype(np.float32).repeat(1_004, axis=0)
    fresh = FreshRows(640, block_rows=100)
    fresh.replace(np.empty(0, np.int64), [(1, vectors)], [columns(1_003)])
    ids, similarities = found(fresh, "entities", random.standard_normal(640).astype(np.float32), 500)
    assert ids == row_ids(1, 500).tolist()
    assert len(set(similarities)) == 1


def test_rows_that_are_mostly_dead_are_given_back() -> None:
    fresh = FreshRows(DIMENSION, block_rows=16)
    for number in range(1, 101):
        fresh.replace(np.empty(0, np.int64), [(number, STOCK[:5])], [columns(4)])
    assert len(fresh.part.entities) == 400
    part = fresh.replace(np.arange(1, 90), [], [])
    assert (len(part.entities), sum(map(len, part.entity_vectors))) == (44, 44)
    ids, _ = View((part,), 1).search("entities", STOCK[0], 100)
    assert sorted(set(image_numbers(ids).tolist())) == list(range(90, 101))
    assert set(ordinals(ids).tolist()) == {0, 1, 2, 3}


def test_image_numbers_must_grow() -> None:
    fresh = FreshRows(DIMENSION)
    nothing = np.empty(0, np.int64)
    fresh.replace(nothing, [(5, STOCK[:3])], [columns(2)])
    with pytest.raises(ValueError, match="ascend"):
        fresh.replace(nothing, [(5, STOCK[:3])], [columns(2)])
    with pytest.raises(ValueError, match="dimension"):
        fresh.replace(nothing, [(6, STOCK[:3])], [columns(3)])
    assert len(fresh.part.entities) == 2


def test_searches_beside_changes_see_each_image_once_and_whole() -> None:
    """Image 1 is replaced all the time; a search must find exactly one of its versions."""
    fresh = FreshRows(DIMENSION, block_rows=32)
    fresh.replace(np.empty(0, np.int64), [(1, STOCK[:4])], [columns(3)])
    stop = threading.Event()
    torn: list[list[int]] = []

    def search() -> None:
        while not stop.is_set():
            ids, _ = found(fresh, "entities", STOCK[0], 10)
            if len(ids) != 3 or len({each >> 16 for each in ids}) != 1:
                torn.append(ids)
                return

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(2, 1_000):
        fresh.replace(np.array([number - 1]), [(number, STOCK[:4])], [columns(3)])
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []


def test_without_faiss_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ModelUnavailable, match=r"regionsearch\[faiss-cpu\].*regionsearch\[faiss-gpu\]"):
        FreshRows(DIMENSION)
