"""The questions that annotations make possible, each with the photos that answer it."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from regionsearch.evaluation.coco_annotations import AnnotatedImage, AnnotatedObject, AnnotatedPhotos

CLASS_QUERY = "a photo of a {}"
WITH_QUERY = "with a {}"
MIN_IMAGES_OF_QUERIED_CLASS = 3
MIN_COMPOSED_ANSWERS = 3
COMPOSED_IMAGES_PER_PAIR = 5
SEED = 0
HELD_OUT_CLASSES = 20
"""Classes that no weight and no calibration is fitted on; their figures are reported apart."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what answers it.

    group: questions of one group (a class, a pair of classes) are averaged before groups are.
    relevant: ids of the photos that answer it. text: what is asked in words.
    image_id: the photo that the question comes from; it counts as often as that photo is drawn.
    box: the region in that photo, [x0, y0, x1, y1) pixels. A question with pixels leaves its own photo
    out of the ranking.
    """

    group: str
    relevant: frozenset[str]
    text: str | None = None
    image_id: str | None = None
    box: tuple[float, float, float, float] | None = None

    @property
    def left_out(self) -> str | None:
        return self.image_id if self.box is not None else None


def class_questions(photos: AnnotatedPhotos) -> list[Question]:
    """Text to image: one for each class that is in three photos or more."""
    return [
        Question(group=name, relevant=frozenset(ids), text=CLASS_QUERY.format(name))
        for name, ids in sorted(images_by_class(photos).items())
        if len(ids) >= MIN_IMAGES_OF_QUERIED_CLASS
    ]


def region_questions(photos: AnnotatedPhotos) -> list[Question]:
    """Region to image: for each photo and class in it the largest box, if that is large, and if the
    class is in another photo too."""
    holders = images_by_class(photos)
    questions = []
    for image in photos.images:
        for name in sorted(image.classes):
            largest = _largest(image.of_class(name))
            others = frozenset(holders[name] - {image.image_id})
            if largest.is_large and others:
                questions.append(
                    Question(group=name, relevant=others, image_id=image.image_id, box=largest.box)
                )
    return questions


def composed_questions(photos: AnnotatedPhotos, seed: int = SEED) -> list[Question]:
    """Region and words: the largest A of a photo that has a large A and no B, `with a {B}`.

    For each ordered pair of classes that three photos hold together, at most five photos, drawn by
    `seed` and the names of the pair (so that a pair's photos do not depend on the other pairs).
    """
    holders = images_by_class(photos)
    large = {
        (image.image_id, name): _largest(image.of_class(name))
        for image in photos.images
        for name in image.classes
    }
    questions = []
    for first, second in itertools.permutations(sorted(holders), 2):
        answers = frozenset(holders[first] & holders[second])
        if len(answers) < MIN_COMPOSED_ANSWERS:
            continue
        sources = sorted(id_ for id_ in holders[first] - holders[second] if large[id_, first].is_large)
        chosen = random.Random(f"{seed}|{first}|{second}").sample(
            sources, min(COMPOSED_IMAGES_PER_PAIR, len(sources))
        )
        questions += [
            Question(
                group=f"{first} + {second}",
                relevant=answers,
                text=WITH_QUERY.format(second),
                image_id=image_id,
                box=large[image_id, first].box,
            )
            for image_id in chosen
        ]
    # Ordered by photo, so that a photo is decoded once.
    return sorted(questions, key=lambda question: (question.image_id, question.group))


def caption_questions(photos: AnnotatedPhotos) -> list[Question]:
    """Caption to image: the photo that was described is the one answer."""
    return [
        Question(
            group="captions", relevant=frozenset({image.image_id}), text=caption, image_id=image.image_id
        )
        for image in photos.images
        for caption in image.captions
    ]


def held_out_classes(names: Iterable[str]) -> frozenset[str]:
    """The 20 classes whose names have the least sha256, so that nobody chose them."""
    by_digest = sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return frozenset(by_digest[:HELD_OUT_CLASSES])


def images_by_class(photos: AnnotatedPhotos) -> dict[str, set[str]]:
    holders: dict[str, set[str]] = defaultdict(set)
    for image in photos.images:
        for name in image.classes:
            holders[name].add(image.image_id)
    return holders


def classes_with_large_object(images: Iterable[AnnotatedImage]) -> frozenset[str]:
    return frozenset(thing.class_name for image in images for thing in image.objects if thing.is_large)


def _largest(things: tuple[AnnotatedObject, ...]) -> AnnotatedObject:
    # max keeps the first of equals: the order of the file decides.
    return max(things, key=lambda thing: thing.box_area)
