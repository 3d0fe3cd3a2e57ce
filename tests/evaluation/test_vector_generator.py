"""Vectors to measure indexes with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.vector_generator import (
    BLOCK_ROWS,
    easy_vectors,
    hard_vectors,
    queries,
    repeated_with_noise,
    rows,
)

SETS = {"hard": hard_vectors, "easy": easy_vectors}


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_the_same_each_time_and_more_rows_begin_with_the_same(name: str) -> None:
    few = np.concatenate(list(rows(SETS[name](24), 100)))
    more = np.concatenate(list(rows(SETS[name](24), BLOCK_ROWS + 5)))
    assert more.shape == (BLOCK_ROWS + 5, 24)
    np.testing.assert_array_equal(few, more[:100])


@pytest.mark.parametrize("name", SETS)
def test_vectors_have_unit_length_and_questions_are_not_rows(name: str) -> None:
    vectors = np.concatenate(list(rows(SETS[name](24), 5_000)))
    asked = queries(SETS[name](24), 50)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (asked @ vectors.T).max() < 0.99999


def test_copies_of_real_vectors_have_cosine_nine_tenths_to_their_origin() -> None:
    origins = np.random.default_rng(0).standard_normal((5, 400)).astype(np.float32)
    copies = np.concatenate(list(rows(repeated_with_noise(origins), 2_000)))
    unit = origins / np.linalg.norm(origins, axis=1, keepdims=True)
    assert (copies @ unit.T).max(axis=1).mean() == pytest.approx(0.9, abs=0.002)


def test_the_hard_set_has_clusters_of_power_law_sizes_and_a_decaying_spectrum() -> None:
    hard = hard_vectors(64)
    sizes = np.diff(hard.shares, prepend=0)
    assert sizes[0] / sizes[99] == pytest.approx(100)
    variances = np.linalg.eigvalsh(np.cov(np.concatenate(list(rows(hard, 8_000))).T))[::-1]
    assert variances[:8].sum() > 0.5 * variances.sum()


def test_its_clusters_overlap_where_those_of_the_easy_set_do_not() -> None:
    def astray(name: str) -> float:
        """Share of the rows of cluster 300 that are nearer to another cluster's centre."""
        vectors = SETS[name](384)
        one = replace(vectors, shares=np.repeat([0.0, 1.0], [300, len(vectors.shares) - 300]))
        nearest = np.argmax(queries(one, 500) @ vectors.centres.T, axis=1)
        return float((nearest != 300).mean())

    assert astray("hard") > 0.1
    assert astray("easy") == 0


def test_origins_that_are_no_vectors_are_refused() -> None:
    for origins in (np.ones(3), np.ones((2, 2), int), np.zeros((2, 2)), np.full((2, 2), np.nan)):
        with pytest.raises(InvalidRequest):
            repeated_with_noise(origins)
