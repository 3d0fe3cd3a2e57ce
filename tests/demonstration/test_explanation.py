"""The picture that says why: what stands beside the question and below each hit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from regionsearch.cli.explaining import facts_of
from regionsearch.cli.question import Question
from regionsearch.demonstration.explained import (
    ExplainedHit,
    ExplainedMatch,
    ExplainedPart,
    ExplainedQuestion,
    Pictured,
)
from regionsearch.demonstration.explanation import CHART_WIDTH, draw_explanation, notes_of
from regionsearch.demonstration.paper import font, shortened, wrapped
from regionsearch.regions import Box, Mask

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
    answer = SimpleNamespace(regions=(), background="b1", calibration="c1")
    facts = facts_of(question, answer)
    for said in (
        "read again: pairwise",
        "this kind of question alone",
        "may be among the hits",
        "another answer",
        "min score: 0.2",
        "the match: left of the frame, min count 2",
        "background b1, calibration c1",
    ):
        assert any(said in fact for fact in facts), said
