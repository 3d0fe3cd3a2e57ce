"""What an empty answer says of its question."""

from __future__ import annotations

import pytest

from regionsearch.cli.answer_table import table_of
from regionsearch.cli.nothing_found import nothing_found
from regionsearch.cli.question import Question


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question(text="a dog"), "no image of the collection can be a match"),
        (Question(image_id="a"), "no other image of the collection can be a match"),
        (Question(image_id="a", include_self=True), "no image of the collection can be a match"),
        (Question(text="a dog", min_score=0.999), "no image of the collection has a score of 0.999 or more"),
        (
            Question(text="a", placements=({"label": "dog"},)),
            "has an entity with the label 'dog'; only records",
        ),
        (
            Question(text="a", placements=({"part": "left", "strict": True},)),
            "what the placement makes a con",
        ),
        (Question(text="a", where="entity.area > 0.9"), "has an entity that meets the filter (--where)"),
        (Question(text="a", page_token="t"), "the pages before hold all hits"),
    ],
)
def test_an_empty_answer_names_what_nothing_meets(question: Question, said: str) -> None:
    sentence = nothing_found(question)
    assert sentence.startswith("nothing found: ")
    assert said in sentence
    empty = {"regions": [], "hits": [], "next_page_token": "", "notes": [], "timing_ms": {}}
    assert sentence in table_of(empty, nothing=sentence).splitlines()


def test_a_placement_that_is_no_condition_is_not_blamed() -> None:
    assert "placement" not in nothing_found(Question(text="a", placements=({"min_count": 2},), min_score=0.9))
