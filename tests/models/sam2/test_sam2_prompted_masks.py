"""What is pointed at, for the sam2 segmenter, on a tiny model with random weights."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from asked_of_sam2 import EVERYTHING, passes_over_images, segmenter_of
from transformers.models.sam2.processing_sam2 import Sam2Processor

from regionsearch.errors import InvalidRegion
from regionsearch.images import Image
from regionsearch.models.sam2.image_features import SamImageFeatures
from regionsearch.models.sam2.loading import LoadedSam2
from regionsearch.regions import Box, Mask, Point, Polygon, RegionPrompt, mask_iou

SPOTS = [(20.0, 30.0), (100.5, 60.25), (60.0, 5.0), (5.0, 80.0), (35.0, 45.0), (50.0, 70.0)]
"""Points to try: random weights find something at some of them."""


def told_directly(
    loaded: LoadedSam2, embeddings: list[torch.Tensor], multimask: bool, **prompt: torch.Tensor
) -> list[Mask]:
    """transformers' model on the coordinates of its processor, best mask first, enlarged to the photo's
    90 × 120 pixels as `post_process_masks` does (which itself needs torchvision)."""
    if "input_points" in prompt:
        prompt["input_points"] = Sam2Processor._normalize_coordinates(
            None, 1024, prompt["input_points"], (90, 120)
        )
    if "input_boxes" in prompt:
        boxes = Sam2Processor._normalize_coordinates(None, 1024, prompt["input_boxes"], (90, 120), True)
        prompt["input_boxes"] = boxes[None]
    with torch.inference_mode():
        out = loaded.model(image_embeddings=embeddings, multimask_output=multimask, **prompt)
    full = torch.nn.functional.interpolate(out.pred_masks[0], (90, 120), mode="bilinear", align_corners=False)
    best_first = out.iou_scores[0, 0].argsort(descending=True)
    return [Mask.from_array((full[0, place] > 0).numpy()) for place in best_first]


def test_a_point_means_the_best_of_three_masks_that_holds_it(
    loaded: LoadedSam2, embeddings: list[torch.Tensor], photo: Image, features: SamImageFeatures
) -> None:
    segmenter = segmenter_of(loaded, EVERYTHING)
    first_holds = 0
    for x, y in SPOTS:
        masks = told_directly(loaded, embeddings, True, input_points=torch.tensor([[[[x, y]]]]))
        holding = [mask for mask in masks if near(mask, x, y)]
        region = RegionPrompt(points=(Point(x, y),))
        if holding:
            assert mask_iou(segmenter.prompt(photo, region, features), holding[0]) >= 0.999
            first_holds += holding[0] == masks[0]
        else:
            with pytest.raises(InvalidRegion, match="nothing lies at point"):
                segmenter.prompt(photo, region, features)
    assert first_holds > 0


def near(mask: Mask, x: float, y: float) -> bool:
    """Whether the mask comes within a 256th of the picture of a point."""
    reach_x, reach_y = mask.width / 256, mask.height / 256
    return any(
        mask.contains_point(min(max(x + dx, 0), mask.width - 1), min(max(y + dy, 0), mask.height - 1))
        for dx in (-reach_x, 0, reach_x)
        for dy in (-reach_y, 0, reach_y)
    )


def test_several_points_mean_the_single_mask(
    loaded: LoadedSam2, embeddings: list[torch.Tensor], photo: Image, features: SamImageFeatures
) -> None:
    segmenter = segmenter_of(loaded, EVERYTHING)
    compared = 0
    for (x0, y0), (x1, y1) in itertools.combinations(SPOTS, 2):
        positive = (x1 + y1) % 2 == 1  # of some pairs the second point is negative
        (single,) = told_directly(
            loaded,
            embeddings,
            False,
            input_points=torch.tensor([[[[x0, y0], [x1, y1]]]]),
            input_labels=torch.tensor([[[1, int(positive)]]]),
        )
        second_is_right = near(single, x1, y1) if positive else not single.contains_point(x1, y1)
        if near(single, x0, y0) and second_is_right:
            region = RegionPrompt(points=(Point(x0, y0), Point(x1, y1, positive)))
            assert mask_iou(segmenter.prompt(photo, region, features), single) >= 0.999
            compared += 1
    assert compared > 0


def test_a_box_means_itself_unless_refining_is_asked_for(
    loaded: LoadedSam2, embeddings: list[torch.Tensor], photo: Image, features: SamImageFeatures
) -> None:
    box = Box(15.5, 10, 60, 50)
    region = RegionPrompt(box=box)
    with passes_over_images(loaded) as passes:
        assert segmenter_of(loaded, EVERYTHING).prompt(photo, region) == Mask.from_box(box, 90, 120)
    assert passes == []
    (single,) = told_directly(loaded, embeddings, False, input_boxes=torch.tensor([[15.5, 10, 60, 50]]))
    refined = segmenter_of(loaded, replace(EVERYTHING, box="refine")).prompt(photo, region, features)
    assert mask_iou(refined, single) >= 0.999
    # Asked for with the box instead of once for all.
    assert segmenter_of(loaded, EVERYTHING).prompt(photo, region, features, refine=True) == refined


def test_a_box_in_which_nothing_is_found_means_itself(
    loaded: LoadedSam2, photo: Image, features: SamImageFeatures
) -> None:
    nothing = replace(EVERYTHING, mask_threshold=32.0)
    region = RegionPrompt(box=Box(15.5, 10, 60, 50))
    found = segmenter_of(loaded, nothing).prompt(photo, region, features, refine=True)
    assert found == Mask.from_box(Box(15.5, 10, 60, 50), 90, 120)


def test_masks_and_polygons_mean_themselves(loaded: LoadedSam2, photo: Image) -> None:
    segmenter = segmenter_of(loaded, replace(EVERYTHING, box="refine"))
    mask = Mask.from_box(Box(3, 4, 50, 60), 90, 120)
    polygon = Polygon((((10.0, 10.0), (60.0, 12.0), (30.0, 70.0)),))
    with passes_over_images(loaded) as passes:
        assert segmenter.prompt(photo, RegionPrompt(mask=mask)) == mask
        assert segmenter.prompt(photo, RegionPrompt(polygon=polygon)) == Mask.from_polygon(polygon, 90, 120)
    assert passes == []


@pytest.mark.parametrize(
    "outline",
    [
        RegionPrompt(box=Box(10, 10, 80, 80)),
        RegionPrompt(mask=Mask.from_box(Box(10, 10, 80, 80), 90, 120)),
        RegionPrompt(polygon=Polygon((((10.0, 10.0), (80.0, 10.0), (10.0, 80.0)),))),
    ],
    ids=["box", "mask", "polygon"],
)
def test_points_beside_an_outline_stay_within_it(
    loaded: LoadedSam2, photo: Image, features: SamImageFeatures, outline: RegionPrompt
) -> None:
    segmenter = segmenter_of(loaded, EVERYTHING)
    allowed = segmenter.prompt(photo, outline)
    found = 0
    for x, y in SPOTS:
        if not allowed.contains_point(x, y):
            continue
        try:
            meant = segmenter.prompt(photo, replace(outline, points=(Point(x, y),)), features)
        except InvalidRegion:
            continue
        assert near(meant, x, y)
        assert not (meant.to_array() & ~allowed.to_array()).any()
        found += 1
    assert found > 0


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (RegionPrompt(points=(Point(300, 3),)), r"\(300, 3\) lies outside the image"),
        (RegionPrompt(points=(Point(100, 80),), box=Box(0, 0, 20, 20)), r"\(100, 80\).*own outline"),
        (RegionPrompt(box=Box(500, 500, 600, 600)), "outside the image"),
    ],
)
def test_where_nothing_lies_is_said(
    loaded: LoadedSam2, photo: Image, features: SamImageFeatures, region: RegionPrompt, said: str
) -> None:
    with pytest.raises(InvalidRegion, match=said):
        segmenter_of(loaded, EVERYTHING).prompt(photo, region, features)


def test_a_point_cannot_be_on_a_thing_and_not_on_it(
    loaded: LoadedSam2, photo: Image, features: SamImageFeatures
) -> None:
    segmenter = segmenter_of(loaded, EVERYTHING)
    for x, y in SPOTS:
        both = RegionPrompt(points=(Point(x, y), Point(x, y, positive=False)))
        # Where a mask passes close by, it may hold the one and not the other; on a thing it cannot.
        try:
            meant = segmenter.prompt(photo, both, features)
        except InvalidRegion:
            continue
        assert not meant.contains_point(x, y)


def test_a_point_that_no_mask_holds_is_named(
    loaded: LoadedSam2, photo: Image, features: SamImageFeatures
) -> None:
    nowhere = replace(EVERYTHING, mask_threshold=32.0)
    with pytest.raises(InvalidRegion, match=r"nothing lies at point \(30, 30\)"):
        segmenter_of(loaded, nowhere).prompt(photo, RegionPrompt(points=(Point(30, 30),)), features)
    (found,) = segmenter_of(loaded, nowhere).propose([photo], [features])
    assert found.masks == (Mask.full(90, 120),)
    assert found.objectness.tolist() == [0.0]
