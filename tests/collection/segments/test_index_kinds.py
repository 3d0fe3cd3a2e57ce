"""Which kind a segment gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from array_source import ArraySource, Heard

from regionsearch.collection.records import Favour, IndexWish
from regionsearch.collection.segments.approximate import ApproximateIndex
from regionsearch.collection.segments.building import build_index
from regionsearch.collection.segments.index_kinds import FLAT_ROWS, choose_kind, empty_index, kind_for
from regionsearch.evaluation.vector_generator import hard_vectors, queries, rows


def test_small_segments_are_read_whole_whatever_is_wished() -> None:
    for favour in ("memory", "speed"):
        assert choose_kind(FLAT_ROWS, 384, IndexWish(0.99, favour)).name == "flat-sq8"


def test_memory_is_spared_with_fewer_bits_unless_the_recall_is_beyond_them() -> None:
    assert choose_kind(1_000_000, 384, IndexWish(0.95, "memory")).name == "ivf-sq6"
    assert choose_kind(1_000_000, 384, IndexWish(0.99, "memory")).name == "ivf-sq8"
    assert choose_kind(1_000_000, 384, IndexWish(0.95, "speed")).name == "ivf-sq8"


@pytest.mark.parametrize("count", [FLAT_ROWS + 1, 64_000, 1_000_000, 20_000_000])
def test_lists_grow_with_the_root_and_never_outnumber_what_trains_them(count: int) -> None:
    for favour in ("memory", "speed"):
        kind = choose_kind(count, 384, IndexWish(0.95, favour))
        assert 1 < kind.lists < kind.training_rows <= count
        assert 1 <= kind.lists / count**0.5 <= 4


def test_every_kind_is_one_that_faiss_knows() -> None:
    for name in (
        "flat-sq8",
        "ivf-sq8",
        "ivf-sq6",
        "ivf-rabitq",
        "ivf-rabitq-sq8",
        "hnsw16-sq8",
        "hnsw32-sq8",
    ):
        assert empty_index(kind_for(name, 20_000), 48).d == 48


@pytest.mark.parametrize("favour", ["memory", "speed"])
def test_questions_far_from_every_row_find_as_many_as_near_ones(tmp_path: Path, favour: Favour) -> None:
    # As words are in a space of pictures.
    random = np.random.default_rng(5)
    vectors = np.concatenate(list(rows(hard_vectors(128), FLAT_ROWS + 2_000)))
    path = tmp_path / "index"
    built = build_index(path, ArraySource(vectors), IndexWish(0.95, favour), Heard())
    index = ApproximateIndex.open(path, built.parameters)
    shares = []
    for near in queries(hard_vectors(128), 150):
        away = random.standard_normal(128)
        query = (0.3 * near + 0.95 * away / np.linalg.norm(away)).astype(np.float32)
        right = np.argsort(-(vectors @ query))[:10]
        shares.append(np.isin(right, index.search(query, 10)[0]).mean())
    assert np.mean(shares) >= 0.95
