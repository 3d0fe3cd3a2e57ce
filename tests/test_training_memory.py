"""The memory of training, counted on a narrow model."""

from __future__ import annotations

import pytest

from benchmarks.training_memory import Shape, memory_of

NARROW = Shape("narrow", hidden=256, mlp=512, heads=2, kv_heads=1, layers=3)


def test_trained_numbers_are_those_of_adapters_reducer_and_connector() -> None:
    rank, hidden, mlp, kv = 8, 256, 512, 128
    projections = ((hidden, hidden), (hidden, kv), (hidden, kv), (hidden, hidden), (mlp, hidden))
    layer = sum(rank * inputs + outputs * rank + outputs for inputs, outputs in projections)
    segment = (256 * 256 * 16 + 256) + (256 * 256 + 256) + (256 * hidden + hidden)
    assert memory_of(NARROW, 24).trained == 3 * layer + segment


def test_what_is_kept_grows_with_tokens_and_layers_alone() -> None:
    few, many = memory_of(NARROW, 24), memory_of(NARROW, 48)
    deeper = memory_of(Shape("deeper", 256, 512, 2, 1, layers=6), 24)
    assert few.kept_kib_per_token == pytest.approx(many.kept_kib_per_token, rel=0.02)
    assert deeper.kept_kib_per_token == pytest.approx(2 * few.kept_kib_per_token)
