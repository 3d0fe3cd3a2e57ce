"""Automatic masks: a grid of points is asked, and what is good, stable and new is kept.

After Kirillov et al., *Segment Anything* (ICCV 2023), section 5 and appendix B, and Meta's
SAM2AutomaticMaskGenerator, without its crop layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from regionsearch.entities import Entities
from regionsearch.models.batching import run_halving
from regionsearch.models.sam2.image_features import SamImageFeatures
from regionsearch.models.sam2.mask_cleaning import cleaned
from regionsearch.models.sam2.mask_quality import FoundMasks, passing, point_grid
from regionsearch.models.sam2.mask_selection import (
    Array,
    choose,
    mask_ious,
    quality_order,
    without_duplicates,
)
from regionsearch.models.sam2.options import MaskOptions
from regionsearch.models.sam2.prompt_decoder import PromptDecoder, full_size
from regionsearch.regions import Mask, box_iou_matrix, mask_iou

MOST_CANDIDATES = 1024
"""Masks of a picture that are compared with each other, the best ones. Bounds the logits held (268 MB) where
thresholds let nearly all of 3,072 pass."""
MOST_ON_A_CPU = 4
"""Points that go through the decoder together on a CPU: more are slower there (16 by half) and take
20 to 30 MB each."""
_JOINED_FROM = 256
"""Masks found since the last comparison with the best so far: joining them copies all that are held."""
_ROWS_COMPARED = 128


@dataclass(frozen=True, eq=False)
class Candidates:
    """The masks of a picture that passed, in the order of points and, of one point, of masks.

    logits: (n, 256, 256) float32 on the model's device. predicted_iou, stability: (n,) float64, 0 to 1.
    """

    logits: torch.Tensor
    predicted_iou: Array
    stability: Array

    @property
    def quality(self) -> Array:
        """(n,) 0 to 1: predicted IoU × stability; what becomes an entity's objectness."""
        return np.clip(self.predicted_iou * self.stability, 0, 1)


def automatic_masks(
    decoder: PromptDecoder, features: SamImageFeatures, options: MaskOptions, limit: int
) -> Entities:
    """At most `limit` entities of one picture, best first; the whole frame where nothing is found."""
    found = candidates(decoder, features, options)
    masks: list[Mask] = []
    objectness: list[float] = []
    for index in selected(found, options, limit):
        mask = full_size(found.logits[index], features.height, features.width, options.mask_threshold)
        # A speck of the decoder's cells may fall between the pixels of a tiny picture.
        if mask.pixels == 0:
            continue
        mask = Mask.from_array(cleaned(mask.to_array(), options.min_mask_region_area))
        # Cleaning can make two masks alike.
        if all(mask_iou(mask, other) <= options.mask_nms_thresh for other in masks):
            masks.append(mask)
            objectness.append(float(found.quality[index]))
    if not masks:
        return Entities.whole_frame(features.height, features.width)
    return Entities.from_masks(masks, np.array(objectness, dtype=np.float32))


def candidates(decoder: PromptDecoder, features: SamImageFeatures, options: MaskOptions) -> Candidates:
    """What the grid of points yields above the thresholds, MOST_CANDIDATES at most."""
    grid = point_grid(options.points_per_side)
    on_cpu = features.embedding.device.type == "cpu"
    together = min(options.points_per_batch, MOST_ON_A_CPU) if on_cpu else options.points_per_batch

    def ask(places: Sequence[int]) -> list[FoundMasks]:
        points = grid[places[0] : places[-1] + 1]
        labels = torch.ones(points.shape[:2], dtype=torch.int64)
        decoded = decoder.decode(features, points=points, labels=labels, multimask=options.multimask_output)
        return passing(decoded, options)

    kept = Candidates(features.embedding.new_empty((0, 256, 256), dtype=torch.float32), _none(), _none())
    fresh: list[FoundMasks] = []
    for start in range(0, len(grid), together):
        fresh.extend(run_halving(range(start, min(start + together, len(grid))), ask))
        if sum(len(found.places) for found in fresh) >= _JOINED_FROM:
            kept, fresh = _best(_joined(kept, fresh)), []
    return _best(_joined(kept, fresh))


def selected(found: Candidates, options: MaskOptions, limit: int) -> list[int]:
    """Indices of at most `limit` candidates, duplicates left out, in the order of choice."""
    if len(found.logits) == 0:
        return []
    dense = (found.logits > options.mask_threshold).flatten(1)
    shared = shared_cells(dense)
    order = quality_order(found.predicted_iou, found.stability)
    order = without_duplicates(order, mask_ious(shared), options.mask_nms_thresh)
    if options.box_nms_thresh < 1:
        boxes = _boxes(dense.reshape(found.logits.shape))
        order = without_duplicates(order, box_iou_matrix(boxes, boxes), options.box_nms_thresh)
    kept = np.sort(order)
    shares = shared[np.ix_(kept, kept)] / dense.shape[1]
    chosen = choose(found.quality[kept], np.diagonal(shares), shares, limit)
    return [int(kept[index]) for index in chosen]


def shared_cells(masks: torch.Tensor) -> Array:
    """(n, cells) bool → (n, n) float64: cells that each two masks have in common."""
    shared = np.empty((len(masks), len(masks)))
    with torch.inference_mode():
        for row in range(0, len(masks), _ROWS_COMPARED):
            rows = masks[row : row + _ROWS_COMPARED].float()
            for column in range(row, len(masks), _ROWS_COMPARED):
                # Sums of at most 65,536 ones: exact in float32.
                columns = masks[column : column + _ROWS_COMPARED].float()
                block = (rows @ columns.T).double().cpu().numpy()
                shared[row : row + len(rows), column : column + len(columns)] = block
                shared[column : column + len(columns), row : row + len(rows)] = block.T
    return shared


def _joined(kept: Candidates, found: Sequence[FoundMasks]) -> Candidates:
    def values(earlier: Array, later: list[torch.Tensor]) -> Array:
        return np.concatenate([earlier, *(each.double().cpu().numpy() for each in later)])

    return Candidates(
        torch.cat([kept.logits, *(each.logits for each in found)]),
        values(kept.predicted_iou, [each.predicted_iou for each in found]),
        values(kept.stability, [each.stability for each in found]),
    )


def _best(found: Candidates) -> Candidates:
    """MOST_CANDIDATES of them at most, still in their order."""
    if len(found.logits) <= MOST_CANDIDATES:
        return found
    places = np.sort(quality_order(found.predicted_iou, found.stability)[:MOST_CANDIDATES])
    logits = found.logits[torch.from_numpy(places).to(found.logits.device)]
    return Candidates(logits, found.predicted_iou[places], found.stability[places])


def _boxes(masks: torch.Tensor) -> Array:
    """(n, h, w) bool, none empty → (n, 4) [x0, y0, x1, y1) in cells."""
    rows, columns = masks.any(2).cpu().numpy(), masks.any(1).cpu().numpy()
    height, width = rows.shape[1], columns.shape[1]
    return np.stack(
        [
            columns.argmax(1),
            rows.argmax(1),
            width - columns[:, ::-1].argmax(1),
            height - rows[:, ::-1].argmax(1),
        ],
        axis=1,
    ).astype(np.float64)


def _none() -> Array:
    return np.empty(0, dtype=np.float64)
