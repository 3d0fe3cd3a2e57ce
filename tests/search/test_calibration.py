"""Scores that are shares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.errors import InvalidRequest
from regionsearch.search.calibration import QUERY_KINDS, QueryFacts
from regionsearch.search.query import PART_NAMES
from regionsearch.search.scoring import load_scoring, shipped_scoring

TOTALS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(kind=st.sampled_from(QUERY_KINDS), text=st.text(max_size=200), totals=TOTALS)
def test_scores_lie_between_0_and_1_and_keep_the_order_of_sums(
    kind: str, text: str, totals: list[float]
) -> None:
    ordered = np.sort(totals)
    facts = QueryFacts(kind, text, 100, ordered)
    scores = shipped_scoring().calibration.of(facts).scores(ordered)
    assert np.all((scores >= 0) & (scores <= 1))
    assert np.all(np.diff(scores) >= 0)


def test_a_sentence_scores_less_than_a_name_with_the_same_sum() -> None:
    totals = np.array([4.0, 3.0, 2.0])
    name = QueryFacts("words", "a photo of a dog", 100, totals)
    sentence = QueryFacts("words", "a dog that wears a hat sits beside a red chair", 100, totals)
    calibration = shipped_scoring().calibration
    assert np.all(calibration.of(sentence).scores(totals) < calibration.of(name).scores(totals))


def test_only_the_ten_best_sums_say_how_high_a_query_scores_altogether() -> None:
    best = np.arange(10.0)
    assert QueryFacts("words", "", 100, best).company == 4.5
    assert QueryFacts("words", "", 100, np.append(best, [-50.0, -70.0])).company == 4.5
    assert QueryFacts("words", "", 100, np.append(best[:-1], 1000.0)).company == 4.5
    assert QueryFacts("words", "", 100, np.empty(0)).company == 0.0


def test_a_scoring_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "scoring.json"
    file.write_text(json.dumps(shipped_scoring().to_json()))
    assert load_scoring(file) == shipped_scoring()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weights", {"entity": 1.0}),
        ("weights", {**dict.fromkeys(PART_NAMES, 1.0), "entity": -1.0}),
        ("weights", {**dict.fromkeys(PART_NAMES, 1.0), "entity": "much"}),
        ("evidence", {"sharpness": 0.0, "objectness": 1.0, "choice": 1.0}),
        ("evidence", {"sharpness": 3.0, "objectness": 1000.0, "choice": 1.0}),
        ("evidence", {"sharpness": 3.0, "objectness": 1.0, "choice": 1e308}),
        ("evidence", {"sharpness": 1e-300, "objectness": 1.0, "choice": 1.0}),
        ("per_kind", {"sounds": dict.fromkeys(PART_NAMES, 1.0)}),
        (
            "calibration",
            {
                "version": "x",
                "company": 0.5,
                "kinds": {
                    kind: {"intercept": 0.0, "slope": -1.0, "further_words": 0.0} for kind in QUERY_KINDS
                },
            },
        ),
        ("calibration", {"version": "x", "company": 0.5, "kinds": {}}),
    ],
)
def test_a_file_that_is_no_scoring_file_is_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    file = tmp_path / "scoring.json"
    file.write_text(json.dumps({**shipped_scoring().to_json(), key: value}))
    with pytest.raises(InvalidRequest, match=r"scoring\.json is no scoring file|weights"):
        load_scoring(file)


def test_a_scoring_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        load_scoring(tmp_path / "none.json")
