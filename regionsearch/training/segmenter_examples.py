"""Annotated photos as the compact segmenter's fitting needs them: superpixels, and what covers each."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import InvalidRequest
from regionsearch.images import load_image
from regionsearch.models.compact.network import CompactNetwork
from regionsearch.models.compact.region_masks import RegionMasks, middles
from regionsearch.models.compact.superpixels import Superpixels, cut_superpixels
from regionsearch.regions import Mask, Polygon

Array = NDArray[np.float32]
Progress = Callable[[str], None]

LARGE_BOX_AREA = 0.02
"""Objects whose box is larger than this share of the photo are the ones that are judged."""


@dataclass(frozen=True, eq=False)
class Example:
    """One photo with n superpixels and g outlined things (`iscrowd` left out).

    thing_boxes: (g, 4) float32, pixels of the photo. outlines: g masks, None where a thing has no polygon.
    thing_pixels: (g, n) float32, working pixels of each superpixel that lie on the thing; the box's
        where there is no polygon.
    segments: (n, s) float32, share of each superpixel on each panoptic segment; None without panoptic
        annotation. countable: (n,) float32, share on segments of countable things.
    """

    path: Path
    superpixels: Superpixels
    thing_boxes: Array
    outlines: tuple[Mask | None, ...]
    thing_pixels: Array
    segments: Array | None
    countable: Array | None

    @property
    def large(self) -> NDArray[np.bool_]:
        """(g,) bool: the things that count when recall is judged."""
        boxes = self.thing_boxes
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        pixels = self.superpixels.image_height * self.superpixels.image_width
        return np.asarray(areas > LARGE_BOX_AREA * pixels, dtype=np.bool_)


def read_examples(
    network: CompactNetwork, images: Path, annotations: Path, panoptic: Path, panoptic_masks: Path
) -> list[Example]:
    """Every photo of a COCO instances file, in the order of their file names.

    panoptic: COCO panoptic JSON, of these photos or some of them; panoptic_masks: its folder of PNGs.
    Of the categories only `isthing` is read: nothing that is fitted on examples can know classes.
    Raises InvalidRequest when a file has not COCO's form, InvalidImage when a photo cannot be decoded.
    """
    photos = _read_json(annotations, ("images", "annotations"))
    things: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for thing in photos["annotations"]:
        if not thing["iscrowd"] and min(thing["bbox"][2:]) > 0:
            things[thing["image_id"]].append(thing)
    segmented = _read_json(panoptic, ("categories", "annotations"))
    countable = {category["id"]: bool(category["isthing"]) for category in segmented["categories"]}
    by_image = {annotation["image_id"]: annotation for annotation in segmented["annotations"]}

    examples = []
    for photo in sorted(photos["images"], key=lambda photo: str(photo["file_name"])):
        path = images / photo["file_name"]
        image = load_image(path)
        if (image.height, image.width) != (photo["height"], photo["width"]):
            raise InvalidRequest(f"{path} is {image.width} × {image.height} pixels, not as annotated")
        (features,) = network.features([image])
        superpixels = cut_superpixels(image, features.levels)
        boxes, outlines, pixels = _things(superpixels, things[photo["id"]])
        segments, on_things = None, None
        if photo["id"] in by_image:
            segments, on_things = _segments(superpixels, by_image[photo["id"]], panoptic_masks, countable)
        examples.append(Example(path, superpixels, boxes, outlines, pixels, segments, on_things))
    return examples


def _read_json(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise InvalidRequest(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        raise InvalidRequest(f"{path} is not a COCO file: it lacks {' or '.join(keys)}")
    return content


def _things(
    superpixels: Superpixels, things: list[dict[str, Any]]
) -> tuple[Array, tuple[Mask | None, ...], Array]:
    height, width = superpixels.image_height, superpixels.image_width
    masks = RegionMasks(superpixels)
    boxes = np.zeros((len(things), 4), dtype=np.float32)
    outlines: list[Mask | None] = []
    pixels = np.zeros((len(things), len(superpixels)), dtype=np.float32)
    for row, thing in enumerate(things):
        x, y, wide, high = thing["bbox"]
        boxes[row] = (x, y, x + wide, y + high)
        outline = None
        if isinstance(thing["segmentation"], list):
            rings = [np.reshape(ring, (-1, 2)).tolist() for ring in thing["segmentation"]]
            outline = Mask.from_polygon(
                Polygon(tuple(tuple((px, py) for px, py in ring) for ring in rings)), height, width
            )
            covered = outline.to_array()
        else:
            covered = np.zeros((height, width), dtype=bool)
            covered[int(y) : int(np.ceil(y + high)), int(x) : int(np.ceil(x + wide))] = True
        outlines.append(outline)
        pixels[row] = masks.shares(covered)
    return boxes, tuple(outlines), pixels


def _segments(
    superpixels: Superpixels, annotation: dict[str, Any], folder: Path, countable: dict[int, bool]
) -> tuple[Array, Array]:
    from PIL import Image as Pictures

    with Pictures.open(folder / annotation["file_name"]) as picture:
        coded = np.asarray(picture.convert("RGB"), dtype=np.int64)
    if coded.shape[:2] != (superpixels.image_height, superpixels.image_width):
        raise InvalidRequest(f"{folder / annotation['file_name']} is not of its photo's size")
    down, right = middles(coded.shape[0], superpixels.height), middles(coded.shape[1], superpixels.width)
    identifiers = (coded @ np.array([1, 256, 65536]))[down][:, right].ravel()
    labels = superpixels.labels.ravel()
    shares = [
        np.bincount(labels, weights=identifiers == segment["id"], minlength=len(superpixels))
        for segment in annotation["segments_info"]
    ]
    segments = (np.stack(shares, axis=1) / superpixels.sizes[:, None]).astype(np.float32)
    are_things = np.array([countable[segment["category_id"]] for segment in annotation["segments_info"]])
    return segments, (segments @ are_things).astype(np.float32)
