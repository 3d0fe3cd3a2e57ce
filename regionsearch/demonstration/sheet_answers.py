"""Asks the questions of a sheet, judges the answers, and picks those that are shown by a rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from regionsearch.client import Client, Entity, Example, Hit, Placement, Region
from regionsearch.demonstration.sheet_questions import SheetPlan, SheetQuestion, Spot
from regionsearch.errors import InvalidRequest
from regionsearch.images import Image, load_image
from regionsearch.regions import Mask

SHOWN_EACH = 2
"""Questions with the best answers that a sheet shows, and as many with the worst."""


@dataclass(frozen=True, eq=False)
class SheetHit:
    """One hit. outlines: (ordinal of the region, mask). right: whether it is a right answer."""

    image_id: str
    photo: Image
    score: float
    outlines: tuple[tuple[int, Mask], ...]
    right: bool


@dataclass(frozen=True, eq=False)
class JudgedAnswer:
    """average_precision: over all photos but the question's own, 0 to 1. relevant, ranked: how many of them
    are right, and how many there are. used: the regions of the question, of its photo. examples: the photos
    of liked and disliked ones."""

    question: SheetQuestion
    photo: Image | None
    used: tuple[Mask, ...]
    hits: tuple[SheetHit, ...]
    average_precision: float
    relevant: int
    ranked: int
    liked: tuple[Image, ...] = ()
    disliked: tuple[Image, ...] = ()


def average_precision(right: Sequence[bool], relevant: int) -> float:
    """The mean over all `relevant` answers of the precision at each one's place; those that are not in the
    ranking count 0."""
    found, total = 0, 0.0
    for place, is_right in enumerate(right, start=1):
        if is_right:
            found += 1
            total += found / place
    return total / relevant if relevant else 0.0


def best_and_worst(answers: Sequence[JudgedAnswer]) -> list[JudgedAnswer]:
    """The two with the highest average precision, and the two with the lowest, in that order; in the
    questions' order where it is equal. Fewer questions are shown once each."""
    ranked = sorted(answers, key=lambda answer: answer.average_precision, reverse=True)
    if len(ranked) <= 2 * SHOWN_EACH:
        return ranked
    return ranked[:SHOWN_EACH] + ranked[-SHOWN_EACH:]


class SheetReader:
    """Asks a server about the photos of a folder, whose ids are their paths below it."""

    def __init__(self, client: Client, collection: str, folder: Path, plan: SheetPlan) -> None:
        self._client = client
        self._collection = collection
        self._folder = folder
        self._plan = plan
        self._ids = [summary.image_id for summary in client.list_images(collection)]

    def ask(self, question: SheetQuestion, shown: int) -> JudgedAnswer:
        """The judged answer with its first `shown` hits.

        Raises InvalidRequest when the folder lacks a photo of the question.
        """
        for image_id in question.own:
            if image_id not in self._ids:
                raise InvalidRequest(f"the folder has no photo {image_id!r}", field="questions")
        by_id = question.entity_at is not None
        entities = (
            () if question.entity_at is None else (self._entity_at(question.photo, question.entity_at),)
        )
        answer = self._client.search(
            self._collection,
            image=None if question.photo is None or by_id else self._folder / question.photo,
            image_id=question.photo if by_id else None,
            entities=[index for index, _ in entities],
            regions=[Region(points=[(*point, 1)], normalised=True) for point in question.points],
            text=question.text,
            liked=[Example(image_id) for image_id in question.liked],
            disliked=[Example(image_id) for image_id in question.disliked],
            placements=_placements(question),
            limit=len(self._ids),
        )
        hits = [hit for hit in answer.hits if hit.image_id not in question.own]
        others = [image_id for image_id in self._ids if image_id not in question.own]
        relevant = sum(self._plan.is_relevant(question, image_id) for image_id in others)
        right = [self._is_right(question, hit) for hit in hits]
        regions = tuple(region.mask for region in answer.regions if region.mask is not None)
        return JudgedAnswer(
            question,
            None if question.photo is None else self._photo(question.photo),
            regions or tuple(mask for _, mask in entities),
            tuple(self._hit(hit, is_right) for hit, is_right in zip(hits[:shown], right, strict=False)),
            average_precision(right, relevant),
            relevant,
            len(others),
            tuple(map(self._photo, question.liked)),
            tuple(map(self._photo, question.disliked)),
        )

    def _is_right(self, question: SheetQuestion, hit: Hit) -> bool:
        """Of a question that asks for a place or a size, the matched entity must have it too."""
        if not self._plan.is_relevant(question, hit.image_id):
            return False
        box = hit.entity.box
        middle = ((box.x0 + box.x1) / 2 / hit.width, (box.y0 + box.y1) / 2 / hit.height)
        return (
            (question.place is None or _PLACES[question.place](middle))
            and (question.min_area is None or hit.entity.area >= question.min_area)
            and (question.max_area is None or hit.entity.area <= question.max_area)
        )

    def _hit(self, hit: Hit, right: bool) -> SheetHit:
        matched = [(match.region, match.entity.mask) for match in hit.matches]
        outlines = matched if len(matched) > 1 else [(0, hit.entity.mask)]
        known = tuple((region, mask) for region, mask in outlines if mask is not None)
        return SheetHit(hit.image_id, self._photo(hit.image_id), hit.score, known, right)

    def _entity_at(self, image_id: str | None, spot: Spot) -> tuple[int, Mask]:
        """(index, mask) of the entity that looks most like a thing of its own among those over that spot;
        where none is, among those whose box holds it, and else among all.

        Raises InvalidRequest without a photo.
        """
        if image_id is None:
            raise InvalidRequest("entity_at needs a photo", field="questions")
        stored = self._client.get_image(self._collection, image_id, entities=True, masks=True)

        def worth(entity: Entity) -> tuple[bool, bool, float, int]:
            mask = entity.mask or Mask.full(stored.summary.height, stored.summary.width)
            x, y = spot[0] * mask.width, spot[1] * mask.height
            return mask.contains_point(x, y), entity.box.contains(x, y), entity.objectness, -entity.index

        meant = max(stored.entities, key=worth)
        return meant.index, meant.mask or Mask.full(stored.summary.height, stored.summary.width)

    def _photo(self, image_id: str) -> Image:
        return load_image(self._folder / image_id)


_PLACES: dict[str, Callable[[Spot], bool]] = {
    "left_half": lambda middle: middle[0] < 1 / 2,
    "right_half": lambda middle: middle[0] >= 1 / 2,
    "top_half": lambda middle: middle[1] < 1 / 2,
    "bottom_half": lambda middle: middle[1] >= 1 / 2,
    "centre": lambda middle: all(1 / 3 <= along <= 2 / 3 for along in middle),
}


def _placements(question: SheetQuestion) -> list[Placement]:
    said = {
        "part": question.place,
        "min_area": question.min_area,
        "max_area": question.max_area,
        "min_count": question.min_count,
    }
    return [Placement(**said)] if any(value is not None for value in said.values()) else []  # type: ignore[arg-type]
