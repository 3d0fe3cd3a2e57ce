"""Which kind a segment gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from array_source import ArraySource, Heard

from regionsearch.collection.records import IndexWish
from regionsearch.collection.segments.building import build_index
from regionsearch.collection.segments.index_kinds import FLAT_ROWS, choose_kind, empty_index, kind_for


def test_small_segments_are_read_whole_whatever_is_wished() -> None:
    for favour in ("memory", "speed"):
        assert choose_kind(FLAT_ROWS, 384, IndexWish(0.99, favour)).name == "flat-sq8"


def test_memory_is_spared_with_one_bit_unless_the_recall_is_beyond_it() -> None:
    assert choose_kind(1_000_000, 384, IndexWish(0.95, "memory")).name == "ivf-rabitq"
    assert choose_kind(1_000_000, 384, IndexWish(0.99, "memory")).name == "ivf-sq8"
    assert choose_kind(1_000_000, 384, IndexWish(0.95, "speed")).name == "ivf-sq8"
    assert choose_kind(1_000_000, 64, IndexWish(0.95, "memory")).name == "ivf-sq8"


@pytest.mark.parametrize("rows", [FLAT_ROWS + 1, 64_000, 1_000_000, 20_000_000])
def test_lists_grow_with_the_root_and_never_outnumber_what_trains_them(rows: int) -> None:
    for favour in ("memory", "speed"):
        kind = choose_kind(rows, 384, IndexWish(0.95, favour))
        assert 1 < kind.lists < kind.training_rows <= rows
        assert 1 <= kind.lists / rows**0.5 <= 4


def test_every_kind_is_one_that_faiss_knows() -> None:
    for name in ("flat-sq8", "ivf-sq8", "ivf-rabitq", "ivf-rabitq-sq8", "hnsw16-sq8", "hnsw32-sq8"):
        assert empty_index(kind_for(name, 20_000), 48).d == 48


def test_rows_too_alike_for_one_bit_get_a_byte(tmp_path: Path) -> None:
    # Frames of a film that hardly moves: what tells two of them apart is far below one bit's error.
    random = np.random.default_rng(0)
    scenes = random.standard_normal((8, 1, 128))
    frames = (scenes + 0.01 * random.standard_normal((8, 1_500, 128))).reshape(-1, 128).astype(np.float32)
    frames /= np.linalg.norm(frames, axis=1, keepdims=True)
    assert len(frames) > FLAT_ROWS
    built = build_index(tmp_path / "film", ArraySource(frames), IndexWish(0.95, "memory"), Heard())
    assert built.kind == "ivf-sq8"
