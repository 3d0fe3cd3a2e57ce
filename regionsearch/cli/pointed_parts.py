"""What is pointed at, in the order in which a command line says it, and where each match should lie.

Every box, mask, polygon and entity opens a new region; a point belongs to the region opened last before it
or, when none is open, to one region made of all such points. `--refine` and the options of a placement
belong to the region opened last before them; where there is only one they may stand anywhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regionsearch.errors import InvalidRequest
from regionsearch.regions import Box, Mask, Point, Polygon, RegionPrompt

OPENS = ("box", "mask", "polygon", "entity")
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
    several it belongs.
    """
    loose, opened, shared = _Open(), list[_Open](), _Open()
    for said in parts:
        if said.part in OPENS:
            opened.append(_Open(said))
        elif said.part == "point":
            (opened[-1] if opened else loose).points.append(said.value)
        else:
            last = opened[-1] if opened else (loose if loose.points else shared)
            last.add(said)
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
    """A region to which more can be said."""

    shape: Said | None = None
    points: list[Point] = field(default_factory=list)
    settings: dict[str, Said] = field(default_factory=dict)

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
                return RegionPrompt(points, box=Box(*value))
            case "mask":
                return RegionPrompt(points, mask=mask_from(value))
            case _:
                return RegionPrompt(points, polygon=Polygon(value))


def _option(part: str) -> str:
    if part.startswith(_OF_PLACEMENT):
        return PLACEMENT_OPTIONS[part.removeprefix(_OF_PLACEMENT)]
    return f"--{part}"
