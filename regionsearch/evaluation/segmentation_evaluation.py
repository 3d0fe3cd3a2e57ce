"""Whether a segmenter's entities cover the things that people outlined: `regionsearch eval segmentation`
on photos with COCO annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.errors import InvalidImage, InvalidRequest
from regionsearch.evaluation.bootstrap import image_weights, interval
from regionsearch.evaluation.coco_annotations import AnnotatedImage, AnnotatedObject, AnnotatedPhotos
from regionsearch.evaluation.photo_index import Progress
from regionsearch.evaluation.segmenter_timing import baseline_seconds, propose_timed, warm_up
from regionsearch.images import load_image
from regionsearch.models.segmenter import Segmenter
from regionsearch.regions import Mask, Polygon, box_iou_matrix, mask_iou

ASKED_ENTITIES = 64
DEPTHS = (8, 16, 32, 64)
MASK_DEPTH = 32
FOUND_IOU = 0.5


@dataclass(frozen=True, eq=False)
class Coverage:
    """What was found of one photo's large objects.

    box_overlaps: (objects, depths) float64, the best box IoU within the first 8, 16, 32 and 64 entities.
    mask_overlaps: (objects with polygons,) float64, the best mask IoU within the first 32.
    """

    box_overlaps: NDArray[np.float64]
    mask_overlaps: NDArray[np.float64]
    entities: int
    seconds: float
    baseline_seconds: float


def coverage(image: AnnotatedImage, entities: Entities) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Best overlaps of the large objects with the entities, in the order of their index: boxes (objects,
    depths) and masks (objects with polygons,), as in `Coverage`. Masks at the image's full size."""
    large = [thing for thing in image.objects if thing.is_large]
    boxes = np.array([thing.box for thing in large], dtype=np.float64).reshape(-1, 4)
    overlaps = box_iou_matrix(boxes, entities.boxes)
    by_depth = np.stack([overlaps[:, :depth].max(axis=1, initial=0.0) for depth in DEPTHS], axis=1)
    outlined = [thing for thing in large if thing.rings]
    masks = mask_overlaps(outlined, entities.masks[:MASK_DEPTH], image.height, image.width)
    return by_depth, masks.max(axis=1, initial=0.0)


def mask_overlaps(
    things: Sequence[AnnotatedObject], masks: Sequence[Mask], height: int, width: int
) -> NDArray[np.float64]:
    """(things, masks) float64 intersection over union, pixel by pixel."""
    wanted = [Mask.from_polygon(Polygon(thing.rings), height, width) for thing in things]
    overlaps = [[mask_iou(outline, mask) for mask in masks] for outline in wanted]
    return np.array(overlaps, dtype=np.float64).reshape(len(things), len(masks))


def evaluate_segmentation(
    photos: AnnotatedPhotos, segmenter: Segmenter, progress: Progress
) -> dict[str, Any]:
    """The report that `docs/evaluation.md` describes, as JSON-ready values.

    Raises InvalidRequest when no photo can be decoded or none has a large object.
    """
    covered: list[Coverage] = []
    failed: list[dict[str, str]] = []
    for done, annotated in enumerate(photos.images):
        progress("segmenting", done, len(photos.images))
        try:
            image = load_image(annotated.path)
        except InvalidImage as error:
            failed.append({"source": annotated.image_id, "reason": error.message})
            continue
        if (image.width, image.height) != (annotated.width, annotated.height):
            reason = (
                f"is {image.width} × {image.height} pixels when upright, annotated as "
                f"{annotated.width} × {annotated.height}"
            )
            failed.append({"source": annotated.image_id, "reason": reason})
            continue
        if not covered:
            warm_up(segmenter, image)
        proposed = propose_timed(segmenter, image)
        yardstick = baseline_seconds(image)
        (entities,) = segmenter.propose([image], proposed.features, limit=ASKED_ENTITIES)
        boxes, masks = coverage(annotated, entities)
        covered.append(Coverage(boxes, masks, len(proposed.entities), proposed.seconds, yardstick))
    progress("segmenting", len(photos.images), len(photos.images))
    if not sum(len(one.box_overlaps) for one in covered):
        raise InvalidRequest("no photo could be read that has an object over 2% of its area")
    return _report(covered, failed)


def _report(covered: Sequence[Coverage], failed: list[dict[str, str]]) -> dict[str, Any]:
    weights = np.concatenate([np.ones((1, len(covered)), dtype=np.int64), image_weights(len(covered))])
    objects = np.array([len(one.box_overlaps) for one in covered])
    recall, intervals = {}, {}
    for column, depth in enumerate(DEPTHS):
        found = np.array([(one.box_overlaps[:, column] >= FOUND_IOU).sum() for one in covered])
        recall[str(depth)], intervals[str(depth)] = _share(found, objects, weights)
    outlined = np.array([len(one.mask_overlaps) for one in covered])
    found = np.array([(one.mask_overlaps >= FOUND_IOU).sum() for one in covered])
    mask_recall, mask_interval = _share(found, outlined, weights)
    best = np.array([one.box_overlaps[:, DEPTHS.index(32)].sum() for one in covered])
    mean_best, best_interval = _share(best, objects, weights)
    seconds = float(np.mean([one.seconds for one in covered]))
    yardstick = float(np.mean([one.baseline_seconds for one in covered]))
    return {
        "images": len(covered),
        "objects": int(objects.sum()),
        "failed": failed,
        "recall": recall,
        "recall_ci95": intervals,
        "mask_recall_32": mask_recall,
        "mask_recall_32_ci95": mask_interval,
        "mean_best_iou": mean_best,
        "mean_best_iou_ci95": best_interval,
        "entities_per_image": float(np.mean([one.entities for one in covered])),
        "seconds_per_image": seconds,
        "baseline_seconds_per_image": yardstick,
        "time_ratio": seconds / yardstick,
    }


def _share(
    found: NDArray[np.float64] | NDArray[np.int64], among: NDArray[np.int64], weights: NDArray[np.int64]
) -> tuple[float | None, list[float] | None]:
    """What was found over what there was, over all photos, and its interval by drawing photos."""
    totals = (weights @ among).astype(np.float64)
    shares = np.divide(weights @ found, totals, out=np.full(len(totals), np.nan), where=totals > 0)
    return (float(shares[0]) if totals[0] > 0 else None), interval(shares[1:])
