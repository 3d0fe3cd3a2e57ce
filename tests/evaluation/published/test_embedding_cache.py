"""Vectors on disk survive whatever ends the process that wrote them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from regionsearch.errors import FailedPrecondition, InvalidRequest
from regionsearch.evaluation.published.embedding_cache import HEADER, KEY_BYTES, EmbeddingCache
from regionsearch.fingerprint import Fingerprint

DIMENSION = 3
RECORD = KEY_BYTES + 4 * DIMENSION + 4
MODEL = Fingerprint("tiny:/somewhere", "abc", DIMENSION, 1)


def key(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "big")


def vectors(count: int) -> NDArray[np.float32]:
    return np.arange(count * DIMENSION, dtype=np.float32).reshape(count, DIMENSION)


def filled(folder: Path, count: int) -> Path:
    with EmbeddingCache(folder, MODEL) as cache:
        # In two parts, since a run appends batch by batch.
        cache.append([key(n) for n in range(count // 2)], vectors(count)[: count // 2])
        cache.append([key(n) for n in range(count // 2, count)], vectors(count)[count // 2 :])
        return cache.path


def check_known(cache: EmbeddingCache, numbers: list[int], of: int) -> None:
    assert [number for number in range(of) if key(number) in cache] == numbers
    rows = np.array([cache.row(key(number)) for number in numbers], dtype=np.int64)
    np.testing.assert_array_equal(cache.vectors(rows), vectors(of)[numbers])


def test_what_was_appended_is_found_again_by_another_run(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    with EmbeddingCache(tmp_path, MODEL) as cache:
        check_known(cache, [0, 1, 2, 3, 4], 5)
        assert cache.damaged == 0


@given(st.integers(0, HEADER + 4 * RECORD))
def test_a_file_cut_anywhere_keeps_its_whole_records_and_can_be_written_on(length: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = filled(Path(folder), 4)
        with path.open("r+b") as file:
            file.truncate(length)
        whole = max(0, length - HEADER) // RECORD
        with EmbeddingCache(Path(folder), MODEL) as cache:
            check_known(cache, list(range(whole)), 4)
            cache.append([key(n) for n in range(whole, 4)], vectors(4)[whole:])
        with EmbeddingCache(Path(folder), MODEL) as cache:
            check_known(cache, [0, 1, 2, 3], 4)


@given(st.integers(HEADER, HEADER + 4 * RECORD - 1), st.integers(1, 255))
def test_a_damaged_record_is_forgotten_and_the_others_are_not(place: int, change: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = filled(Path(folder), 4)
        content = bytearray(path.read_bytes())
        content[place] ^= change
        path.write_bytes(content)
        hurt = (place - HEADER) // RECORD
        with EmbeddingCache(Path(folder), MODEL) as cache:
            assert cache.damaged == 1
            check_known(cache, [number for number in range(4) if number != hurt], 4)
            cache.append([key(hurt)], vectors(4)[hurt : hurt + 1])
        with EmbeddingCache(Path(folder), MODEL) as cache:
            check_known(cache, [0, 1, 2, 3], 4)


@pytest.mark.parametrize(
    "other",
    [
        Fingerprint("other", "abc", DIMENSION, 1),
        Fingerprint("tiny:/somewhere", "abd", DIMENSION, 1),
        Fingerprint("tiny:/somewhere", "abc", DIMENSION + 1, 1),
        Fingerprint("tiny:/somewhere", "abc", DIMENSION, 2),
    ],
)
def test_another_model_never_sees_these_vectors(tmp_path: Path, other: Fingerprint) -> None:
    filled(tmp_path, 2)
    with EmbeddingCache(tmp_path, other) as cache:
        assert len(cache) == 0


def test_the_same_model_in_another_folder_does(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    with EmbeddingCache(tmp_path, Fingerprint("tiny:/moved", "abc", DIMENSION, 1)) as cache:
        check_known(cache, [0, 1], 2)


def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    with (
        EmbeddingCache(tmp_path, MODEL),
        pytest.raises(FailedPrecondition, match="another process"),
    ):
        EmbeddingCache(tmp_path, MODEL)


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = filled(tmp_path, 2)
    path.write_bytes(b"x" * 2 * HEADER)
    with pytest.raises(InvalidRequest, match="move it away"):
        EmbeddingCache(tmp_path, MODEL)
    assert path.read_bytes() == b"x" * 2 * HEADER


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match="cannot keep vectors"):
        EmbeddingCache(tmp_path / "file" / "below", MODEL)
