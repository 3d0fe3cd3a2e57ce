"""The program that counts tokens counts what the models would read."""

from __future__ import annotations

from benchmarks.indexing_tokens import row_tokens
from regionsearch.regions import Box


def test_every_entity_is_a_row_and_equal_crops_are_one() -> None:
    alone = row_tokens(480, 640, [])
    box = Box(100, 100, 300, 300)
    one, twice = row_tokens(480, 640, [box]), row_tokens(480, 640, [box, box])
    assert one["virtue"] == 2 * alone["virtue"]
    assert twice["virtue"] == 3 * alone["virtue"]
    assert twice["abc"] == one["abc"] > alone["abc"]
    # 640 × 480 becomes 23 × 17 tokens; ABC keeps at least 256 of a crop, VLM2Vec does not enlarge it.
    assert alone["abc"] == 23 * 17 + 21
    assert one["vlm, VLM2Vec"] < one["abc"]
