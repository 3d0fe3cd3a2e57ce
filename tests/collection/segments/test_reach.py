"""How many lists a question probes."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from array_source import ArraySource, Heard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from regionsearch.collection.inner_products import load_faiss
from regionsearch.collection.segments.approximate import ApproximateIndex
from regionsearch.collection.segments.building import build_kind
from regionsearch.collection.segments.coarse import Lists
from regionsearch.collection.segments.index_kinds import KindName, kind_for, search_parameters
from regionsearch.collection.segments.reach import Reach, Reaches, lists_within, nearest_lists
from regionsearch.evaluation.vector_generator import hard_vectors, queries, rows

REACHES = Reaches(Reach(0.8, 0.2, 1.0), Reach(0.3, 0.6, 3.0), 2.0)


def test_far_questions_reach_further_and_hand_on_more() -> None:
    near, between, far = (REACHES.of(best) for best in (0.9, 0.6, 0.1))
    assert (near.level, near.spare) == (0.2, 1.0)
    assert (far.level, far.spare) == (0.6, 3.0)
    assert near.level < between.level < far.level


def test_what_lies_half_way_counts_as_far_rather_than_as_near() -> None:
    assert REACHES.of(0.55).level > (REACHES.near.level + REACHES.far.level) / 2


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_the_nearer_a_question_the_smaller_the_share(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert REACHES.of(low).level >= REACHES.of(high).level


def test_questions_that_cannot_be_told_apart_are_all_far() -> None:
    same = Reaches(Reach(0.5, 0.1, 1.0), Reach(0.5, 0.7, 2.0))
    assert same.of(0.9).level == 0.7


def test_lists_for_more_rows_follow_a_power_through_what_was_measured() -> None:
    assert REACHES.times(1) == REACHES.times(10) == 1
    assert REACHES.times(50) == pytest.approx(2)
    assert REACHES.times(250) == pytest.approx(4)


def test_reaches_come_back_from_what_is_stored_of_them() -> None:
    assert Reaches.from_parameters(REACHES.parameters()) == REACHES


@given(
    arrays(np.float32, st.integers(1, 30), elements=st.floats(-1, 1, width=32)),
    st.floats(0, 3),
    st.floats(-1, 1),
)
def test_the_best_list_is_always_probed_and_all_within_reach_are(
    similarities: NDArray[np.float32], level: float, typical: float
) -> None:
    same = Reach(typical, level)
    reach = Reaches(same, same).of(float(similarities.max()))
    count = lists_within(similarities, reach)
    probed = nearest_lists(similarities, count)
    assert len(set(probed.tolist())) == count >= 1
    assert probed[0] == similarities.argmax() or similarities[probed[0]] == similarities.max()
    left_out = np.delete(similarities, probed)
    assert (left_out <= similarities[probed].min()).all()
    assert (similarities.max() - left_out > level * abs(reach.similarity) - 1e-6).all()


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    return np.concatenate(list(rows(hard_vectors(64), 4_000)))


@pytest.mark.parametrize("kind", ["ivf-sq8", "ivf-sq6"])
def test_lists_that_are_named_answer_as_if_faiss_had_found_them(
    vectors: NDArray[np.float32], kind: KindName, tmp_path: Path
) -> None:
    faiss = load_faiss()
    build_kind(tmp_path / "index", ArraySource(vectors), kind_for(kind, len(vectors)), 0.95, Heard())
    index = faiss.read_index(str(tmp_path / "index"), faiss.IO_FLAG_MMAP_IFC)
    lists = Lists(index)
    allowed = np.random.default_rng(3).random(len(vectors)) < 0.4
    bits = np.packbits(allowed, bitorder="little")
    for number, query in enumerate(queries(hard_vectors(64), 40)):
        selector = faiss.IDSelectorBitmap(bits) if number % 2 else None
        how = search_parameters(index, number + 1, selector)
        similarities = lists.similarities(query)
        probed = nearest_lists(similarities, number + 1)
        found, places = lists.search(query[None], 10, [probed], [similarities[probed]], how)
        expected, expected_places = index.search(query[None], 10, params=how)
        np.testing.assert_array_equal(places, expected_places)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_searches_of_several_threads_do_not_disturb_each_other(
    vectors: NDArray[np.float32], tmp_path: Path
) -> None:
    kind = kind_for("ivf-sq8", len(vectors))
    built = build_kind(tmp_path / "index", ArraySource(vectors), kind, 0.95, Heard())
    index = ApproximateIndex.open(tmp_path / "index", built.parameters)
    asked = queries(hard_vectors(64), 60)
    masks = [
        np.random.default_rng(seed).random(len(vectors)) < share for seed, share in enumerate((1, 0.3, 0.01))
    ]
    bits = [np.packbits(mask, bitorder="little") for mask in masks]

    def answers(turn: int) -> list[list[int]]:
        chosen = [(turn + number) % 3 for number in range(len(asked))]
        return [
            index.search(query, 5 + which, allowed=bits[which])[0].tolist()
            for query, which in zip(asked, chosen, strict=True)
        ]

    expected = [answers(turn) for turn in range(3)]
    found: list[list[list[int]]] = [[] for _ in range(3)]

    def ask(turn: int) -> None:
        for _ in range(4):
            found[turn] = answers(turn)

    threads = [threading.Thread(target=ask, args=(turn,)) for turn in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_a_question_far_from_all_rows_probes_more_than_a_row_does(
    vectors: NDArray[np.float32], tmp_path: Path
) -> None:
    kind = kind_for("ivf-sq8", len(vectors))
    built = build_kind(tmp_path / "index", ArraySource(vectors), kind, 0.95, Heard())
    near, far = built.parameters["near"], built.parameters["far"]
    assert near["similarity"] > far["similarity"]
    assert near["level"] < far["level"]
    assert min(built.parameters["recall"], built.parameters["far_recall"]) >= 0.95
