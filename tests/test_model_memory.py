"""The memory table counts what the published models are known to have."""

from __future__ import annotations

import pytest

from benchmarks.model_memory import memories


def test_the_counts_are_those_of_the_published_models() -> None:
    by_name = {row.name: row for row in memories(16_384)}
    # Qwen/Qwen2-VL-2B-Instruct and openai/clip-vit-large-patch14-336 as their model cards count them.
    assert by_name["vlm, a Qwen2-VL-2B"].parameters == 2_208_985_600
    assert by_name["dual_encoder, CLIP ViT-L/14@336"].parameters == pytest.approx(427.9e6, rel=1e-3)
    virtue = by_name["virtue, VIRTUE-2B"]
    assert virtue.half_gib == pytest.approx(virtue.parameters * 2 / 2**30)


def test_a_smaller_budget_takes_less_memory() -> None:
    small, large = memories(1024), memories(16_384)
    assert all(a.pass_gib < b.pass_gib for a, b in zip(small[:-1], large[:-1], strict=True))
