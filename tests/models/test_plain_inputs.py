"""Inputs read as one by models that know pixels and words apart."""

from __future__ import annotations

import numpy as np
import pytest

from regionsearch.errors import InvalidRegion, InvalidRequest, NotAccepted
from regionsearch.images import Image
from regionsearch.models.dummy import DIMENSION, DummyEmbedder
from regionsearch.models.embedder import EncodableQuery, ModelInput
from regionsearch.regions import Box, Mask, Point, Polygon, RegionPrompt

RED, BLUE = (220, 20, 20), (20, 40, 220)


@pytest.fixture
def image() -> Image:
    """Red on the left, blue on the right."""
    pixels = np.empty((10, 20, 3), dtype=np.uint8)
    pixels[:, :10], pixels[:, 10:] = RED, BLUE
    return Image(pixels)


def test_each_input_is_read_by_what_it_holds_in_its_own_place(image: Image) -> None:
    model = DummyEmbedder()
    box = Box(0, 0, 10, 10)
    mask = Mask.from_box(box, 10, 20)
    query = model.embed_query(EncodableQuery(image=image, mask=mask, text="a blue thing"))
    inputs = [
        ModelInput(text="a red thing"),
        ModelInput(image, region=RegionPrompt(box=box)),
        ModelInput(image, text="a blue thing"),
        ModelInput(image, "a blue thing", RegionPrompt(mask=mask)),
        ModelInput(text="a blue thing"),
        ModelInput(image),
    ]
    read = model.embed_inputs(inputs)
    red, blue = model.embed_texts(["red", "blue"])
    assert read.dtype == np.float32
    expected = [red, red, query.global_arm, query.entity_arm, blue, query.image]
    assert np.abs(read - np.array(expected)).max() < 1e-6
    alone = np.concatenate([model.embed_inputs([one]) for one in inputs])
    assert np.array_equal(alone, read)


def test_box_mask_and_polygon_of_the_same_pixels_are_the_same_region(image: Image) -> None:
    box = Box(5, 2, 15, 8)
    corners = (((5.0, 2.0), (15.0, 2.0), (15.0, 8.0), (5.0, 8.0)),)
    regions = (
        RegionPrompt(box=box),
        RegionPrompt(mask=Mask.from_box(box, 10, 20)),
        RegionPrompt(polygon=Polygon(corners)),
    )
    first, *others = DummyEmbedder().embed_inputs([ModelInput(image, region=region) for region in regions])
    assert all(np.abs(other - first).max() < 0.06 for other in others)


@pytest.mark.parametrize("outline", [None, Box(0, 0, 5, 5)])
def test_points_are_refused_also_beside_an_outline(image: Image, outline: Box | None) -> None:
    region = RegionPrompt(points=(Point(3, 3),), box=outline)
    with pytest.raises(NotAccepted, match="dummy reads regions as boxes or masks, not as points"):
        DummyEmbedder().embed_inputs([ModelInput(image, region=region)])


def test_a_mask_of_another_size_than_its_image_is_refused(image: Image) -> None:
    with pytest.raises(InvalidRequest, match="the mask has 4 × 3 pixels, its image 20 × 10"):
        DummyEmbedder().embed_query(EncodableQuery(image=image, mask=Mask.full(3, 4)))


def test_what_is_incomplete_or_outside_is_refused(image: Image) -> None:
    model = DummyEmbedder()
    with pytest.raises(NotAccepted, match="needs the image"):
        model.embed_inputs([ModelInput(text="a", region=RegionPrompt(box=Box(0, 0, 1, 1)))])
    with pytest.raises(InvalidRequest, match="an image, a text, or both"):
        model.embed_inputs([ModelInput()])
    with pytest.raises(InvalidRegion, match="outside"):
        model.embed_inputs([ModelInput(image, region=RegionPrompt(box=Box(30, 0, 40, 5)))])
    with pytest.raises(InvalidRegion, match="does not fit"):
        model.embed_inputs([ModelInput(image, region=RegionPrompt(mask=Mask.full(3, 3)))])
    assert model.embed_inputs([]).shape == (0, DIMENSION)
