"""What a placement must be before anything is searched with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from regionsearch.errors import InvalidRequest
from regionsearch.regions import FRAME_PARTS
from regionsearch.search.agreement import is_about_place
from regionsearch.search.counting import wants_count
from regionsearch.search.placement import DEFAULT_TOLERANCE, Placement

FRACTION_SLACK = 1e-6
"""How far above 1 a box's edge may reach: 1 - width + width in float32 passes it."""
MAX_LABEL_CHARACTERS = 1_000


def check_placements(placements: Sequence[Placement], matches: int) -> None:
    """matches: entities that a hit is matched with: one for each region or entity of the query, or one.

    Raises InvalidRequest, naming the field, for a placement that says nothing that could be true, or when
    there is not one for each match.
    """
    if placements and len(placements) != matches:
        raise InvalidRequest(
            f"the query has {len(placements)} placements for {matches} matched "
            f"{'entity' if matches == 1 else 'entities'}; give one for each region (or entity of image_id), "
            "or one for a query without them",
            field=f"placements[{min(len(placements), matches)}]",
        )
    for number, placement in enumerate(placements):
        _check(placement, f"placements[{number}]")


def _check(placement: Placement, path: str) -> None:
    if placement.part is not None and placement.part not in FRAME_PARTS:
        raise InvalidRequest(
            f"there is no part {placement.part!r} of the frame; there are: {', '.join(FRAME_PARTS)}",
            field=f"{path}.part",
        )
    if placement.box is not None:
        if placement.part is not None:
            raise InvalidRequest("give a part of the frame or a box, not both", field=f"{path}.box")
        edges = placement.box.as_tuple()
        if min(edges) < 0 or max(edges) > 1 + FRACTION_SLACK:
            raise InvalidRequest(
                f"the box {placement.box} of a placement is in fractions of the frame, 0 to 1",
                field=f"{path}.box",
            )
    _check_tolerance(placement, path)
    for name in ("min_area", "max_area"):
        area = getattr(placement, name)
        if area is not None and not 0 <= area <= 1:
            raise InvalidRequest(f"{name} is {area:g}; it is mask over image, 0 to 1", field=f"{path}.{name}")
    if (
        placement.min_area is not None
        and placement.max_area is not None
        and placement.max_area < placement.min_area
    ):
        raise InvalidRequest(
            f"max_area is {placement.max_area:g}, below min_area, {placement.min_area:g}",
            field=f"{path}.max_area",
        )
    _check_label(placement.label, path)
    _check_counts(placement, path)
    _check_strict(placement, path)


def _check_tolerance(placement: Placement, path: str) -> None:
    tolerance = placement.tolerance
    if not (math.isfinite(tolerance) and 0 < tolerance <= 1):
        raise InvalidRequest(
            f"tolerance is {tolerance:g}; it is a fraction of the frame's sides, above 0, at most 1",
            field=f"{path}.tolerance",
        )
    if placement.part is None and placement.box is None and tolerance != DEFAULT_TOLERANCE:
        raise InvalidRequest("a placement's tolerance needs a part or a box", field=f"{path}.tolerance")


def _check_label(label: str | None, path: str) -> None:
    if label is None:
        return
    if not label:
        raise InvalidRequest("the label is empty", field=f"{path}.label")
    if len(label) > MAX_LABEL_CHARACTERS:
        raise InvalidRequest(
            f"the label has {len(label)} characters; the limit is {MAX_LABEL_CHARACTERS}",
            field=f"{path}.label",
        )


def _check_counts(placement: Placement, path: str) -> None:
    for name in ("min_count", "max_count"):
        count = getattr(placement, name)
        if count is not None and count < 1:
            raise InvalidRequest(
                f"{name} is {count}; it must be at least 1, as every hit has a match", field=f"{path}.{name}"
            )
    if (
        placement.min_count is not None
        and placement.max_count is not None
        and placement.max_count < placement.min_count
    ):
        raise InvalidRequest(
            f"max_count is {placement.max_count}, below min_count, {placement.min_count}",
            field=f"{path}.max_count",
        )


def _check_strict(placement: Placement, path: str) -> None:
    counts = wants_count(placement) and placement.label is None
    if placement.strict and not (is_about_place(placement) or counts):
        raise InvalidRequest(
            "the placement has nothing to be strict about: a part, a box, an area, or a count without a label"
            + ("; a label, and a count beside it, are always strict" if placement.label is not None else ""),
            field=f"{path}.strict",
        )
