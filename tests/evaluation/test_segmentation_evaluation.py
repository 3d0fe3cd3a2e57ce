"""Whether entities cover annotated objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regionsearch.entities import Entities
from regionsearch.evaluation.coco_annotations import AnnotatedImage, AnnotatedObject
from regionsearch.evaluation.segmentation_evaluation import coverage
from regionsearch.regions import Box, Mask

HEIGHT, WIDTH = 100, 200


def entities_of(boxes: list[tuple[float, float, float, float]]) -> Entities:
    masks = [Mask.from_box(Box(*box), HEIGHT, WIDTH) for box in boxes]
    return Entities.from_masks(masks, np.linspace(1, 0, len(masks), dtype=np.float32))


def photo_of(*things: AnnotatedObject) -> AnnotatedImage:
    return AnnotatedImage("a", Path("a"), WIDTH, HEIGHT, things)


def thing(box: tuple[float, float, float, float], *, outlined: bool = True) -> AnnotatedObject:
    x0, y0, x1, y1 = box
    rings = (((x0, y0), (x1, y0), (x1, y1), (x0, y1)),) if outlined else ()
    return AnnotatedObject("kite", box, (x1 - x0) * (y1 - y0) / (HEIGHT * WIDTH), rings)


def test_an_object_is_found_at_the_depth_of_the_entity_that_covers_it() -> None:
    elsewhere = [(150.0, 50.0, 190.0, 90.0)] * 20
    boxes, masks = coverage(photo_of(thing((10, 10, 50, 50))), entities_of([*elsewhere, (10, 10, 50, 50)]))
    assert boxes.tolist() == [[0, 0, 1, 1]]
    assert masks == pytest.approx([1])


def test_masks_count_within_the_first_32_entities_alone() -> None:
    elsewhere = [(150.0, 50.0, 190.0, 90.0)] * 32
    boxes, masks = coverage(photo_of(thing((10, 10, 50, 50))), entities_of([*elsewhere, (10, 10, 50, 50)]))
    assert boxes.tolist() == [[0, 0, 0, 1]]
    assert masks == pytest.approx([0])


def test_small_objects_and_for_masks_those_without_outline_do_not_count() -> None:
    photo = photo_of(thing((0, 0, 20, 20)), thing((0, 0, 60, 60), outlined=False), thing((100, 0, 160, 60)))
    boxes, masks = coverage(photo, entities_of([(0, 0, 60, 60), (100, 0, 130, 60)]))
    assert boxes[:, 0] == pytest.approx([1, 0.5])
    assert masks == pytest.approx([0.5], abs=0.02)


def test_a_photo_without_large_objects_counts_for_nothing() -> None:
    boxes, masks = coverage(photo_of(thing((0, 0, 10, 10))), entities_of([(0, 0, 10, 10)]))
    assert boxes.shape == (0, 4)
    assert masks.shape == (0,)
