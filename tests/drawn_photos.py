"""Drawn photos with COCO annotations, for models that know colours alone."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import PIL.Image
import PIL.ImageDraw

COLOURS = ("red", "green", "blue", "yellow", "cyan", "orange")
WIDTH, HEIGHT = 120, 90
BOXES = ((8, 8, 56, 40), (64, 10, 112, 44), (10, 50, 50, 84), (62, 52, 110, 80))
"""Where things are drawn: [x0, y0, x1, y1), each over 2% of the picture, none touching another."""


@dataclass(frozen=True, slots=True)
class DrawnFolder:
    images: Path
    annotations: Path
    captions: Path


def draw_folder(root: Path, count: int, seed: int = 0) -> DrawnFolder:
    """`count` pictures of one to four rectangles in different colours on white. A thing's class is its
    colour; the caption of a picture names its colours."""
    rng = random.Random(seed)
    folder = root / "images"
    folder.mkdir(parents=True)
    images, annotations, captions = [], [], []
    for number in range(count):
        picture = PIL.Image.new("RGB", (WIDTH, HEIGHT), "white")
        # A pixel of its own tells pictures of the same things apart.
        picture.putpixel((0, 0), (255, 255, 254 - number % 100))
        colours = rng.sample(COLOURS, rng.randint(1, 4))
        for colour, box in zip(colours, rng.sample(BOXES, len(colours)), strict=True):
            x0, y0, x1, y1 = box[0], box[1], box[2] - rng.randint(0, 9), box[3] - rng.randint(0, 9)
            PIL.ImageDraw.Draw(picture).rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": COLOURS.index(colour) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
                    "iscrowd": 0,
                }
            )
        name = f"{number:03}.png"
        picture.save(folder / name)
        images.append({"id": number + 1, "file_name": name, "width": WIDTH, "height": HEIGHT})
        captions.append({"id": number + 1, "image_id": number + 1, "caption": " and ".join(colours)})
    categories = [{"id": n + 1, "name": colour} for n, colour in enumerate(COLOURS)]
    instances = root / "instances.json"
    instances.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    described = root / "captions.json"
    described.write_text(json.dumps({"images": images, "annotations": captions}))
    return DrawnFolder(folder, instances, described)
