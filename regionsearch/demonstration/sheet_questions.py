"""The questions of the documentation's contact sheets, with what is a right answer to each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from regionsearch.errors import InvalidRequest

Spot = tuple[float, float]
"""(x, y) as fractions of a photo's width and height."""


@dataclass(frozen=True, slots=True)
class SheetQuestion:
    """What is asked. photo: a photo of the folder. points: clicks on it, each a region of its own;
    entity_at: where the entity lies that is meant by its id, instead. text: words. liked, disliked: photos.
    place: part of the frame. relevant: labels that a right answer has, all of them; without: labels that
    it has none of.
    """

    photo: str | None = None
    points: tuple[Spot, ...] = ()
    entity_at: Spot | None = None
    text: str | None = None
    liked: tuple[str, ...] = ()
    disliked: tuple[str, ...] = ()
    place: str | None = None
    min_area: float | None = None
    max_area: float | None = None
    min_count: int | None = None
    relevant: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def own(self) -> frozenset[str]:
        """Photos that are part of the question and no answers to it."""
        asked = () if self.photo is None else (self.photo,)
        return frozenset((*asked, *self.liked, *self.disliked))

    @property
    def wanted(self) -> str:
        """What a right answer shows, in words."""
        shown = " and ".join(self.relevant)
        return f"{shown}, no {' and no '.join(self.without)}" if self.without else shown


@dataclass(frozen=True, slots=True)
class SheetKind:
    """A kind of question, which has a sheet of its own: name.jpg."""

    name: str
    title: str
    questions: tuple[SheetQuestion, ...]


@dataclass(frozen=True, slots=True)
class SheetPlan:
    """labels: by label, patterns of the ids that have it. kinds: the sheets."""

    labels: Mapping[str, tuple[str, ...]]
    kinds: tuple[SheetKind, ...]

    def labelled(self, image_id: str, label: str) -> bool:
        return any(fnmatchcase(image_id, pattern) for pattern in self.labels[label])

    def is_relevant(self, question: SheetQuestion, image_id: str) -> bool:
        return all(self.labelled(image_id, label) for label in question.relevant) and not any(
            self.labelled(image_id, label) for label in question.without
        )


def read_plan(path: Path) -> SheetPlan:
    """Raises InvalidRequest for a file that is none, and for a label that nothing has."""
    try:
        said = json.loads(path.read_text("utf-8"))
        labels = {label: tuple(patterns) for label, patterns in said["labels"].items()}
        kinds = tuple(
            SheetKind(kind["name"], kind["title"], tuple(map(_question, kind["questions"])))
            for kind in said["kinds"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequest(
            f"{str(path)!r} is no file of questions: {error!r:.200}", field="questions"
        ) from error
    for kind in kinds:
        for question in kind.questions:
            unknown = [label for label in (*question.relevant, *question.without) if label not in labels]
            if unknown or not question.relevant:
                raise InvalidRequest(
                    f"{str(path)!r}: a question of {kind.name!r} has "
                    + (f"the unknown label {unknown[0]!r}" if unknown else "no label of a right answer"),
                    field="questions",
                )
    return SheetPlan(labels, kinds)


def _question(said: Mapping[str, Any]) -> SheetQuestion:
    lists = ("points", "liked", "disliked", "relevant", "without")
    fields: dict[str, Any] = {name: tuple(value) if name in lists else value for name, value in said.items()}
    if "points" in fields:
        fields["points"] = tuple((float(x), float(y)) for x, y in fields["points"])
    if "entity_at" in fields:
        x, y = fields["entity_at"]
        fields["entity_at"] = (float(x), float(y))
    return SheetQuestion(**fields)
