"""What a segment's index answers, against reading every vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from array_source import ArraySource, Heard
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from regionsearch.collection.records import IndexWish
from regionsearch.collection.segments.approximate import ApproximateIndex
from regionsearch.collection.segments.building import build_index, build_kind, centroids_of
from regionsearch.collection.segments.index_kinds import KindName, kind_for
from regionsearch.errors import Cancelled
from regionsearch.evaluation.vector_generator import easy_vectors, hard_vectors, queries, rows

DIMENSION = 64
FILTERED: tuple[KindName, ...] = ("flat-sq8", "ivf-sq8", "ivf-sq6", "ivf-rabitq", "ivf-rabitq-sq8")
KINDS: tuple[KindName, ...] = (*FILTERED, "hnsw16-sq8")


def vectors_of(count: int) -> NDArray[np.float32]:
    return np.concatenate([np.empty((0, DIMENSION), np.float32), *rows(hard_vectors(DIMENSION), count)])


def opened(folder: Path, kind: KindName, vectors: NDArray[np.float32]) -> ApproximateIndex:
    path = folder / f"{kind}-{len(vectors)}.faiss"
    built = build_kind(path, ArraySource(vectors), kind_for(kind, len(vectors)), 0.95, Heard())
    assert built.bytes == path.stat().st_size
    return ApproximateIndex.open(path, built.parameters)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("indexes")


@pytest.fixture(scope="module")
def some(folder: Path) -> dict[KindName, ApproximateIndex]:
    """An index of each kind over the same 3,000 rows."""
    vectors = vectors_of(3_000)
    return {kind: opened(folder, kind, vectors) for kind in KINDS}


def best_places(vectors: NDArray[np.float32], query: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    return np.argsort(-(vectors @ query), kind="stable")[:k]


def recall(
    index: ApproximateIndex, vectors: NDArray[np.float32], asked: NDArray[np.float32], mask: NDArray[np.bool_]
) -> float:
    allowed = np.flatnonzero(mask)
    bitmap = None if mask.all() else np.packbits(mask, bitorder="little")
    shares = []
    for query in asked:
        right = allowed[best_places(vectors[allowed], query, 10)]
        shares.append(np.isin(right, index.search(query, 10, allowed=bitmap)[0]).mean())
    return float(np.mean(shares))


@pytest.mark.parametrize("kind", KINDS)
def test_nineteen_of_twenty_true_neighbours_are_found(
    some: dict[KindName, ApproximateIndex], kind: KindName
) -> None:
    vectors = vectors_of(3_000)
    asked = queries(hard_vectors(DIMENSION), 200)
    assert recall(some[kind], vectors, asked, np.ones(3_000, bool)) >= 0.95


@pytest.mark.parametrize("kind", FILTERED)
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
def test_as_many_are_found_when_few_rows_are_allowed(
    some: dict[KindName, ApproximateIndex], kind: KindName, share: float
) -> None:
    vectors = vectors_of(3_000)
    asked = queries(hard_vectors(DIMENSION), 100)
    mask = np.random.default_rng(1).random(3_000) < share
    assert recall(some[kind], vectors, asked, mask) >= 0.95


def test_where_the_allowed_rows_lie_beyond_the_near_lists_they_are_found(folder: Path) -> None:
    # Tight clusters of some 12 rows, too few of which are allowed: other answers lie in clusters far away.
    vectors = np.concatenate(list(rows(easy_vectors(DIMENSION), 12_000)))
    index = opened(folder, "ivf-sq6", vectors)
    asked = queries(easy_vectors(DIMENSION), 60)
    for share in (0.2, 0.05):
        assert recall(index, vectors, asked, np.random.default_rng(1).random(12_000) < share) >= 0.95


@settings(max_examples=40)
@given(data=st.data(), kind=st.sampled_from(FILTERED), k=st.integers(1, 400), seed=st.integers(0, 2**20))
def test_no_row_that_is_left_out_is_answered_and_no_answer_is_short(
    some: dict[KindName, ApproximateIndex], data: st.DataObject, kind: KindName, k: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    share = data.draw(st.sampled_from([0.0, 0.0005, 0.003, 0.02, 0.3, 0.9, 1.0]))
    # Near each other, as what a filter leaves often is: nothing tells the lists to probe where they are.
    vectors = vectors_of(3_000)
    towards = vectors @ vectors[random.integers(3_000)]
    mask = towards >= np.quantile(towards, 1 - share) if share else np.zeros(3_000, bool)
    query = vectors_of(1)[0] if data.draw(st.booleans()) else -vectors[random.integers(3_000)]
    count = int(mask.sum())
    said = data.draw(st.sampled_from([None, count]))
    bitmap = np.packbits(mask, bitorder="little")
    places, similarities = some[kind].search(query, k, allowed=bitmap, allowed_count=said)
    assert mask[places].all()
    assert len(set(places.tolist())) == len(places) >= min(k, count)
    assert (np.diff(similarities) <= 0).all()


@pytest.mark.parametrize("kind", FILTERED)
@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_very_few_rows_are_all_found(folder: Path, kind: KindName, count: int) -> None:
    index = opened(folder, kind, vectors_of(count))
    assert sorted(index.search(vectors_of(1)[0], 50)[0]) == list(range(count))


def test_an_index_of_no_rows_answers_with_none(folder: Path) -> None:
    built = build_index(folder / "none", ArraySource(vectors_of(0)), IndexWish(), Heard())
    places, similarities = ApproximateIndex.open(folder / "none", built.parameters).search(
        np.ones(DIMENSION, np.float32), 10
    )
    assert len(places) == len(similarities) == 0


@pytest.mark.parametrize("kind", FILTERED)
def test_equal_vectors_are_all_found(folder: Path, kind: KindName) -> None:
    same = np.repeat(vectors_of(1), 300, axis=0)
    assert len(opened(folder, kind, same).search(same[0], 100)[0]) >= 100


def test_estimates_of_a_byte_a_coordinate_are_close_to_the_cosine(
    some: dict[KindName, ApproximateIndex],
) -> None:
    vectors = vectors_of(3_000)
    query = queries(hard_vectors(DIMENSION), 1)[0]
    for kind in ("flat-sq8", "ivf-sq8", "ivf-rabitq-sq8"):
        places, similarities = some[kind].search(query, 10)
        np.testing.assert_allclose(similarities, vectors[places] @ query, atol=0.01)


def test_a_mapped_index_answers_as_a_loaded_one(folder: Path) -> None:
    import faiss

    vectors = vectors_of(2_000)
    for kind in FILTERED:
        path = folder / f"loaded-{kind}"
        built = build_kind(path, ArraySource(vectors), kind_for(kind, 2_000), 0.95, Heard())
        mapped = ApproximateIndex.open(path, built.parameters)
        loaded = ApproximateIndex(
            faiss.read_index(str(path)), built.parameters, path.stat().st_size, gpu=False
        )
        for query in queries(hard_vectors(DIMENSION), 20):
            np.testing.assert_array_equal(mapped.search(query, 10)[0], loaded.search(query, 10)[0])


def test_progress_rises_and_a_build_that_is_told_to_stop_does(tmp_path: Path) -> None:
    heard = Heard()
    vectors = vectors_of(3_000)
    build_kind(tmp_path / "whole", ArraySource(vectors), kind_for("ivf-rabitq", 3_000), 0.95, heard)
    assert heard.done == sorted(heard.done)
    assert 0 <= heard.done[0] <= heard.done[-1] <= 1

    class Stopping(Heard):
        def breathe(self, done: float) -> None:
            if done > 0.4:
                raise Cancelled("no longer wanted")

    with pytest.raises(Cancelled):
        build_kind(tmp_path / "cut", ArraySource(vectors), kind_for("ivf-sq8", 3_000), 0.95, Stopping())
    assert not (tmp_path / "cut").exists()


def test_a_merge_can_start_from_the_centroids_of_a_part(tmp_path: Path) -> None:
    vectors = vectors_of(4_000)
    build_kind(tmp_path / "part", ArraySource(vectors[:2_000]), kind_for("ivf-rabitq", 2_000), 0.95, Heard())
    start = centroids_of(tmp_path / "part")
    assert start is not None
    assert start.shape == (kind_for("ivf-rabitq", 2_000).lists, DIMENSION)
    path = tmp_path / "merged"
    kind = kind_for("ivf-rabitq", 4_000)
    built = build_kind(path, ArraySource(vectors), kind, 0.95, Heard(), start=start)
    asked = queries(hard_vectors(DIMENSION), 100)
    assert recall(ApproximateIndex.open(path, built.parameters), vectors, asked, np.ones(4_000, bool)) >= 0.95


def test_a_source_that_gives_other_rows_than_it_said_is_refused(tmp_path: Path) -> None:
    class Short(ArraySource):
        @property
        def rows(self) -> int:
            return len(self.array) + 1

        def sample(self, count: int, seed: int) -> NDArray[np.float32]:
            return self.array[:count]

    with pytest.raises(ValueError, match="said 101 rows and gave 100"):
        build_index(tmp_path / "short", Short(vectors_of(100)), IndexWish(), Heard())
