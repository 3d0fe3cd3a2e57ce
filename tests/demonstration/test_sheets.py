"""The documentation's contact sheets: judged by labels, picked by a rule, drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageDraw

from regionsearch.demonstration.answer_sheet import WIDTH, draw_sheet, said_by
from regionsearch.demonstration.paper import GOOD, MISSED
from regionsearch.demonstration.sheet_answers import (
    JudgedAnswer,
    SheetHit,
    average_precision,
    best_and_worst,
)
from regionsearch.demonstration.sheet_questions import SheetQuestion, read_plan
from regionsearch.demonstration.sheets import LARGEST_BYTES, encoded, main
from regionsearch.errors import InvalidRequest
from regionsearch.images import Image
from regionsearch.regions import Box, Mask

GREY = Image(np.full((60, 80, 3), 128, dtype=np.uint8))
SQUARE = Mask.from_box(Box(20, 15, 60, 45), 60, 80)


@given(st.lists(st.booleans(), max_size=12), st.integers(0, 5))
def test_average_precision_is_the_mean_precision_at_the_right_answers(right: list[bool], unseen: int) -> None:
    relevant = sum(right) + unseen
    precisions = [sum(right[: place + 1]) / (place + 1) for place, is_right in enumerate(right) if is_right]
    expected = sum(precisions) / relevant if relevant else 0.0
    assert average_precision(right, relevant) == pytest.approx(expected)


def judged(precision: float, hits: Sequence[bool] = ()) -> JudgedAnswer:
    shown = tuple(SheetHit(f"{n}.jpg", GREY, 0.5, ((0, SQUARE),), right) for n, right in enumerate(hits))
    question = SheetQuestion(text=f"{precision}", relevant=("dog",))
    return JudgedAnswer(question, None, (), shown, precision, 3, 9)


@given(st.lists(st.integers(0, 5), min_size=5, max_size=12))
def test_the_two_best_and_the_two_worst_are_shown(values: list[int]) -> None:
    shown = [answer.average_precision for answer in best_and_worst([judged(value) for value in values])]
    ordered = sorted(values, reverse=True)
    assert shown == ordered[:2] + ordered[-2:]


def test_few_answers_are_all_shown() -> None:
    assert len(best_and_worst([judged(0.1), judged(0.9), judged(0.4)])) == 3


def test_a_sheet_marks_right_answers_and_others() -> None:
    def coloured(hits: Sequence[bool], colour: tuple[int, int, int]) -> int:
        pixels = np.asarray(draw_sheet("Words", "facts", [judged(0.5, hits)])).astype(int)
        assert pixels.shape[1] == WIDTH
        return int((np.abs(pixels - colour).max(axis=2) < 8).sum())

    for colour, more in ((GOOD, [True, True, True]), (MISSED, [False, False, False])):
        assert coloured(more, colour) > coloured([True, False, True][: len(more) - 1], colour)
    draw_sheet("Words", "f" * 400, [judged(0.0)])


def test_a_question_says_what_its_picture_does_not() -> None:
    question = SheetQuestion(
        photo="a.jpg", points=((0.5, 0.5),), text="red", place="left_half", relevant=("x",)
    )
    assert said_by(question) == "a click, “red”, in the left half"
    assert said_by(SheetQuestion(text="red", relevant=("x",))) == "words alone"
    assert said_by(SheetQuestion(liked=("a.jpg", "b.jpg"), relevant=("x",))) == "2 liked"
    assert said_by(SheetQuestion(text="red", disliked=("a.jpg",), relevant=("x",))) == "“red”, 1 disliked"


def plan_file(folder: Path, **changes: object) -> Path:
    kinds = [
        {
            "name": "words",
            "title": "Words",
            "questions": [
                {"text": "something red", "relevant": ["red"]},
                {"photo": "red/0.png", "points": [[0.3, 0.3]], "relevant": ["red"], "without": ["large"]},
                {"photo": "blue/1.png", "entity_at": [0.3, 0.3], "relevant": ["blue"]},
                {"liked": ["red/0.png"], "disliked": ["blue/0.png"], "relevant": ["red"]},
                {"text": "blue", "place": "left_half", "max_area": 0.5, "relevant": ["blue"]},
            ],
        }
    ]
    said = {"labels": {"red": ["red/*"], "blue": ["blue/*"], "large": ["*/3.png"]}, "kinds": kinds, **changes}
    path = folder / "questions.json"
    path.write_text(json.dumps(said))
    return path


def test_labels_are_patterns_of_ids(tmp_path: Path) -> None:
    plan = read_plan(plan_file(tmp_path))
    question = plan.kinds[0].questions[1]
    relevant = [name for name in ("red/0.png", "red/3.png", "blue/1.png") if plan.is_relevant(question, name)]
    assert relevant == ["red/0.png"]
    assert question.own == {"red/0.png"}
    assert question.wanted == "red, no large"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"labels": {}}, "unknown label 'red'"),
        ({"kinds": [{"name": "a", "title": "A", "questions": [{"text": "x"}]}]}, "no label"),
        ({"kinds": [{"name": "a", "title": "A", "questions": [{"words": "x"}]}]}, "words"),
        ({"kinds": 3}, "no file of questions"),
    ],
)
def test_a_file_that_asks_nothing_sensible_is_refused(
    tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named):
        read_plan(plan_file(tmp_path, **changes))


def test_the_sheets_of_the_documentation_can_be_read(repository: Path) -> None:
    plan = read_plan(repository / "docs" / "pictures" / "questions.json")
    assert len({kind.name for kind in plan.kinds}) == len(plan.kinds) >= 6
    assert all(len(kind.questions) > 4 for kind in plan.kinds)


def test_a_large_sheet_is_coded_within_its_limit() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    assert len(encoded(Pillow.fromarray(noise))) < 3 * LARGEST_BYTES
    assert len(encoded(Pillow.new("RGB", (2000, 1200), "white"))) <= LARGEST_BYTES


def test_sheets_are_made_of_a_folder_of_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    out.mkdir()
    for colour in ("red", "blue"):
        (photos / colour).mkdir(parents=True)
        for number in range(4):
            picture = Pillow.new("RGB", (80, 60), "white")
            ImageDraw.Draw(picture).rectangle((10, 10, 40 + 5 * number, 40), fill=colour)
            picture.save(photos / colour / f"{number}.png")
    plan_file(out)
    assert main([str(photos), "--out", str(out), "--embedder", "dummy", "--segmenter", "dummy"]) == 0
    with Pillow.open(out / "words.jpg") as sheet:
        assert sheet.size[0] == WIDTH
    assert "mean average precision of 5 questions" in capsys.readouterr().out
    assert main([str(photos), "--out", str(out), "--questions", str(tmp_path / "missing.json")]) == 1
    assert "missing.json" in capsys.readouterr().err
