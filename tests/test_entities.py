"""The entities of one image agree with each other, or are refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRecord, InvalidRegion
from regionsearch.regions import Box, Mask


def pair() -> Entities:
    """Two entities of an image of 48 × 64 pixels, the second one labelled."""
    masks = [Mask.from_box(Box(0, 0, 32, 24), 48, 64), Mask.from_box(Box(10, 20, 14, 40), 48, 64)]
    plain = Entities.from_masks(masks, np.array([0.9, 0.2], dtype=np.float32))
    return replace(plain, labels=(None, "dog"), label_sources=(None, "given"))


@given(
    st.lists(hnp.arrays(np.bool_, (6, 9)).filter(lambda pixels: bool(pixels.any())), min_size=1, max_size=4),
    st.data(),
)
def test_boxes_and_areas_follow_from_the_masks(layers: list[NDArray[np.bool_]], data: st.DataObject) -> None:
    objectness = data.draw(hnp.arrays(np.float32, len(layers), elements=st.floats(0, 1, width=32)))
    entities = Entities.from_masks([Mask.from_array(layer) for layer in layers], objectness)
    assert len(entities) == len(layers)
    for index, layer in enumerate(layers):
        rows, columns = np.nonzero(layer)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert entities.boxes[index].tolist() == tight
        assert entities.areas[index] == pytest.approx(layer.mean())
        assert (entities.masks[index].to_array() == layer).all()
    assert (entities.objectness == objectness).all()
    assert set(entities.labels) == set(entities.label_sources) == {None}


def test_an_image_without_things_is_one_entity_of_the_whole_frame() -> None:
    frame = Entities.whole_frame(48, 64)
    assert len(frame) == 1
    assert frame.boxes.tolist() == [[0, 0, 64, 48]]
    assert frame.areas.tolist() == [1]
    assert frame.objectness.tolist() == [0]
    assert frame.masks[0] == Mask.full(48, 64)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"masks": ()}, "at least one entity"),
    ({"masks": (Mask.full(48, 64),)}, "1 masks, but boxes"),
    ({"masks": (Mask.full(48, 64), Mask.full(64, 48))}, r"different sizes .*\(48, 64\), \(64, 48\)"),
    ({"boxes": np.zeros((2, 3), np.float32)}, r"shapes \(\(2, 3\)"),
    ({"areas": np.full(3, 0.5, np.float32)}, r"\(3,\)"),
    ({"objectness": np.full((2, 1), 0.5, np.float32)}, r"\(2, 1\)"),
    ({"labels": (None,)}, "2 masks, but 1 labels, 2 sources"),
    ({"label_sources": (None, "given", "given")}, "2 masks, but 2 labels, 3 sources"),
    ({"labels": (None, None)}, "label None with source 'given'"),
    ({"label_sources": (None, None)}, "label 'dog' with source None"),
    ({"label_sources": (None, "guessed")}, "label 'dog' with source 'guessed'"),
    ({"labels": (None, 3)}, "label 3 with source 'given'"),
    ({"labels": (3, "dog")}, "label 3 with source None"),
    ({"boxes": np.array([[0, 0, 4, 4], [5, 5, 5, 9]], np.float32)}, "box is empty or not finite"),
    ({"boxes": np.array([[0, 0, 4, 4], [5, 9, 8, 5]], np.float32)}, "box is empty or not finite"),
    ({"boxes": np.array([[0, 0, 4, 4], [5, 5, np.inf, 9]], np.float32)}, "box is empty or not finite"),
    ({"boxes": np.array([[0, 0, 4, 4], [np.nan, 5, 8, 9]], np.float32)}, "box is empty or not finite"),
    ({"areas": np.array([0.5, 0], np.float32)}, "area is outside"),
    ({"areas": np.array([0.5, 1.01], np.float32)}, "area is outside"),
    ({"areas": np.array([0.5, np.nan], np.float32)}, "area is outside"),
    ({"objectness": np.array([0.5, -0.1], np.float32)}, "objectness is outside"),
    ({"objectness": np.array([0.5, 1.1], np.float32)}, "objectness is outside"),
    ({"objectness": np.array([0.5, np.nan], np.float32)}, "objectness is outside"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED)
def test_entities_that_disagree_are_refused_with_the_reason(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRecord, match=reason):
        replace(pair(), **change)


def test_an_empty_mask_is_no_entity() -> None:
    with pytest.raises(InvalidRegion, match="is empty"):
        Entities.from_masks([Mask.from_array(np.zeros((4, 4), np.bool_))], np.zeros(1, np.float32))


def test_no_mask_is_no_set_of_entities() -> None:
    with pytest.raises(InvalidRecord, match="at least one entity"):
        Entities.from_masks([], np.zeros(0, np.float32))


def test_arrays_become_float32_and_stay_as_they_were() -> None:
    boxes = np.array([[0, 0, 4, 4], [5, 5, 8, 9]])
    entities = replace(pair(), boxes=boxes)
    assert entities.boxes.dtype == entities.areas.dtype == entities.objectness.dtype == np.float32
    assert entities.boxes.tolist() == boxes.tolist()
    for array in (entities.boxes, entities.areas, entities.objectness):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_boxes_alone_make_entities_whose_masks_are_their_boxes() -> None:
    boxes = np.array([[0, 0, 32, 24], [10.6, 20, 14, 40.4], [60, 40, 90, 90]], np.float32)
    entities = Entities.from_boxes(boxes, 48, 64, labels=["dog", None, "cat"])
    np.testing.assert_array_equal(entities.boxes, boxes)
    for mask, box in zip(entities.masks, boxes.tolist(), strict=True):
        x0, y0, x1, y1 = box
        inside = np.zeros((48, 64), np.bool_)
        for y in range(48):
            for x in range(64):
                inside[y, x] = x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1
        np.testing.assert_array_equal(mask.to_array(), inside)
    assert entities.areas.tolist() == pytest.approx([mask.area for mask in entities.masks])
    assert entities.objectness.tolist() == [1, 1, 1]
    assert entities.label_sources == ("given", None, "given")
    for wrong in ([[5, 5, 5, 9]], [[70, 0, 80, 9]]):
        with pytest.raises(InvalidRegion):
            Entities.from_boxes(np.array(wrong, np.float32), 48, 64)
    with pytest.raises(InvalidRecord, match=r"shape \(4,\)"):
        Entities.from_boxes(boxes[0], 48, 64)
