"""Figures and intervals of a block of questions, against a literal reading of their definition."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.evaluation.bootstrap import image_weights, interval
from regionsearch.evaluation.coco_evaluation import standardised_sum
from regionsearch.evaluation.coco_questions import Question
from regionsearch.evaluation.judged_block import CAPTION_MEASURES, RANKING_MEASURES, Block, ratio, shown
from regionsearch.evaluation.photo_index import Ranking

DRAWS = 40
BOX = (0.0, 0.0, 1.0, 1.0)


def ranking_of(order: list[int], returned: int | None = None) -> Ranking:
    count = len(order) if returned is None else returned
    scores = np.linspace(1, 0, count)
    return Ranking(np.array(order), scores, scores, np.tile([0.0, 0.0, 1.0, 1.0], (count, 1)))


@st.composite
def asked_blocks(draw: st.DrawFn) -> tuple[Block, list[Ranking]]:
    images = draw(st.integers(3, 8))
    ids = [f"{n}" for n in range(images)]
    questions, rankings = [], []
    for _ in range(draw(st.integers(1, 6))):
        source = draw(st.none() | st.sampled_from(ids))
        others = [image_id for image_id in ids if image_id != source]
        relevant = frozenset(draw(st.sets(st.sampled_from(others), min_size=1)))
        question = Question(
            group=draw(st.sampled_from(["kite", "drum"])),
            relevant=relevant,
            image_id=source,
            box=None if source is None else BOX,
        )
        order = draw(st.permutations(range(images)))
        questions.append(question)
        rankings.append(ranking_of(order).without(None if source is None else ids.index(source)))
    weights = np.concatenate([np.ones((1, images), dtype=np.int64), image_weights(images, DRAWS)])
    return Block(questions, {image_id: n for n, image_id in enumerate(ids)}, weights), rankings


def literal_map(block: Block, rankings: list[Ranking], weight: list[int]) -> float:
    """The definition, image by image: a weight multiplies an image's counts as relevant, as retrieved and
    as the source of a query; classes without weight are skipped."""
    classes: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for question, ranking in zip(block.questions, rankings, strict=True):
        relevant = {block.numbers[image_id] for image_id in question.relevant}
        source = 1 if question.image_id is None else weight[block.numbers[question.image_id]]
        total = sum(weight[number] for number in relevant)
        if not source or not total:
            continue
        retrieved = found = 0
        precision = 0.0
        for number in ranking.order.tolist():
            retrieved += weight[number]
            if number in relevant and weight[number]:
                found += weight[number]
                precision += weight[number] * found / retrieved
        classes[question.group].append((precision / total, source))
    if not classes:
        return math.nan
    means = [sum(ap * s for ap, s in asked) / sum(s for _, s in asked) for asked in classes.values()]
    return sum(means) / len(means)


@given(asked_blocks())
def test_map_and_its_interval_are_those_of_the_definition(case: tuple[Block, list[Ranking]]) -> None:
    block, rankings = case
    figures = {"map": block.measure(rankings, RANKING_MEASURES["map"])}
    expected = np.array([literal_map(block, rankings, row) for row in block.weights.tolist()])
    assert figures["map"] == pytest.approx(expected, nan_ok=True)
    block_interval = interval(expected[1:])
    assert shown(figures)["ci95"] == (None if block_interval is None else pytest.approx(block_interval))


def test_a_caption_is_drawn_with_its_photo_and_found_where_it_was_found() -> None:
    ids = {"a": 0, "b": 1, "c": 2}
    questions = [Question("captions", frozenset({image_id}), "words", image_id) for image_id in ids]
    rankings = [ranking_of([0, 1, 2]) for _ in ids]
    block = Block(questions, ids, np.array([[1, 1, 1], [2, 1, 0], [0, 0, 3]]))
    assert block.measure_sources(rankings, CAPTION_MEASURES["r1"]) == pytest.approx([1 / 3, 2 / 3, 0])


@given(asked_blocks())
def test_chance_is_the_mean_share_of_ranked_photos_that_answer(case: tuple[Block, list[Ranking]]) -> None:
    block, rankings = case
    shares = [
        len(question.relevant) / len(ranking.order)
        for question, ranking in zip(block.questions, rankings, strict=True)
    ]
    assert block.chance() == pytest.approx(sum(shares) / len(shares))


def test_a_questions_own_photo_is_left_out_of_ranking_and_scores() -> None:
    ranking = ranking_of([2, 0, 1, 3], returned=3).without(0)
    assert ranking.order.tolist() == [2, 1, 3]
    assert ranking.scores.tolist() == [1, 0]


def test_only_the_first_ten_hits_are_held_against_their_scores() -> None:
    ids = {f"{n:02}": n for n in range(30)}
    question = Question("kite", frozenset({f"{n:02}" for n in range(10)}))
    block = Block([question], ids, np.ones((1, 30), dtype=np.int64))
    ranking = Ranking(np.arange(30), np.repeat([1.0, 0.7], [10, 20]), np.zeros(30), np.zeros((30, 4)))
    assert block.calibration_error([ranking]) == 0


def test_a_ratio_is_against_the_better_baseline_by_that_measure_and_draws_are_paired() -> None:
    joint = {"map": np.array([0.6, 0.2, 0.9]), "p1": np.array([0.5, 0.5, 0.5])}
    one = {"map": np.array([0.3, 0.1, 0.3]), "p1": np.array([0.1, 0.1, 0.1])}
    two = {"map": np.array([0.2, 0.2, 0.2]), "p1": np.array([0.25, 0.0, 0.25])}
    result = ratio(joint, [one, two])
    assert result["map"] == pytest.approx(2)
    assert result["map_ci95"] == pytest.approx([2.025, 2.975])
    assert result["p1"] == pytest.approx(2)
    assert result["p1_ci95"] == pytest.approx([2, 2])


def test_z_scores_of_two_answers_are_added_and_equal_sums_are_ordered_by_id() -> None:
    region = Ranking(np.array([2, 0, 1]), np.zeros(3), np.array([30.0, 20, 10]), np.zeros((3, 4)))
    text = Ranking(np.array([1, 0, 2]), np.zeros(3), np.array([0.3, 0.2, 0.1]), np.zeros((3, 4)))
    assert standardised_sum(region, text).order.tolist() == [0, 1, 2]
    strong = Ranking(np.array([1, 0, 2]), np.zeros(3), np.array([0.9, 0.1, 0.1]), np.zeros((3, 4)))
    assert standardised_sum(region, strong).order.tolist() == [2, 1, 0]


def test_photos_that_one_of_two_answers_lacks_have_its_least_sum() -> None:
    short = Ranking(np.array([2, 0, 1]), np.zeros(1), np.array([5.0]), np.zeros((1, 4)))
    text = Ranking(np.array([1, 0, 2]), np.zeros(3), np.array([3.0, 2, 1]), np.zeros((3, 4)))
    assert standardised_sum(short, text).order.tolist() == [1, 0, 2]
