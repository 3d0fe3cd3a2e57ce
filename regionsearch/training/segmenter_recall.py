"""Cross-fitted figures of the compact segmenter: what it finds on photos that its weights never saw."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.images import Image, load_image
from regionsearch.models.compact.segmenter import CompactSegmenter
from regionsearch.regions import box_iou_matrix, mask_iou
from regionsearch.training.segmenter_examples import Example

Array = NDArray[np.float64]

DEPTHS = (8, 16, 32, 64)
FOUND_IOU = 0.5
JUDGED_DEPTH = 32


@dataclass(frozen=True, eq=False)
class Found:
    """What was found of one photo's large things.

    boxes: (things, depths) best box IoU within the first 8, 16, 32 and 64 entities. masks: (outlined
    things,) best mask IoU within the first 32, at full resolution. seconds: of proposing 32 entities with
    the network's pass; baseline_seconds: of three-scale felzenszwalb.
    """

    boxes: Array
    masks: Array
    seconds: float
    baseline_seconds: float


def judge(segmenter: CompactSegmenter, examples: Sequence[Example]) -> list[Found]:
    """Decodes each example's photo again; the first one is proposed once more, untimed, to warm up."""
    found = []
    for number, example in enumerate(examples):
        image = load_image(example.path)
        if number == 0:
            segmenter.propose([image])
            _baseline(image)
        started = time.perf_counter()
        segmenter.propose([image])
        middle = time.perf_counter()
        _baseline(image)
        ended = time.perf_counter()
        (entities,) = segmenter.propose([image], limit=max(DEPTHS))
        boxes, masks = overlaps(example, entities)
        found.append(Found(boxes, masks, middle - started, ended - middle))
    return found


def overlaps(example: Example, entities: Entities) -> tuple[Array, Array]:
    """Best overlaps of the large things, as in `Found`."""
    large = np.flatnonzero(example.large)
    box_iou = box_iou_matrix(example.thing_boxes[large], entities.boxes)
    boxes = np.stack([box_iou[:, :depth].max(axis=1, initial=0.0) for depth in DEPTHS], axis=1)
    outlines = [example.outlines[index] for index in large]
    masks = [
        max(mask_iou(outline, mask) for mask in entities.masks[:JUDGED_DEPTH])
        for outline in outlines
        if outline is not None
    ]
    return boxes, np.asarray(masks, dtype=np.float64)


def report(found: Sequence[Found]) -> dict[str, object]:
    """Recall by depth, mask recall and mean best IoU at 32, time against the baseline; JSON-ready."""
    boxes = np.concatenate([one.boxes for one in found])
    masks = np.concatenate([one.masks for one in found])
    seconds = float(np.mean([one.seconds for one in found]))
    baseline = float(np.mean([one.baseline_seconds for one in found]))
    return {
        "images": len(found),
        "objects": len(boxes),
        "recall": {
            str(depth): float((boxes[:, column] >= FOUND_IOU).mean()) for column, depth in enumerate(DEPTHS)
        },
        "mask_recall_32": float((masks >= FOUND_IOU).mean()),
        "mean_best_iou": float(boxes[:, DEPTHS.index(JUDGED_DEPTH)].mean()),
        "seconds_per_image": seconds,
        "baseline_seconds_per_image": baseline,
        "time_ratio": seconds / baseline,
    }


def _baseline(image: Image) -> list[tuple[NDArray[np.bool_], tuple[int, int, int, int]]]:
    """Three-scale felzenszwalb at 256 px, masks and boxes made: the yardstick of `eval segmentation`."""
    from PIL import Image as Pictures
    from skimage.segmentation import felzenszwalb

    scale = 256 / max(image.height, image.width)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    pixels = np.asarray(Pictures.fromarray(image.pixels).resize(size, Pictures.Resampling.BILINEAR))
    segments = []
    for coarseness in (100, 300, 800):
        labels = felzenszwalb(pixels, scale=coarseness, sigma=0.8, min_size=80, channel_axis=-1)
        for label in range(int(labels.max()) + 1):
            mask = labels == label
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            segments.append((mask, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)))
    return segments
