"""The picture that says why: what stands beside the question and below each hit."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from regionsearch.cli.explaining import check_writable, facts_of
from regionsearch.cli.question import Question
from regionsearch.demonstration.explained import (
    ExplainedHit,
    ExplainedMatch,
    ExplainedPart,
    ExplainedQuestion,
    Pictured,
)
from regionsearch.demonstration.explanation import CHART_WIDTH, _free_place, draw_explanation, notes_of
from regionsearch.demonstration.outlines import with_prompt
from regionsearch.demonstration.paper import font, shortened, wrapped
from regionsearch.errors import InvalidRequest
from regionsearch.regions import Box, Mask, Point, RegionPrompt

QUESTION = ExplainedQuestion(None, "red", facts=("a fact",))
SQUARE = Mask.from_box(Box(20, 15, 60, 45), 60, 80)
PARTS = ("entity", "global", "text_entity", "text_image", "placement", "objectness")


def hit(name: str = "a.jpg") -> ExplainedHit:
    """Two regions, and every part of the score measured on an entity with a long number."""
    return ExplainedHit(
        picture=Pictured(name, 80, 60, None, ((0, SQUARE), (1, SQUARE))),
        rank=1,
        score=0.5,
        entity="entity 7, 41.6% of the image",
        parts=tuple(
            ExplainedPart(
                part, 0.1, 1.0, 1.0, None if part in ("global", "text_image") else 1000 + number // 3
            )
            for number, part in enumerate(PARTS)
        ),
        matches=tuple(ExplainedMatch(region, region, 0.2, 0.3) for region in range(2)),
        entity_arm_rank=1,
        global_arm_rank=None,
        reread=None,
    )


@pytest.fixture
def draw() -> ImageDraw.ImageDraw:
    return ImageDraw.Draw(Pillow.new("RGB", (10, 10)))


def test_every_line_below_a_hit_is_shown_whole(draw: ImageDraw.ImageDraw) -> None:
    lines = [line for _, line in notes_of(hit())]
    assert [shortened(draw, line, 13, CHART_WIDTH - 24) for line in lines] == lines
    assert "measured on entity 1000: entity, text_entity" in lines
    assert "measured on entity 1001: placement, objectness" in lines
    assert lines[-1] == "entity arm: rank 1 · global arm: not among its candidates"


def test_words_that_are_cut_off_end_in_an_ellipsis(draw: ImageDraw.ImageDraw) -> None:
    words = "what is looked for is a fish of many colours near a coral reef"
    lines = wrapped(draw, words, 20, 200)
    assert " ".join(lines) == words
    cut = wrapped(draw, words, 20, 200, most=2)
    assert len(cut) == 2 < len(lines)
    assert cut[0] == lines[0]
    assert cut[1].endswith("…")
    assert lines[1].startswith(cut[1][:-1])
    assert draw.textlength(cut[1], font=font(20)) <= 200
    assert wrapped(draw, words, 20, 200, most=len(lines)) == lines


def test_long_names_and_texts_change_nothing_but_their_own_line() -> None:
    def drawn(name: str, text: str) -> Pillow.Image:
        return draw_explanation(ExplainedQuestion(None, text, (), (), ("a fact",)), [hit(name)])

    short, long = drawn("a.jpg", "red"), drawn("写真/" * 90 + "b.jpg", "red " * 300)
    assert short.size == long.size
    below = 84 + 150
    changed = np.argwhere(np.asarray(short)[below:] != np.asarray(long)[below:])
    assert len(changed) > 0
    assert changed[:, 0].max() < 60


def test_everything_that_was_asked_stands_beside_the_question() -> None:
    question = Question(
        text="red",
        liked=(("a.jpg", None),),
        rerank="pairwise",
        per_kind_weights=True,
        include_self=True,
        page_token="t",
        min_score=0.2,
        placements=({"part": "left", "min_count": 2},),
    )
    notes = ("12 records were read",)
    answer = SimpleNamespace(regions=(), hits=(), background="b1", calibration="c1", notes=notes)
    facts = facts_of(question, answer)
    for said in (
        "read again: pairwise",
        "this kind of question alone",
        "may be among the hits",
        "another answer",
        "min score: 0.2",
        "the match: left of the frame, min count 2",
        "background b1, calibration c1",
        "12 records were read",
    ):
        assert any(said in fact for fact in facts), said


def test_numbers_of_regions_cover_no_other_and_stay_within_the_picture() -> None:
    places: list[tuple[float, float]] = []
    for _ in range(16):
        places.append(_free_place((3.0, 50.0), places, (290, 210)))
    for number, (x, y) in enumerate(places):
        assert 10 < x < 280
        assert 10 < y < 200
        assert all(math.dist((x, y), other) >= 20 for other in places[:number])
    assert places[0] == (12.0, 50.0)
    tiny = [_free_place((5.0, 5.0), [(12.0, 12.0)], (24, 24))]
    assert tiny == [(12, 12)]


def test_further_entities_are_listed_and_outlined() -> None:
    others = tuple((number, 0.5) for number in range(6))
    alone = hit()
    listed = replace(alone, others=others)
    lines = [line for _, line in notes_of(listed)]
    assert "also: entity 0 (0.50), entity 1 (0.50), entity 2 (0.50), entity 3 (0.50)" in lines
    assert "and: entity 4 (0.50), entity 5 (0.50)" in lines
    far = Mask.from_box(Box(2, 2, 12, 12), 60, 80)
    drawn = draw_explanation(QUESTION, [replace(alone, picture=replace(alone.picture, others=(far,)))])
    assert np.argwhere(np.asarray(drawn) != np.asarray(draw_explanation(QUESTION, [alone]))).size > 0


def test_hits_that_are_not_drawn_are_counted() -> None:
    few = draw_explanation(QUESTION, [hit()])
    assert draw_explanation(QUESTION, [hit()], more=56).height > few.height


def test_a_negative_point_can_be_seen_on_snow() -> None:
    snow = Pillow.new("RGB", (60, 60), (255, 255, 255))
    shown = np.asarray(
        with_prompt(
            snow, RegionPrompt((Point(30, 30, positive=False),), Box(0, 0, 60, 60)), (1.0, 1.0), (0, 214, 180)
        )
    )
    assert shown[30, 30].max() < 60  # its minus
    assert shown[26, 30].min() > 200  # on white
    assert (shown.max(axis=2) < 60).sum() > 100  # within a dark ring


def test_the_explanation_is_a_png_by_its_name(tmp_path: Path) -> None:
    check_writable(tmp_path / "why.PNG")
    check_writable(tmp_path / "why")
    with pytest.raises(InvalidRequest, match=r"'why.jpg'"):
        check_writable(tmp_path / "why.jpg")


@pytest.mark.parametrize(
    ("text", "image_id", "noted"),
    [("слон", "a.jpg", True), ("a", "日本語.jpg", True), ("who?", "été.jpg", False)],
)
def test_letters_that_cannot_be_drawn_are_said_to_stand_in_the_table(
    text: str, image_id: str, noted: bool
) -> None:
    hits = (SimpleNamespace(image_id=image_id),)
    answer = SimpleNamespace(regions=(), hits=hits, background="b1", calibration="c1", notes=())
    assert any("the table has them" in fact for fact in facts_of(Question(text=text), answer)) == noted
