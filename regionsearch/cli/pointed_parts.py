"""What is pointed at, in the order in which a command line says it, and where each match should lie.

Every box, mask, polygon and entity opens a new region; a point belongs to the region opened last before it
or, when none is open, to one region made of all such points. `--region` opens one that has nothing yet: what
comes next fills it, points too, so that two clicks can be two regions. `--refine` and the options of a
placement belong to the region opened last before them; where there is only one they may stand anywhere.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regionsearch.errors import InvalidRegion, InvalidRequest
from regionsearch.regions import Box, Mask, Point, Polygon, RegionPrompt

OPENS = ("box", "mask", "polygon", "entity")
BARE = "region"
"""The part of the option that opens a region and says nothing of it."""
PLACEMENT_OPTIONS: Mapping[str, str] = {
    "part": "--place",
    "box": "--place-box",
    "tolerance": "--tolerance",
    "min_area": "--min-area",
    "max_area": "--max-area",
    "label": "--label",
    "min_count": "--min-count",
    "max_count": "--max-count",
    "strict": "--strict-placement",
}
"""By the field of a placement that they fill."""

_OF_PLACEMENT = "placement."


@dataclass(frozen=True, slots=True)
class Said:
    """One such option: the part that it is, and its value as it was typed."""

    part: str
    value: Any


def of_placement(name: str) -> str:
    """The part of a field of a placement."""
    return _OF_PLACEMENT + name


class AppendInOrder(argparse.Action):
    """Keeps all options that point or place in the order in which they were written, under one name.

    part: what the option says; a flag (nargs=0) says True.
    """

    def __init__(self, option_strings: Sequence[str], dest: str, *, part: str, **others: Any) -> None:
        super().__init__(option_strings, "pointed", **others)
        self._part = part

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        value = True if self.nargs == 0 else values
        namespace.pointed = [*(namespace.pointed or []), Said(self._part, value)]


@dataclass(frozen=True, slots=True)
class PointedAt:
    """One thing that is meant. prompt: a region of the picture; entity: one of an indexed image; neither:
    whatever matches. refine: a box means the thing within it. placement: of the match, by field."""

    prompt: RegionPrompt | None = None
    entity: int | None = None
    refine: bool = False
    placement: Mapping[str, Any] = field(default_factory=dict)


def group(parts: Sequence[Said], mask_from: Callable[[Path], Mask]) -> list[PointedAt]:
    """What is meant, in the order in which it was opened; points before everything else come first.

    `mask_from` reads a mask's file. Raises InvalidRegion for a region that has no positive part, and
    InvalidRequest for an option that is given twice for a region, or of which nobody knows to which of
    several it belongs, and for a region that was opened and left empty.
    """
    loose, opened, shared = _Open(), list[_Open](), _Open()
    for said in parts:
        if said.part == BARE:
            if opened:
                opened[-1].refuse_empty()
            opened.append(_Open(bare=True))
        elif said.part in OPENS:
            if opened and opened[-1].is_empty:
                opened[-1].shape = said
            else:
                opened.append(_Open(said))
        elif said.part == "point":
            (opened[-1] if opened else loose).points.append(said.value)
        else:
            last = opened[-1] if opened else (loose if loose.points else shared)
            last.add(said)
    if opened:
        opened[-1].refuse_empty()
    regions = [*([loose] if loose.points else []), *opened]
    if len(regions) == 1:
        for said in shared.settings.values():
            regions[0].add(said)
    elif regions and shared.settings:
        name = _option(next(iter(shared.settings)))
        raise InvalidRequest(
            f"{name} stands before the {len(regions)} regions: put it behind the one that it belongs to",
            field="placements",
        )
    return [region.closed(mask_from) for region in (regions or ([shared] if shared.settings else []))]


@dataclass(slots=True)
class _Open:
    """A region to which more can be said. bare: opened by `--region`."""

    shape: Said | None = None
    points: list[Point] = field(default_factory=list)
    settings: dict[str, Said] = field(default_factory=dict)
    bare: bool = False

    @property
    def is_empty(self) -> bool:
        return self.shape is None and not self.points

    def refuse_empty(self) -> None:
        if self.is_empty:
            raise InvalidRequest(
                "--region opens a region, but nothing says which: put its --point, --box, --mask or "
                "--polygon behind it",
                field="regions",
            )

    def add(self, said: Said) -> None:
        if said.part in self.settings and said.value is not True:
            raise InvalidRequest(
                f"{_option(said.part)} is given twice for the same match", field="placements"
            )
        self.settings[said.part] = said

    def closed(self, mask_from: Callable[[Path], Mask]) -> PointedAt:
        placement = {
            part.removeprefix(_OF_PLACEMENT): said.value
            for part, said in self.settings.items()
            if part.startswith(_OF_PLACEMENT)
        }
        refine = "refine" in self.settings
        kind = None if self.shape is None else self.shape.part
        if refine and (kind != "box" or self.points):
            raise InvalidRequest("--refine needs a --box without points", field="refine")
        if self.shape is not None and kind == "entity":
            if self.points:
                raise InvalidRequest("a point cannot belong to an --entity", field="regions")
            return PointedAt(entity=self.shape.value, placement=placement)
        if self.shape is None and not self.points:
            return PointedAt(placement=placement)
        return PointedAt(self._prompt(mask_from), refine=refine, placement=placement)

    def _prompt(self, mask_from: Callable[[Path], Mask]) -> RegionPrompt:
        points = tuple(self.points)
        if self.shape is None:
            return RegionPrompt(points)
        value = self.shape.value
        match self.shape.part:
            case "box":
                box = Box(*value)
                self._refuse_points_off(box.as_tuple())
                return RegionPrompt(points, box=box)
            case "mask":
                mask = mask_from(value)
                self._refuse_points_off(mask.box().as_tuple())
                return RegionPrompt(points, mask=mask)
            case _:
                polygon = Polygon(value)
                self._refuse_points_off(polygon.extent())
                return RegionPrompt(points, polygon=polygon)

    def _refuse_points_off(self, extent: tuple[float, float, float, float]) -> None:
        """A point that is said to be on the thing, yet lies beside its outline (x0, y0, x1, y1 in whole
        pixels), is mostly meant as another thing: the engine would refuse it too, but not know why."""
        assert self.shape is not None
        left, top = map(math.floor, extent[:2])
        right, bottom = map(math.ceil, extent[2:])
        shape = f"--{self.shape.part}"
        for point in self.points:
            if point.positive and not (left <= point.x < right and top <= point.y < bottom):
                raise InvalidRegion(
                    f"--point {point.x:g},{point.y:g} lies outside the {shape} before it; a point belongs "
                    "to the region opened last: if it is another thing, put --region before it",
                    field="regions",
                )


def _option(part: str) -> str:
    if part.startswith(_OF_PLACEMENT):
        return PLACEMENT_OPTIONS[part.removeprefix(_OF_PLACEMENT)]
    return f"--{part}"
