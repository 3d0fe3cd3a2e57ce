"""What was answered, and how it compares with what was asked."""

from __future__ import annotations

from dataclasses import dataclass

from regionsearch.demonstration.questions import Question, mask_from_view
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
    """One hit: the photo, and the entity that matched, in the photo's pixels. score: 0 to 1. others: what
    further regions of the question were matched to."""

    image_id: str
    photo: Image
    score: float
    parts: tuple[Part, ...]
    index: int
    mask: Mask
    box: Box
    area: float
    others: tuple[Mask, ...] = ()


@dataclass(frozen=True, eq=False)
class Answer:
    """The hits, best first; the region that was used (of several the first), in the query picture; the
    time of the call."""

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
        """`overlap_of` the hit at that place."""
        return None if self.rank is None else self.overlap_of(self.found[self.rank - 1])

    def overlap_of(self, hit: Found) -> float | None:
        """Mask IoU, 0 to 1, of a hit's entity with what was asked for; None unless the hit is the photo
        that the question was made from.

        What a click asks for is what the segmenter takes it to mean: the region that was used.
        """
        expected = self.question.expected
        if expected is None or hit.image_id != expected.image_id:
            return None
        asked = expected.mask
        if self.question.kind == "point" and self.used is not None:
            asked = mask_from_view(self.used, asked.height, asked.width)
        return mask_iou(hit.mask, asked)
