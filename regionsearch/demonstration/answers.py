"""What was answered, and how it compares with what was asked."""

from __future__ import annotations

from dataclasses import dataclass

from regionsearch.demonstration.questions import Question
from regionsearch.images import Image
from regionsearch.regions import Box, Mask, mask_iou


@dataclass(frozen=True, slots=True)
class Part:
    """One signal of a score: name, raw cosine, deviations from the background, weight."""

    name: str
    raw: float
    standardised: float
    weight: float


@dataclass(frozen=True, eq=False)
class Found:
    """One hit: the photo, and the entity that matched, in the photo's pixels. score: 0 to 1."""

    image_id: str
    photo: Image
    score: float
    parts: tuple[Part, ...]
    index: int
    mask: Mask
    box: Box
    area: float


@dataclass(frozen=True, eq=False)
class Answer:
    """The hits, best first; the region that was used, in the query picture; the time of the call."""

    question: Question
    found: tuple[Found, ...]
    used: Mask | None
    milliseconds: float

    @property
    def rank(self) -> int | None:
        """The place, from 1, of the photo that the question was made from; None when it is not among
        the hits, or when the question has no known answer."""
        if self.question.expected is None:
            return None
        ids = [hit.image_id for hit in self.found]
        wanted = self.question.expected.image_id
        return ids.index(wanted) + 1 if wanted in ids else None

    @property
    def overlap(self) -> float | None:
        """Mask IoU, 0 to 1, of the entity returned for that photo with the thing that was asked for."""
        if self.question.expected is None or self.rank is None:
            return None
        return overlap_with(self.found[self.rank - 1], self.question)


def overlap_with(hit: Found, question: Question) -> float | None:
    """Mask IoU of a hit's entity with the thing asked for; None unless the hit is that thing's photo."""
    expected = question.expected
    if expected is None or hit.image_id != expected.image_id:
        return None
    return mask_iou(hit.mask, expected.mask)
