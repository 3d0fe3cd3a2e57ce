"""Drawn photos with two coloured things each, captioned in SCaR's training format and in COCO's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow
from PIL import Image as Pictures
from PIL import ImageDraw
from pyarrow import parquet

COLOURS = ("red", "lime", "blue", "yellow", "white", "black")


def write_captioned_shapes(folder: Path, photos: int = 3) -> tuple[Path, Path]:
    """The Parquet file and the folder of photos: two pairs a photo, every caption another. Beside the
    file lies captions.json, with one caption a photo."""
    images = folder / "photos"
    images.mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = []
    for number in range(photos):
        picture = Pictures.fromarray(random.integers(90, 150, (56, 84, 3), dtype=np.uint8))
        drawing = ImageDraw.Draw(picture)
        for place, (x, y) in enumerate(((5, 4), (48, 24))):
            colour = COLOURS[(2 * number + place) % len(COLOURS)]
            drawing.rectangle([x, y, x + 27, y + 25], fill=colour)
            rows.append(
                {
                    "qry": "<|image_1|>\nWhat?",
                    "qry_image_path": f"{number}.png",
                    "pos_text": f"{colour} {number}",
                    "pos_image_path": "",
                    "bbox": [x, y, 28, 26],
                }
            )
        picture.save(images / f"{number}.png")
    file = folder / "SCAR_shapes.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    names = [{"id": number, "file_name": f"{number}.png"} for number in range(photos)]
    captions = [{"id": n, "image_id": n, "caption": f"Photo {n}."} for n in range(photos)]
    (folder / "captions.json").write_text(json.dumps({"images": names, "annotations": captions}))
    return file, images
