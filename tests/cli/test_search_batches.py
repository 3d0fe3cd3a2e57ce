"""`regionsearch search --batch`: many questions, a line each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from served_photos import Served, answer, ids

from regionsearch.cli import main


def lines_of(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_a_batch_is_answered_line_by_line(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = [
        {"text": "red"},
        {"image": served.query, "regions": [{"box": [10, 10, 41, 39], "refine": True}], "limit": 2},
        {"image_id": "03.png", "entities": [0, 1], "text": "blue"},
        {
            "image": served.query,
            "regions": [
                {"points": [[0.2, 0.2], [0.9, 0.9, 0]], "normalised": True, "placement": {"part": "left"}},
                {"polygon": [[70, 50], [110, 50], [110, 76]]},
            ],
        },
        {"liked": ["00.png#1", {"image_id": "02.png"}], "disliked": ["04.png"], "min_score": 0.1},
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, questions)) + "\n\n")
    together = []
    for where in (["--data", str(served.data)], ["--address", served.address]):
        capsys.readouterr()
        assert main(["search", "--collection", "c", *where, "--batch", str(path), "--limit", "3"]) == 0
        together.append(lines_of(capsys.readouterr().out))
    here, there = together
    assert [ids(one) for one in here] == [ids(one) for one in there]
    assert [len(one["hits"]) for one in here] == [3, 2, 3, 3, 3]
    assert ids(here[0]) == ids(answer(capsys, served, "--text", "red", "--limit", "3"))
    assert [len(one["regions"]) for one in here] == [0, 1, 0, 2, 0]


def test_a_refused_question_of_a_batch_disturbs_no_other(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        '{"text": "red"}',
        '{"texd": "red"}',
        "{",
        '{"text": 3}',
        '{"image_id": "no"}',
        '{"image": "no\\u0000file"}',
        '{"image": "\\ud800"}',
        '{"image_id": "03.png", "entity": 0, "entities": [1]}',
        '{"text": "red", "where": "entity.area > 1"}',
        '{"text": "red", "where": "entity.area >> 1"}',
        '{"text": "red"}',
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(lines))
    assert main(["search", "--collection", "c", "--data", str(served.data), "--batch", str(path)]) == 1
    output = capsys.readouterr()
    answers = lines_of(output.out)
    assert ["error" in one for one in answers] == [False, *[True] * 7, False, True, False]
    assert answers[8]["hits"] == []
    assert answers[9]["error"]["reason"] == "INVALID_FILTER"
    assert "'texd'" in answers[1]["error"]["message"]
    assert answers[4]["error"]["reason"] == "IMAGE_NOT_FOUND"
    assert [one["error"]["line"] for one in answers if "error" in one][:2] == [2, 3]
    assert "8 of 11 questions were refused, in lines 2, 3, 4, 5, 6, 7, 8, 10\n" in output.err
