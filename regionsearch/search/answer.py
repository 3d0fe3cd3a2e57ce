"""What is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regionsearch.regions import Mask, RegionPrompt


@dataclass(frozen=True, slots=True)
class PartScore:
    """One signal of a hit: as measured, in deviations from the background, and its weight.

    raw: of `global` and `text_image` a cosine; of `entity` and `text_entity` a soft maximum of cosines, which
    is at most that of the entity that it was measured on, and may lie below -1 (`joint_scoring`); of several
    regions the mean of theirs; of `placement` and `objectness` 0 to 1. entity: ordinal of the entity that
    it was measured on (of several regions, the first's), None for a signal of the whole image; the entity
    that a hit shows may be another.
    """

    raw: float
    standardised: float
    weight: float
    entity: int | None = None


@dataclass(frozen=True, slots=True)
class RerankScore:
    """What the third phase found in a hit that it read again.

    raw: cosine of the query and the candidate as the model reads them. standardised: by how many
    deviations of the images read again it lies above the least similar of them, 0 at least. weight:
    what that counts. joint_score, joint_rank: the hit's score, 0 to 1, and its place, from 1, before.
    """

    raw: float
    standardised: float
    weight: float
    joint_score: float
    joint_rank: int


@dataclass(frozen=True, eq=False)
class MatchedEntity:
    index: int
    box: tuple[float, float, float, float]
    area: float
    objectness: float
    label: str | None
    label_source: str | None
    mask: Mask


@dataclass(frozen=True, eq=False)
class RegionMatch:
    """What region number `region` of the query (from 0) was matched to. raw: their cosine. standardised: the
    same in deviations from the background."""

    region: int
    entity: MatchedEntity
    raw: float
    standardised: float


@dataclass(frozen=True, eq=False)
class EntityMatch:
    """An entity of a hit. score: what the image would score with this entity as its match, 0 to 1."""

    entity: MatchedEntity
    score: float


@dataclass(frozen=True, eq=False)
class Hit:
    """score: 0 to 1, what the calibration makes of the parts' weighted sum and, when the image was read
    again, of `rerank.weight` times `rerank.standardised` added to it.

    entity: the one expected to be the thing asked for (of several regions, the first; `entity_choice`), which
    may be another than its parts were measured on. matches: for each region its own.
    entities: further entities of the image, as many as were asked for, best first.
    entity_arm_rank, global_arm_rank: the image's place in each arm of the first phase, from 1, the best of
    its places where an arm was asked several vectors; None where that arm did not bring it.
    """

    image_id: str
    width: int
    height: int
    score: float
    parts: Mapping[str, PartScore]
    entity: MatchedEntity
    payload: Mapping[str, Any]
    rerank: RerankScore | None = None
    matches: tuple[RegionMatch, ...] = ()
    entities: tuple[EntityMatch, ...] = ()
    entity_arm_rank: int | None = None
    global_arm_rank: int | None = None


@dataclass(frozen=True, eq=False)
class UsedRegion:
    """The region that the query really used, in pixels of the query image."""

    mask: Mask
    prompt: RegionPrompt


@dataclass(frozen=True, eq=False)
class Answer:
    """regions: those used, one for each of the query. timing_ms: milliseconds by stage. background: the
    version of the statistics that standardised the signals. calibration: of what made scores of sums.
    next_page_token: asks for the next hits, "" when there are none. notes: sentences on how it was answered,
    such as of a filter that read records, or of a search that stopped before all was looked at."""

    hits: tuple[Hit, ...]
    regions: tuple[UsedRegion, ...]
    timing_ms: Mapping[str, float]
    background: str
    collection: str
    calibration: str = ""
    next_page_token: str = ""
    notes: tuple[str, ...] = ()
