"""What an explanation shows: the question, and each hit with the reasons for its place."""

from __future__ import annotations

from dataclasses import dataclass

from regionsearch.images import Image
from regionsearch.regions import Box, Mask, RegionPrompt


@dataclass(frozen=True, eq=False)
class Pictured:
    """A picture with what is to be outlined in it.

    width, height: of the picture that masks and boxes speak of, pixels. photo: None when no pixels are
    kept; otherwise at any size. outlines: (ordinal of the region, mask). wanted: for each placement with a
    box (ordinal of the region, the box as fractions of the sides). others: masks of further matching
    entities.
    """

    name: str
    width: int
    height: int
    photo: Image | None
    outlines: tuple[tuple[int, Mask], ...] = ()
    prompts: tuple[tuple[int, RegionPrompt], ...] = ()
    wanted: tuple[tuple[int, Box], ...] = ()
    others: tuple[Mask, ...] = ()


@dataclass(frozen=True, eq=False)
class ExplainedQuestion:
    """picture: None for a question without one. text: its words. liked, disliked: examples. facts: what
    else was said, and how it was answered, a line each."""

    picture: Pictured | None
    text: str | None
    liked: tuple[Pictured, ...] = ()
    disliked: tuple[Pictured, ...] = ()
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExplainedPart:
    """A signal: raw (a cosine, or 0 to 1), in deviations from the background, its weight, and the entity
    that it was measured on if it is another than the matched one."""

    name: str
    raw: float
    standardised: float
    weight: float
    entity: int | None = None


@dataclass(frozen=True, slots=True)
class ExplainedMatch:
    """What one of several regions was matched to: entity, cosine, deviations."""

    region: int
    entity: int
    raw: float
    standardised: float


@dataclass(frozen=True, eq=False)
class ExplainedHit:
    """rank: from 1. score: 0 to 1. entity: the matched one in words. entity_arm_rank, global_arm_rank: from
    1, None where the arm did not bring the image. others: (index, score) of further matching entities."""

    picture: Pictured
    rank: int
    score: float
    entity: str
    parts: tuple[ExplainedPart, ...]
    matches: tuple[ExplainedMatch, ...] = ()
    entity_arm_rank: int | None = None
    global_arm_rank: int | None = None
    reread: ExplainedPart | None = None
    others: tuple[tuple[int, float], ...] = ()
