"""What the command line shows of an answer, and names as the engine does."""

from __future__ import annotations

from regionsearch.cli.answer_json import PARTS, STAGES, answer_to_json
from regionsearch.cli.answer_table import table_of
from regionsearch.search import PART_NAMES, Answer, query


def test_the_parts_of_the_score_are_those_of_the_engine() -> None:
    assert PARTS == PART_NAMES


def test_a_long_id_moves_its_own_line_alone_and_a_later_page_says_that_it_is_one() -> None:
    entity = {"index": 0, "label": None, "box": [0, 0, 9, 9]}
    hit = {"score": 0.5, "parts": {}, "rerank": None, "entity": entity, "matches": [], "entities": []}
    hit |= {"entity_arm_rank": None, "global_arm_rank": None}
    hits = [{**hit, "image_id": name} for name in ("a.jpg", "longer.jpg", "x" * 200)]
    answer = {"regions": [], "hits": hits, "next_page_token": "", "notes": ["told"], "timing_ms": {}}
    starts = [line.index("entity") for line in table_of(answer).splitlines()[:3]]
    assert starts[0] == starts[1] < 30
    assert starts[2] > 200
    assert "note: told" in table_of(answer).splitlines()
    assert "numbered" not in table_of(answer)
    assert table_of(answer, later_page=True).startswith("a later page: its hits are numbered from 1")


def test_stages_are_named_in_their_order_whatever_order_they_come_in() -> None:
    assert STAGES == query.STAGES
    timing = dict.fromkeys(("later", *reversed(STAGES)), 1.0)
    told = Answer((), (), timing, "background", "collection")
    assert list(answer_to_json(told)["timing_ms"]) == [*STAGES, "later"]
