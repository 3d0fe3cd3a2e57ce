"""What `benchmarks.stored_precision` says of half precision."""

from __future__ import annotations

import numpy as np

from benchmarks import stored_precision


def test_half_precision_halves_the_bytes_and_loses_what_its_eleven_bits_leave_out() -> None:
    vectors = np.random.default_rng(0).standard_normal((8_000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    report = stored_precision.measured(vectors)
    assert report["bytes_a_vector"] == {"float32": 64, "float16": 32}
    # Each coordinate is off by 2⁻¹¹ of itself at most, and so is the sum of the products' sizes.
    assert 0 < report["loss"]["mean_change_of_a_cosine"] < report["loss"]["largest_change_of_a_cosine"]
    assert report["loss"]["largest_change_of_a_cosine"] <= 2**-11
    assert 0.98 <= report["loss"]["recall_at_10"] <= 1
    assert all(row["float32_ms"] > 0 and row["ratio"] > 0 for row in report["time"].values())


def test_vectors_that_are_half_precision_already_lose_nothing() -> None:
    vectors = np.random.default_rng(0).choice([-0.25, 0.25], (8_000, 16)).astype(np.float32)
    report = stored_precision.measured(vectors)
    assert report["loss"]["largest_change_of_a_cosine"] == 0
    assert report["loss"]["recall_at_10"] == 1
