"""Questions of a batch: what their values may be, and how those that are not are named."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.cli.question import Question
from regionsearch.cli.question_lines import question_from_line, read_lines
from regionsearch.errors import InvalidRequest
from regionsearch.regions import Polygon, RegionPrompt

TRIANGLE = ((10.0, 10.0), (40.0, 12.0), (30.0, 40.0))
SQUARE = ((50.0, 50.0), (60.0, 50.0), (60.0, 60.0), (50.0, 60.0))


def asked(**said: Any) -> Question:
    return question_from_line(json.dumps(said), Question())


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"limit": "3"}, "limit is '3'; it must be a whole number"),
        ({"min_score": True}, "min_score is True; it must be a number"),
        ({"text": 3}, "text is 3; it must be text"),
        ({"include_self": 1}, "include_self is 1; it must be true or false"),
        ({"regions": {"box": [1, 2, 3, 4]}}, "regions is {'box': [1, 2, 3, 4]}; it must be a list"),
        (
            {"regions": [{"points": [390, 340]}]},
            "regions[0].points[0] is 390; it must be a point: [x, y], or",
        ),
        ({"regions": [{"box": [1, 2, 3]}]}, "regions[0].box is [1, 2, 3]; it must be [x0, y0, x1, y1]"),
        ({"regions": [{"polygon": [[1, 2], [3, 4], 5]}]}, "regions[0].polygon[2] is 5; it must be a corner"),
        ({"regions": [{"polygon": [1, 2, 3, 4]}]}, "regions[0].polygon is [1, 2, 3, 4]; it must be three"),
        ({"regions": [{"polygon": 7}]}, "regions[0].polygon is 7; it must be an outline"),
        ({"regions": [{"bocks": 1}]}, "an object with keys of box, points"),
        (
            {"regions": [{"box": [1, 2, 3, 4]}, {"box": [1, 2, 3, 4], "placement": {"part": "middle"}}]},
            "regions[1].placement.part is 'middle'; it must be a part of the frame: left, right",
        ),
        ({"placements": [{"min_count": 1.5}]}, "placements[0].min_count is 1.5; it must be a whole number"),
        ({"liked": [{"entity": 1}]}, "liked[0] is {'entity': 1}; it must be an id, or an object"),
        ({"weights": {"global": "0"}}, "weights.global is '0'; it must be a number"),
        ({"regions": [{"mask": "none.png"}]}, "mask 'none.png' is no file"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_it_must_be(said: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(**said)
    assert told in refused.value.message


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "1" + "0" * 400])
def test_a_number_that_no_float_holds_is_refused(number: str) -> None:
    with pytest.raises(InvalidRequest, match="must be a number"):
        question_from_line(f'{{"min_score": {number}}}', Question())


@pytest.mark.parametrize(
    ("written", "rings"),
    [
        ([list(corner) for corner in TRIANGLE], (TRIANGLE,)),
        ([number for corner in TRIANGLE for number in corner], (TRIANGLE,)),
        ([TRIANGLE, SQUARE], (TRIANGLE, SQUARE)),
        (
            [[number for corner in ring for number in corner] for ring in (TRIANGLE, SQUARE)],
            (TRIANGLE, SQUARE),
        ),
    ],
)
def test_a_polygon_is_corners_or_their_numbers_in_one_ring_or_several(written: Any, rings: Any) -> None:
    question = asked(regions=[{"polygon": written}])
    assert [region.prompt for region in question.regions] == [RegionPrompt(polygon=Polygon(rings))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["box", "points", "polygon", "mask", "size", "counts", "part"]), inner
        )
    ),
    max_leaves=6,
)


@given(st.sampled_from(["regions", "placements", "liked", "vector", "weights", "limit", "entity"]), JSON)
def test_whatever_a_line_says_is_taken_or_refused(key: str, value: Any) -> None:
    with suppress(InvalidRequest):
        assert isinstance(asked(**{key: value}), Question)


def test_a_file_that_cannot_be_read_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as missing:
        read_lines(tmp_path / "none.jsonl")
    assert missing.value.message.endswith("none.jsonl': No such file or directory")
    assert missing.value.message.count("none.jsonl") == 1
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9")
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        read_lines(tmp_path / "latin.jsonl")
