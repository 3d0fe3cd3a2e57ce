"""What the tests of the sam2 segmenter share: settings that keep everything, and a count of passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from regionsearch.models.runtime import Runtime
from regionsearch.models.sam2.loading import LoadedSam2
from regionsearch.models.sam2.options import MaskOptions
from regionsearch.models.sam2.segmenter import Sam2Segmenter

CPU = Runtime(threads=1, device="cpu", dtype="fp32")
EVERYTHING = MaskOptions(
    points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0, min_mask_region_area=0
)
"""Random weights are neither sure nor stable: every mask counts."""
SEED = 8
"""Of weights whose masks depend on the prompt and fill neither nothing nor everything."""


def segmenter_of(loaded: LoadedSam2, options: MaskOptions) -> Sam2Segmenter:
    return Sam2Segmenter(loaded, options, CPU, name="sam2")


@contextmanager
def passes_over_images(loaded: LoadedSam2) -> Iterator[list[int]]:
    """How many images each pass of SAM's image encoder reads, in turn."""
    seen: list[int] = []

    def count(_: torch.nn.Module, given: tuple[torch.Tensor, ...], __: object) -> None:
        seen.append(len(given[0]))

    handle = loaded.model.vision_encoder.register_forward_hook(count)
    try:
        yield seen
    finally:
        handle.remove()
