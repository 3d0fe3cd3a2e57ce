"""The settings of automatic and prompted masks, in the words of SAM and SAM 2."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast

from regionsearch.models.reference import ModelReference
from regionsearch.models.sam2.image_features import PixelsRead

OutlineMeaning = Literal["itself", "refine"]
_CHANGE_NOTHING = ("points_per_batch",)


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """How masks are made. Names and defaults are those of Meta's SAM2AutomaticMaskGenerator, except where
    a field says otherwise.

    input: which pixels SAM sees: its own, or those that VIRTUE hands to it.
    points_per_side: of the grid of points that are asked, 1 to 128; their square is asked.
    points_per_batch: points that go through the decoder together; changes speed and memory alone.
    pred_iou_thresh: masks whose predicted IoU is not above it are dropped; 0 keeps all.
    stability_score_thresh: masks less stable than this are dropped; 0 keeps all.
    stability_score_offset: logits by which the threshold is moved up and down to see how stable a mask is.
    mask_threshold: logit above which a pixel belongs to a mask.
    mask_nms_thresh: mask IoU above which the worse of two masks is dropped. Meta's generator compares boxes
        alone, which takes a thing and a part of it with the same box for one.
    box_nms_thresh: box IoU likewise; 1 (Meta: 0.7) leaves this to the masks.
    min_mask_region_area: pixels of the picture; smaller holes are filled and smaller islands removed. 100 as
        the SAM paper did for its data; Meta's generator leaves it at 0.
    multimask_output: three masks a point (whole, part, subpart) instead of one.
    box: whether a box that is pointed at means itself, or the thing in it that SAM finds.
    """

    input: PixelsRead = "sam"
    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.8
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    mask_threshold: float = 0.0
    mask_nms_thresh: float = 0.7
    box_nms_thresh: float = 1.0
    min_mask_region_area: int = 100
    multimask_output: bool = True
    box: OutlineMeaning = "itself"

    @staticmethod
    def of(reference: ModelReference) -> MaskOptions:
        """Raises InvalidRequest for an option that is not known, or a value out of its range."""
        default = MaskOptions()
        reference.check_options({field.name: None for field in fields(MaskOptions)})

        def share(name: str, preset: float) -> float:
            return reference.number(name, preset, 0.0, 1.0)

        return MaskOptions(
            input=cast(PixelsRead, reference.choice("input", ("sam", "virtue"))),
            points_per_side=reference.whole("points_per_side", default.points_per_side, 1, 128),
            points_per_batch=reference.whole("points_per_batch", default.points_per_batch, 1, 4096),
            pred_iou_thresh=share("pred_iou_thresh", default.pred_iou_thresh),
            stability_score_thresh=share("stability_score_thresh", default.stability_score_thresh),
            stability_score_offset=reference.number(
                "stability_score_offset", default.stability_score_offset, 0.0, 32.0
            ),
            mask_threshold=reference.number("mask_threshold", default.mask_threshold, -32.0, 32.0),
            mask_nms_thresh=share("mask_nms_thresh", default.mask_nms_thresh),
            box_nms_thresh=share("box_nms_thresh", default.box_nms_thresh),
            min_mask_region_area=reference.whole(
                "min_mask_region_area", default.min_mask_region_area, 0, 10**9
            ),
            multimask_output=reference.choice("multimask_output", ("true", "false")) == "true",
            box=cast(OutlineMeaning, reference.choice("box", ("itself", "refine"))),
        )

    def settings(self) -> dict[str, Any]:
        """Those that change what the segmenter gives, as plain values for a hash."""
        return {name: value for name, value in asdict(self).items() if name not in _CHANGE_NOTHING}
