"""Which parts of a command line belong to which region."""

from __future__ import annotations

from regionsearch.cli.pointed_parts import Said, group
from regionsearch.cli.question import read_mask
from regionsearch.regions import Box, Point, RegionPrompt


def test_an_opened_region_is_filled_by_what_comes_next() -> None:
    box, other = (10.0, 10.0, 41.0, 39.0), (70.0, 50.0, 109.0, 76.0)
    inside, beside = Point(20, 20), Point(90, 60)
    said = [
        *(Said("box", box), Said("region", True), Said("point", beside), Said("point", inside)),
        *(Said("region", True), Said("placement.part", "left"), Said("box", other), Said("point", beside)),
    ]
    meant = group(said, read_mask)
    assert [one.prompt for one in meant] == [
        RegionPrompt(box=Box(*box)),
        RegionPrompt((beside, inside)),
        RegionPrompt((beside,), box=Box(*other)),
    ]
    assert [dict(one.placement) for one in meant] == [{}, {}, {"part": "left"}]
