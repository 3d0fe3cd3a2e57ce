"""Exact search against a sort over everything, also while rows come and go."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from regionsearch.collection.exact_index import ExactIndex
from regionsearch.collection.index import image_numbers, ordinals, row_ids
from regionsearch.errors import ModelUnavailable

DIMENSION = 8
# Small whole numbers: inner products are exact in float32, so that equal really is equal.
STOCK = np.random.default_rng(0).integers(-2, 3, size=(12, DIMENSION)).astype(np.float32)


def sorted_rows(
    rows: dict[int, NDArray[np.float32]], vector: NDArray[np.float32], k: int
) -> tuple[list[int], list[float]]:
    best = sorted(rows, key=lambda row: (-float(rows[row] @ vector), row))[:k]
    return best, [float(rows[row] @ vector) for row in best]


@given(st.data())
def test_results_are_those_of_a_sort_with_ties_in_the_order_of_ids(data: st.DataObject) -> None:
    index = ExactIndex(DIMENSION, block_rows=data.draw(st.integers(1, 9)))
    rows: dict[int, NDArray[np.float32]] = {}
    number = 0
    for _ in range(data.draw(st.integers(1, 12))):
        live = sorted({row >> 16 for row in rows})
        doomed = data.draw(st.lists(st.sampled_from(live), unique=True)) if live else []
        number += data.draw(st.integers(1, 3))
        count = data.draw(st.integers(0, 6))
        ids = row_ids(number, count)
        vectors = STOCK[data.draw(st.lists(st.integers(0, 11), min_size=count, max_size=count))]
        index.replace(np.array(doomed, np.int64), ids, vectors.reshape(count, DIMENSION))
        rows = {row: vector for row, vector in rows.items() if row >> 16 not in doomed}
        rows.update(zip(ids.tolist(), vectors, strict=True))
        assert len(index) == len(rows)
        assert index.live_images().tolist() == sorted({row >> 16 for row in rows})
        query = STOCK[data.draw(st.integers(0, 11))]
        k = data.draw(st.integers(1, len(rows) + 2))
        found, similarities = index.search(query, k)
        assert (found.tolist(), similarities.tolist()) == sorted_rows(rows, query, k)


def test_equal_vectors_score_equally_wherever_they_lie() -> None:
    random = np.random.default_rng(1)
    vectors = random.standard_normal((1, 640)).astype(np.float32).repeat(1_003, axis=0)
    index = ExactIndex(640, block_rows=100)
    index.add(row_ids(1, 1_003), vectors)
    found, similarities = index.search(random.standard_normal(640).astype(np.float32), 500)
    assert found.tolist() == row_ids(1, 500).tolist()
    assert len(set(similarities.tolist())) == 1


def test_rows_that_are_mostly_dead_are_given_back() -> None:
    index = ExactIndex(DIMENSION, block_rows=16)
    for number in range(1, 101):
        index.add(row_ids(number, 4), STOCK[:4])
    assert index._snapshot.rows == 400
    index.delete(np.arange(1, 90))
    assert (index._snapshot.rows, len(index)) == (44, 44)
    found, _ = index.search(STOCK[0], 100)
    assert sorted(set(image_numbers(found).tolist())) == list(range(90, 101))
    assert set(ordinals(found).tolist()) == {0, 1, 2, 3}


def test_ids_must_grow() -> None:
    index = ExactIndex(DIMENSION)
    index.add(row_ids(5, 2), STOCK[:2])
    with pytest.raises(ValueError, match="ascend"):
        index.add(row_ids(5, 2), STOCK[:2])
    with pytest.raises(ValueError, match="dimension"):
        index.add(row_ids(6, 2), STOCK[:3])
    assert len(index) == 2


def test_searches_beside_changes_see_each_image_once_and_whole() -> None:
    """Image 0 of each pair is replaced all the time; a search must find exactly one of its versions."""
    index = ExactIndex(DIMENSION, block_rows=32)
    index.add(row_ids(1, 3), STOCK[:3])
    current = 1
    stop = threading.Event()
    torn: list[list[int]] = []

    def search() -> None:
        while not stop.is_set():
            found, _ = index.search(STOCK[0], 10)
            if len(found) != 3 or len(set(image_numbers(found).tolist())) != 1:
                torn.append(found.tolist())
                return

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(2, 2_000):
        index.replace(np.array([current]), row_ids(number, 3), STOCK[:3])
        current = number
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []


def test_without_faiss_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ModelUnavailable, match=r"regionsearch\[faiss-cpu\].*regionsearch\[faiss-gpu\]"):
        ExactIndex(DIMENSION)
