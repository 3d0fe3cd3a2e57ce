"""What the caller wants of a matched entity's place, size, name and number."""

from __future__ import annotations

from dataclasses import dataclass

from regionsearch.regions import Box, FramePart

DEFAULT_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Placement:
    """Everything that is said counts.

    part: part of the frame that the middle of the entity's box lies in: thirds, or halves. box: the box
    that it should have, fractions of the image's width and height; not beside part. tolerance: how far it
    may lie from the part, or its edges from those of the box, until the agreement has fallen to one
    half; a fraction of the frame's sides, above 0, at most 1.
    min_area, max_area: mask over image, 0 to 1; at half or double of them the agreement is one half.
    label: exactly; other entities do not match.
    min_count, max_count: of such entities in the image, 1 at least: those with the label and, if strict, the
    place and size; without a label, of them those that look about as much like what is asked as the best
    (`counting`).
    strict: entities whose middle lies outside the part, with an edge further than the tolerance from that of
    the box, or of another size do not match, nor do other numbers; otherwise they score less (of numbers, all
    entities of the image). A label, and a count beside it, are always strict.
    """

    part: FramePart | None = None
    box: Box | None = None
    tolerance: float = DEFAULT_TOLERANCE
    min_area: float | None = None
    max_area: float | None = None
    label: str | None = None
    min_count: int | None = None
    max_count: int | None = None
    strict: bool = False
