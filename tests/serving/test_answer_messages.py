"""What the engine answers is what the client reads, whatever of it is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import LIMITS

from regionsearch.client import answers as read
from regionsearch.client import search_responses
from regionsearch.errors import AnswerTooLarge
from regionsearch.regions import Box, Mask, Point, RegionPrompt
from regionsearch.search import answer as made
from regionsearch.search.query import PART_NAMES
from regionsearch.serving import answer_messages
from regionsearch.serving.answer_messages import ENTITIES_TOGETHER, answer_to_message
from regionsearch.v1 import search_pb2 as pb
from regionsearch.v1 import types_pb2

numbers = st.floats(allow_nan=False, allow_infinity=False)
fractions = st.floats(0, 1)
ranks = st.none() | st.integers(1, 2**31)


def entity_of(index: int, image: int) -> made.MatchedEntity:
    """The entity of this index of this image: always the same."""
    label = None if index % 2 else f"label {index}"
    pixels = np.zeros((6, 9), dtype=bool)
    pixels[image : image + 2, index : index + 2] = True
    return made.MatchedEntity(
        index,
        (index, image, index + 2, image + 2),
        4 / 54,
        index / 8,
        label,
        label and "given",
        Mask.from_array(pixels),
    )


@st.composite
def hits(draw: st.DrawFn) -> made.Hit:
    image = draw(st.integers(0, 4))
    entities = st.integers(0, 6).map(lambda index: entity_of(index, image))
    matches = draw(st.lists(st.tuples(entities, numbers, numbers), max_size=3))
    parts = st.builds(made.PartScore, numbers, numbers, fractions, st.none() | st.integers(0, 6))
    return made.Hit(
        image_id=f"p{image}",
        width=9,
        height=6,
        score=draw(fractions),
        parts=draw(st.dictionaries(st.sampled_from(PART_NAMES), parts)),
        entity=matches[0][0] if matches else draw(entities),
        payload=draw(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)),
        rerank=draw(
            st.none() | st.builds(made.RerankScore, numbers, numbers, fractions, fractions, st.integers(1, 9))
        ),
        matches=tuple(made.RegionMatch(region, *match) for region, match in enumerate(matches)),
        entities=tuple(draw(st.lists(st.builds(made.EntityMatch, entities, fractions), max_size=4))),
        entity_arm_rank=draw(ranks),
        global_arm_rank=draw(ranks),
    )


regions = st.integers(0, 5).map(
    lambda index: made.UsedRegion(
        entity_of(index, 1).mask, RegionPrompt((Point(1, 2),), mask=entity_of(2, 2).mask)
    )
)
answers = st.builds(
    made.Answer,
    st.lists(hits(), max_size=4).map(tuple),
    st.lists(regions, max_size=2).map(tuple),
    st.dictionaries(st.sampled_from(["decode", "joint"]), fractions),
    st.text(max_size=3),
    st.text(max_size=3),
    st.text(max_size=3),
    st.text(max_size=3),
)


def as_the_client_has_it(entity: made.MatchedEntity, masks: bool) -> read.Entity:
    label_source: Any = entity.label_source
    return read.Entity(
        entity.index,
        Box(*entity.box),
        entity.area,
        entity.objectness,
        entity.label,
        label_source,
        entity.mask if masks else None,
    )


@given(answers, st.booleans(), st.booleans(), st.booleans())
def test_an_answer_is_read_as_it_was_made(
    answer: made.Answer, masks: bool, payload: bool, parts: bool
) -> None:
    request = pb.SearchRequest(without_masks=not masks, without_payload=not payload, without_parts=not parts)
    sent = answer_to_message(answer, request, LIMITS.message_bytes).SerializeToString()
    received = search_responses.answer(pb.SearchResponse.FromString(sent))
    assert (received.collection, received.background) == (answer.collection, answer.background)
    assert (received.calibration, received.next_page_token) == (answer.calibration, answer.next_page_token)
    assert received.timing_ms.items() >= answer.timing_ms.items()
    assert [used.mask for used in received.regions] == [
        used.mask if masks else None for used in answer.regions
    ]
    for hit, original in zip(received.hits, answer.hits, strict=True):
        assert hit == read.Hit(
            original.image_id,
            original.width,
            original.height,
            original.score,
            {name: read.PartScore(**vars_of(part)) for name, part in original.parts.items()} if parts else {},
            as_the_client_has_it(original.entity, masks),
            dict(original.payload) if payload else None,
            read.RerankScore(**vars_of(original.rerank)) if parts and original.rerank else None,
            tuple(
                read.RegionMatch(
                    match.region, as_the_client_has_it(match.entity, masks), match.raw, match.standardised
                )
                for match in original.matches
            ),
            tuple(
                read.EntityMatch(as_the_client_has_it(match.entity, masks), match.score)
                for match in original.entities
            ),
            original.entity_arm_rank,
            original.global_arm_rank,
        )


def crowded(image: int, entities: int) -> made.Hit:
    first, *others = (entity_of(index % 7, image % 5) for index in range(entities))
    further = tuple(made.EntityMatch(entity, 0.5) for entity in others)
    return made.Hit(f"p{image}", 9, 6, 0.5, {}, first, {}, entities=further)


@pytest.mark.parametrize("crowd", [1, 700, ENTITIES_TOGETHER + 1])
def test_hits_become_messages_in_groups_and_none_is_lost(crowd: int) -> None:
    hits = tuple(crowded(number, crowd) for number in range(7))
    answer = made.Answer(hits, (), {}, "", "c")
    message = answer_to_message(answer, pb.SearchRequest(), 10_000_000)
    assert [hit.image_id for hit in message.hits] == [f"p{number}" for number in range(7)]
    assert {len(hit.entities) for hit in message.hits} == {crowd - 1}
    assert answer_to_message(answer, pb.SearchRequest(), message.ByteSize() + 10).hits == message.hits
    with pytest.raises(AnswerTooLarge, match=r"limits\.message_bytes"):
        answer_to_message(answer, pb.SearchRequest(), message.ByteSize() - 20)


def test_of_an_answer_that_is_too_large_no_more_is_made_than_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    made_messages = 0
    to_message = answer_messages.masks_to_messages

    def counted(masks: Sequence[Mask]) -> list[types_pb2.Mask]:
        nonlocal made_messages
        made_messages += len(masks)
        return to_message(masks)

    monkeypatch.setattr(answer_messages, "masks_to_messages", counted)
    hits = tuple(crowded(number, 1_000) for number in range(50))
    with pytest.raises(AnswerTooLarge):
        answer_to_message(made.Answer(hits, (), {}, "", "c"), pb.SearchRequest(), 150_000)
    assert made_messages <= 4 * 7


def vars_of(value: made.PartScore | made.RerankScore) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}
