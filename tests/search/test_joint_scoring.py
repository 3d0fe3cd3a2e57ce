"""Joint scoring, against the sentences of its own definition spelt out in loops."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.collection import Candidate, Candidates
from regionsearch.models.embedder import SignalBackground
from regionsearch.search.joint_scoring import JointQuestion, JointScores, ranking, score_jointly, standardise
from regionsearch.search.scoring import EntityEvidence, ScoringProfile

DIMENSION = 6
BACKGROUND = {
    "entity": SignalBackground(0.4, 0.2),
    "global": SignalBackground(0.3, 0.1),
    "text_entity": SignalBackground(0.1, 0.15),
    "text_image": SignalBackground(0.05, 0.14),
    "placement": SignalBackground(0.35, 0.3),
    "objectness": SignalBackground(0.5, 0.25),
}
EVIDENCE = EntityEvidence(sharpness=3.0, objectness=0.75, choice=0.5)
SIZE = (100, 80)


def unit(generator: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = generator.standard_normal((*shape, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def candidate(generator: np.random.Generator, number: int, entities: int) -> Candidate:
    corners = np.sort(generator.uniform(0, 1, (entities, 2, 2)), axis=1) * np.array(SIZE)
    boxes = np.concatenate([corners[:, 0], corners[:, 1] + 1], axis=1)
    return Candidate(
        number=number,
        image_id=f"image-{number}",
        vectors=unit(generator, 1 + entities),
        boxes=boxes.astype(np.float32),
        areas=np.full(entities, 0.1, dtype=np.float32),
        objectness=generator.uniform(0, 1, entities).astype(np.float32),
        width=SIZE[0],
        height=SIZE[1],
    )


def z(name: str, raw: float) -> float:
    return (raw - BACKGROUND[name].mean) / BACKGROUND[name].deviation


@dataclass
class Case:
    candidates: list[Candidate]
    question: JointQuestion
    weights: dict[str, float]
    agreement: np.ndarray | None
    allowed: np.ndarray | None

    @property
    def matches(self) -> int:
        return max(1, len(self.question.regions))

    def score(self) -> JointScores:
        return score_jointly(
            Candidates.of(self.candidates),
            self.question,
            BACKGROUND,
            ScoringProfile(self.weights, EVIDENCE),
            agreement=self.agreement,
            allowed=self.allowed,
        )

    def rows(self, place: int) -> slice:
        start = sum(len(each.boxes) for each in self.candidates[:place])
        return slice(start, start + len(self.candidates[place].boxes))


def soft_gap(cosines: list[float], objectness: np.ndarray, deviation: float) -> float:
    shares = (objectness.astype(float) + 0.01) ** EVIDENCE.objectness
    shares = shares / shares.sum()
    sharpness = EVIDENCE.sharpness / deviation
    grown = sum(s * math.exp(sharpness * c) for s, c in zip(shares, cosines, strict=True))
    return max(cosines) - math.log(grown) / sharpness


def expected_total(case: Case, place: int, taken: tuple[int, ...]) -> float:
    """The weighted sum when the parts of region k are measured on entity taken[k]."""
    each, question, weights = case.candidates[place], case.question, case.weights
    entities, objectness = each.vectors[1:], each.objectness
    total = 0.0

    def soft(query: np.ndarray, name: str, entity: int) -> float:
        cosines = [float(vector @ query) for vector in entities]
        return cosines[entity] - soft_gap(cosines, objectness, BACKGROUND[name].deviation)

    if len(question.regions):
        cosines = [soft(r, "entity", e) for r, e in zip(question.regions, taken, strict=True)]
        total += weights["entity"] * z("entity", float(np.mean(cosines)))
    if question.text is not None:
        nearest = int(np.argmax(entities @ question.text)) if len(question.regions) else taken[0]
        total += weights["text_entity"] * z("text_entity", soft(question.text, "text_entity", nearest))
        total += weights["text_image"] * z("text_image", float(each.vectors[0] @ question.text))
    if question.image is not None:
        total += weights["global"] * z("global", float(each.vectors[0] @ question.image))
    total += weights["objectness"] * z("objectness", float(np.mean([objectness[e] for e in taken])))
    if case.agreement is not None:
        own = case.agreement[case.rows(place)]
        total += weights["placement"] * z(
            "placement", float(np.mean([own[e, k] for k, e in enumerate(taken)]))
        )
    return total


def assignments(case: Case, place: int) -> list[tuple[int, ...]]:
    count = len(case.candidates[place].boxes)
    own = None if case.allowed is None else case.allowed[case.rows(place)]
    return [
        taken
        for taken in itertools.permutations(range(count), case.matches)
        if own is None or all(own[e, k] for k, e in enumerate(taken))
    ]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    candidates = [candidate(generator, n, int(generator.integers(1, 5))) for n in range(4)]
    regions = draw(st.integers(0, 4))
    has_text = draw(st.booleans()) or not regions
    matches, rows = max(1, regions), sum(len(each.boxes) for each in candidates)
    weight = st.sampled_from([0.5, 1.0, 3.0])
    weights = {name: draw(weight) for name in BACKGROUND}
    for name in draw(st.sets(st.sampled_from(["global", "text_image", "placement", "objectness"]))):
        weights[name] = 0.0
    return Case(
        candidates,
        JointQuestion(
            unit(generator, regions),
            unit(generator) if regions else None,
            unit(generator) if has_text else None,
        ),
        weights,
        generator.uniform(0, 1, (rows, matches)) if draw(st.booleans()) else None,
        generator.random((rows, matches)) < 0.7 if draw(st.booleans()) else None,
    )


@given(cases())
def test_a_candidate_totals_the_best_that_distinct_allowed_entities_give(case: Case) -> None:
    scores = case.score()
    for place in range(len(case.candidates)):
        possible = assignments(case, place)
        assert scores.matched[place] == bool(possible)
        if possible:
            best = max(expected_total(case, place, taken) for taken in possible)
            assert scores.totals[place] == pytest.approx(best, abs=1e-3)


@given(cases())
def test_parts_add_up_to_the_total(case: Case) -> None:
    scores = case.score()
    for place, total in enumerate(scores.totals):
        parts = scores.parts(place)
        assert sum(part.weight * part.standardised for part in parts.values()) == pytest.approx(total)
        for name, part in parts.items():
            assert part.standardised == pytest.approx(z(name, part.raw))
            assert (part.entity is None) == (name in ("global", "text_image"))


@given(cases())
def test_each_entity_totals_what_scoring_with_it_alone_gives(case: Case) -> None:
    if case.matches > 1:
        case.question = JointQuestion(case.question.regions[:1], case.question.image, case.question.text)
        case.agreement = None if case.agreement is None else case.agreement[:, :1]
        case.allowed = None if case.allowed is None else case.allowed[:, :1]
    scores = case.score()
    for place in range(len(case.candidates)):
        possible = {taken[0]: expected_total(case, place, taken) for taken in assignments(case, place)}
        for entity, total in enumerate(scores.totals_with_each(place)):
            assert total == pytest.approx(possible.get(entity, -np.inf), abs=1e-3)


@given(cases())
def test_matches_are_distinct_allowed_entities(case: Case) -> None:
    scores = case.score()
    for place in range(len(case.candidates)):
        if scores.matched[place]:
            match = scores.matches(place)
            taken = tuple(match.entities.tolist())
            assert taken in assignments(case, place)
            entities = case.candidates[place].vectors[1:]
            for region, entity, raw in zip(case.question.regions, taken, match.raw, strict=False):
                assert raw == pytest.approx(float(entities[entity] @ region), abs=1e-5)


def test_an_image_with_one_entity_scores_its_plain_cosine() -> None:
    generator = np.random.default_rng(0)
    only = candidate(generator, 0, 1)
    region = unit(generator)
    scores = score_jointly(
        Candidates.of([only]),
        JointQuestion(region[None], None, None),
        BACKGROUND,
        ScoringProfile(dict.fromkeys(BACKGROUND, 1.0), EVIDENCE),
    )
    assert scores.parts(0)["entity"].raw == pytest.approx(float(only.vectors[1] @ region), abs=1e-6)


def test_entities_that_agree_count_more_than_one_alone() -> None:
    vectors = np.eye(DIMENSION, dtype=np.float32)

    def image(number: int, *rows: int) -> Candidate:
        base = candidate(np.random.default_rng(number), number, len(rows))
        return Candidate(
            number, str(number), vectors[[0, *rows]], base.boxes, base.areas, np.ones(len(rows), np.float32)
        )

    scores = score_jointly(
        Candidates.of([image(0, 1, 1, 2), image(1, 1, 2, 3)]),
        JointQuestion(vectors[1][None], None, None),
        BACKGROUND,
        ScoringProfile(dict.fromkeys(BACKGROUND, 1.0), EVIDENCE),
    )
    assert scores.totals[0] > scores.totals[1]


def test_standardising_counts_deviations_from_the_background() -> None:
    raw = np.array([[0.4, 0.5], [0.8, 0.3]])
    expected = [[0.0, 2.0], [2.0, 0.0]]
    of_parts = [standardise(raw[:, at], BACKGROUND, part) for at, part in enumerate(("entity", "global"))]
    np.testing.assert_allclose(np.stack(of_parts, axis=1), expected)


def test_equal_totals_are_ordered_by_id() -> None:
    assert ranking(np.array([1.0, 2.0, 1.0, 2.0]), ["b", "z", "a", "c"]) == [3, 1, 2, 0]


def test_without_the_weight_of_likeness_the_entity_with_the_greatest_sum_counts_all_the_same() -> None:
    generator = np.random.default_rng(9)
    candidates = [candidate(generator, number, 6) for number in range(20)]
    weights = dict.fromkeys(BACKGROUND, 0.0) | {"placement": 1.0, "objectness": 0.5}
    agreement = generator.uniform(0, 1, (120, 1))
    question = JointQuestion(unit(generator, 1), unit(generator), None)
    scores = Case(candidates, question, weights, agreement, None).score()
    for place, each in enumerate(candidates):
        sums = [
            z("placement", float(agreement[6 * place + entity, 0]))
            + 0.5 * z("objectness", float(each.objectness[entity]))
            for entity in range(6)
        ]
        assert scores.totals[place] == pytest.approx(max(sums), abs=1e-5)
