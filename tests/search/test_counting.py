"""How many entities of an image are such as the one that matched."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import DIMENSION

from regionsearch.collection import Candidate, Candidates
from regionsearch.models.embedder import SignalBackground
from regionsearch.search import Placement
from regionsearch.search.agreement import EntityFacts, allowed
from regionsearch.search.counting import (
    COUNTED_WITHIN,
    LEAST_COUNT_AGREEMENT,
    best_apart,
    count_agreement,
    counts_softly,
    covered_shares,
    such_entities,
    within_counts,
)
from regionsearch.search.joint_scoring import JointQuestion, JointScores, score_jointly
from regionsearch.search.scoring import shipped_scoring

PROFILE = shipped_scoring().profile({"objectness": 0.0})
BACKGROUND = {
    name: SignalBackground(0.0, 0.1)
    for name in ("entity", "global", "text_entity", "text_image", "objectness", "placement")
}
ASKED = np.eye(1, DIMENSION, dtype=np.float32)


def image(things: list[tuple[float, tuple[float, float, float, float], str | None]]) -> Candidates:
    """things: cosine with what is asked, box in pixels of a picture of 100 × 100, label."""
    vectors = np.zeros((1 + len(things), DIMENSION), np.float32)
    vectors[0, 1] = 1
    for row, (cosine, _, _) in enumerate(things, start=1):
        vectors[row, 0], vectors[row, 1 + row] = cosine, np.sqrt(1 - cosine**2)
    boxes = np.array([box for _, box, _ in things], np.float32)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) / 10_000
    labels = tuple(label for *_, label in things)
    objectness = np.full(len(things), 0.5, np.float32)
    return Candidates.of([Candidate(1, "a", vectors, boxes, areas, objectness, 100, 100, labels)])


def scored(candidates: Candidates, placement: Placement) -> tuple[EntityFacts, JointScores]:
    facts = EntityFacts.of(candidates)
    question = JointQuestion(ASKED, None, None)
    may = allowed([placement], facts)
    return facts, score_jointly(candidates, question, BACKGROUND, PROFILE, allowed=may)


def counted(candidates: Candidates, placement: Placement) -> int:
    facts, scores = scored(candidates, placement)
    by_label = placement.label is not None
    return int(such_entities(facts, scores, PROFILE.weights, by_label=by_label)[0])


LEFT, RIGHT, LOWER = (0, 0, 30, 30), (60, 0, 90, 30), (0, 60, 30, 90)
NEAR = 0.1 * COUNTED_WITHIN
"""By how much a cosine may lie below the best one's."""


def test_things_that_match_about_as_well_and_lie_apart_are_counted() -> None:
    three = image([(0.8, LEFT, None), (0.8 - 0.5 * NEAR, RIGHT, None), (0.8 - 2 * NEAR, LOWER, None)])
    assert counted(three, Placement(min_count=1)) == 2


def test_of_a_thing_found_whole_and_in_part_one_is_counted() -> None:
    whole_and_part = image([(0.8, LEFT, None), (0.8, (5, 5, 15, 15), None), (0.8, RIGHT, None)])
    assert counted(whole_and_part, Placement(min_count=1)) == 2


def test_what_a_label_names_is_counted_by_the_label_alone() -> None:
    dogs = image([(0.8, LEFT, "dog"), (0.1, RIGHT, "dog"), (0.8, LOWER, "cat")])
    assert counted(dogs, Placement(label="dog", min_count=1)) == 2
    assert counted(dogs, Placement(label="cat", min_count=1)) == 1
    assert counted(dogs, Placement(label="bird", min_count=1)) == 0


def test_things_elsewhere_are_not_counted_where_the_place_is_a_condition() -> None:
    two = image([(0.8, LEFT, None), (0.8, RIGHT, None)])
    assert counted(two, Placement(part="left", strict=True, min_count=1)) == 1
    assert counted(two, Placement(part="left", min_count=1)) == 2


@pytest.mark.parametrize(
    ("placement", "within"),
    [
        (Placement(min_count=2), True),
        (Placement(min_count=3), False),
        (Placement(max_count=2), True),
        (Placement(max_count=1), False),
        (Placement(min_count=2, max_count=2), True),
    ],
)
def test_bounds_are_inclusive(placement: Placement, within: bool) -> None:
    facts, scores = scored(image([(0.8, LEFT, None), (0.8, RIGHT, None)]), placement)
    assert within_counts(placement, facts, scores, PROFILE.weights).tolist() == [within]


def test_covered_shares_are_of_the_smaller_box() -> None:
    boxes = np.array([[0.0, 0.0, 1.0, 1.0], [0.25, 0.25, 0.5, 0.5], [0.9, 0.0, 1.1, 1.0]])
    shares = covered_shares(boxes, boxes)
    np.testing.assert_allclose(shares, [[1, 1, 0.5], [1, 1, 0], [0.5, 0, 1]], atol=1e-12)


def test_a_number_is_a_condition_with_a_label_or_by_request() -> None:
    assert counts_softly(Placement(min_count=2))
    assert counts_softly(Placement(max_count=2, part="left"))
    assert not counts_softly(Placement(min_count=2, strict=True))
    assert not counts_softly(Placement(min_count=2, label="dog"))
    assert not counts_softly(Placement(part="left"))


def test_another_number_lowers_the_agreement_the_further_it_is_off_and_never_below_the_least() -> None:
    agreed = count_agreement(Placement(min_count=4, max_count=8), np.array([1, 2, 3, 4, 8, 16, 1024]))
    assert agreed[3:5].tolist() == [1.0, 1.0]
    assert agreed[0] < agreed[1] < agreed[2] < 1.0
    assert agreed[1] == agreed[5] == LEAST_COUNT_AGREEMENT + (1 - LEAST_COUNT_AGREEMENT) / 2
    assert agreed[6] >= LEAST_COUNT_AGREEMENT


def test_of_entities_that_overlap_the_best_that_may_match_stands_for_the_thing() -> None:
    boxes = np.array([LEFT, (5, 5, 15, 15), RIGHT, LOWER], np.float64)
    assert best_apart(np.array([1.0, 2.0, 3.0, -np.inf]), boxes).tolist() == [1, 2]
    assert best_apart(np.array([2.0, 2.0, 3.0, 4.0]), boxes).tolist() == [0, 2, 3]
