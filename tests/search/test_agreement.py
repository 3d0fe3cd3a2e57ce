"""How far an entity agrees with a wanted place and size, and when it may match at all."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import agreement_of, may_match, random_record
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.collection import Candidate, Candidates, ImageRecord
from regionsearch.regions import FRAME_PARTS, Box
from regionsearch.search import Placement
from regionsearch.search.agreement import EntityFacts, agreement, agreements, allowed


def facts_of(records: list[ImageRecord]) -> EntityFacts:
    candidates = [
        Candidate(
            number=number,
            image_id=record.image_id,
            vectors=record.vectors,
            boxes=record.entities.boxes,
            areas=record.entities.areas,
            objectness=record.entities.objectness,
            width=record.width,
            height=record.height,
            labels=record.entities.labels,
        )
        for number, record in enumerate(records)
    ]
    return EntityFacts.of(Candidates.of(candidates))


def entity(x0: float, y0: float, x1: float, y1: float, area: float = 0.1) -> EntityFacts:
    """One entity, its box in fractions of the frame."""
    return EntityFacts(np.array([[x0, y0, x1, y1]]), np.array([area]), [None], np.array([0, 1]))


placements = st.builds(
    Placement,
    part=st.sampled_from(FRAME_PARTS),
    tolerance=st.sampled_from([0.05, 0.1, 0.5]),
    min_area=st.none() | st.sampled_from([0.05, 0.2]),
    max_area=st.none() | st.sampled_from([0.3, 0.9]),
    label=st.none() | st.sampled_from(["dog", "cat"]),
    strict=st.booleans(),
) | st.builds(
    Placement,
    box=st.sampled_from([Box(0, 0, 0.5, 0.5), Box(0.1, 0.2, 0.9, 1.0)]),
    tolerance=st.sampled_from([0.05, 0.3]),
    strict=st.booleans(),
)


@given(st.integers(0, 2**32 - 1), st.lists(placements, min_size=1, max_size=3))
def test_every_entity_agrees_as_one_by_one(seed: int, wanted: list[Placement]) -> None:
    generator = np.random.default_rng(seed)
    records = [random_record(generator, str(number)) for number in range(3)]
    facts = facts_of(records)
    one_by_one = [(record, ordinal) for record in records for ordinal in range(len(record.entities))]
    agreed = agreements(wanted, facts)
    assert agreed is not None
    np.testing.assert_allclose(
        agreed, [[agreement_of(*each, placement) for placement in wanted] for each in one_by_one], atol=1e-9
    )
    may = allowed(wanted, facts)
    expected = [[may_match(*each, placement) for placement in wanted] for each in one_by_one]
    assert expected == (np.ones_like(expected).tolist() if may is None else may.tolist())


@pytest.mark.parametrize("tolerance", [0.05, 0.1, 0.25])
def test_agreement_with_a_part_is_one_within_it_and_half_at_the_tolerance(tolerance: float) -> None:
    left = Placement(part="left", tolerance=tolerance)
    assert agreement(left, entity(0.1, 0.4, 0.5, 0.6))[0] == pytest.approx(1.0)
    away = 1 / 3 + tolerance
    assert agreement(left, entity(away - 0.05, 0.4, away + 0.05, 0.6))[0] == pytest.approx(0.5)
    assert agreement(left, entity(0.9, 0.4, 1.0, 0.6))[0] < 0.01 or tolerance == 0.25


def test_agreement_with_a_box_is_half_when_its_worst_edge_is_off_by_the_tolerance() -> None:
    wanted = Placement(box=Box(0.2, 0.2, 0.6, 0.6), tolerance=0.1)
    assert agreement(wanted, entity(0.2, 0.2, 0.6, 0.6))[0] == pytest.approx(1.0)
    assert agreement(wanted, entity(0.2, 0.2, 0.7, 0.6))[0] == pytest.approx(0.5)
    assert agreement(wanted, entity(0.25, 0.2, 0.7, 0.55))[0] == pytest.approx(0.5)


def test_agreement_with_an_area_is_half_at_half_or_double() -> None:
    wanted = Placement(min_area=0.1, max_area=0.2)
    by_area = [agreement(wanted, entity(0, 0, 1, 1, area))[0] for area in (0.05, 0.1, 0.2, 0.4)]
    assert by_area == pytest.approx([0.5, 1.0, 1.0, 0.5])
    assert agreement(Placement(max_area=0.0), entity(0, 0, 1, 1))[0] == 0.0


@given(st.sampled_from(FRAME_PARTS), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_agreement_moves_little_with_little_movement(part: str, x: float, y: float) -> None:
    wanted = Placement(part=part)  # type: ignore[arg-type]
    here = agreement(wanted, entity(x, y, x + 1e-9, y + 1e-9))[0]
    near = agreement(wanted, entity(x + 1e-4, y, x + 1e-4 + 1e-9, y + 1e-9))[0]
    assert abs(here - near) < 2e-3


def test_nothing_is_asked_of_entities_where_nothing_is_wanted() -> None:
    facts = entity(0, 0, 1, 1)
    assert agreements([Placement(), Placement(label="dog")], facts) is None
    assert allowed([Placement(), Placement(part="left")], facts) is None
    assert allowed([Placement(strict=True)], facts) is None
    both = agreements([Placement(), Placement(part="left")], facts)
    assert both is not None
    assert both[0, 0] == 1.0


def test_each_strict_condition_is_met_at_its_edge() -> None:
    def may(placement: Placement, facts: EntityFacts) -> bool:
        answer = allowed([placement], facts)
        assert answer is not None
        return bool(answer[0, 0])

    assert may(Placement(part="left_half", strict=True), entity(0.4, 0, 0.6, 1))
    assert not may(Placement(part="left_half", strict=True, tolerance=1.0), entity(0.41, 0, 0.6, 1))
    box = Placement(box=Box(0, 0, 0.5, 0.5), tolerance=0.25, strict=True)
    assert may(box, entity(0.25, 0, 0.75, 0.5))
    assert not may(box, entity(0.25, 0, 0.76, 0.5))
    assert may(Placement(min_area=0.1, max_area=0.1, strict=True), entity(0, 0, 1, 1, 0.1))
    assert not may(Placement(min_area=0.11, strict=True), entity(0, 0, 1, 1, 0.1))
