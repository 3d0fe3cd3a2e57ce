"""Joint scoring, against the sentences of its own definition spelt out in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.collection import Candidate, Candidates
from regionsearch.models.embedder import QueryVectors, SignalBackground
from regionsearch.search.joint_scoring import ranking, score_jointly, score_of, standardise

DIMENSION = 6
BACKGROUND = {
    "entity": SignalBackground(0.4, 0.2),
    "global": SignalBackground(0.3, 0.1),
    "text_entity": SignalBackground(0.1, 0.05),
    "text_image": SignalBackground(0.05, 0.04),
}
WEIGHTS = {"entity": 1.0, "global": 0.5, "text_entity": 0.7, "text_image": 0.2}


def unit(generator: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = generator.standard_normal((*shape, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def candidate(generator: np.random.Generator, number: int, entities: int) -> Candidate:
    return Candidate(
        number=number,
        image_id=f"image-{number}",
        vectors=unit(generator, 1 + entities),
        boxes=np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (entities, 1)),
        areas=np.ones(entities, dtype=np.float32),
        objectness=np.ones(entities, dtype=np.float32),
    )


def z(name: str, raw: float) -> float:
    return (raw - BACKGROUND[name].mean) / BACKGROUND[name].deviation


@given(
    seed=st.integers(0, 2**32 - 1),
    has_pixels=st.booleans(),
    has_text=st.booleans(),
    weights=st.fixed_dictionaries({name: st.sampled_from([0.0, 0.5, 1.0, 3.0]) for name in WEIGHTS}),
)
def test_a_candidate_scores_its_best_entity_and_its_image(
    seed: int, has_pixels: bool, has_text: bool, weights: dict[str, float]
) -> None:
    if not (has_pixels or has_text):
        has_pixels = True
    generator = np.random.default_rng(seed)
    candidates = [candidate(generator, n, int(generator.integers(1, 5))) for n in range(4)]
    region, image, text = unit(generator), unit(generator), unit(generator)
    vectors = QueryVectors(
        entity_arm=region,
        global_arm=image,
        region=region if has_pixels else None,
        image=image if has_pixels else None,
        text=text if has_text else None,
    )
    scores = score_jointly(Candidates.of(candidates), vectors, BACKGROUND, weights)
    for row, each in enumerate(candidates):

        def entity_sum(vector: np.ndarray, weighted: bool) -> float:
            total = 0.0
            if has_pixels:
                total += (weights["entity"] if weighted else 1.0) * z("entity", float(vector @ region))
            if has_text:
                total += (weights["text_entity"] if weighted else 1.0) * z(
                    "text_entity", float(vector @ text)
                )
            return total

        weighted = (has_pixels and weights["entity"] > 0) or (has_text and weights["text_entity"] > 0)
        sums = [entity_sum(vector, weighted) for vector in each.vectors[1:]]
        assert sums[scores.entities[row]] == pytest.approx(max(sums), abs=1e-4)
        expected = entity_sum(each.vectors[1 + scores.entities[row]], True)
        if has_pixels:
            expected += weights["global"] * z("global", float(each.vectors[0] @ image))
        if has_text:
            expected += weights["text_image"] * z("text_image", float(each.vectors[0] @ text))
        assert scores.totals[row] == pytest.approx(expected, abs=1e-3)


def test_standardising_counts_deviations_from_the_background() -> None:
    raw = np.array([[0.4, 0.5], [0.8, 0.3]])
    expected = [[0.0, 2.0], [2.0, 0.0]]
    np.testing.assert_allclose(standardise(raw, BACKGROUND, ("entity", "global")), expected)


def test_equal_totals_are_ordered_by_id() -> None:
    assert ranking(np.array([1.0, 2.0, 1.0, 2.0]), ["b", "z", "a", "c"]) == [3, 1, 2, 0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=10))
def test_scores_lie_between_0_and_1_and_keep_the_order(totals: list[float]) -> None:
    scores = [score_of(total) for total in sorted(totals)]
    assert all(0 <= score <= 1 for score in scores)
    assert scores == sorted(scores)
    assert score_of(0.0) == 0.5
    assert score_of(1.0) == pytest.approx(1 / (1 + math.exp(-1)))
