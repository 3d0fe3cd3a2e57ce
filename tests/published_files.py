"""Tiny files in the forms in which benchmarks are published, about drawn photos."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from drawn_photos import DrawnFolder

from regionsearch.models.dummy import COLOURS as NAMED_COLOURS

STORED_QUESTION = "<|image_1|>\nFind the caption of the boxed thing."


def write_parquet(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), file)
    return file


def objects_of(folder: DrawnFolder) -> list[tuple[str, str, list[float], list[str]]]:
    """(file name, colour, [x, y, w, h], colours of the photo) of every drawn thing."""
    content = json.loads(folder.annotations.read_text())
    names = {one["id"]: one["name"] for one in content["categories"]}
    files = {one["id"]: one["file_name"] for one in content["images"]}
    here: dict[int, list[str]] = {}
    for one in content["annotations"]:
        here.setdefault(one["image_id"], []).append(names[one["category_id"]])
    return [
        (files[one["image_id"]], names[one["category_id"]], one["bbox"], here[one["image_id"]])
        for one in content["annotations"]
    ]


def scar_rows(folder: DrawnFolder) -> list[dict[str, Any]]:
    """A query for every thing: its colour among ten, those of its photo first among the distractors, so
    that only the box tells which is meant."""
    rows = []
    for file, colour, box, here in objects_of(folder):
        others = [name for name in here if name != colour]
        others += [name for name in NAMED_COLOURS if name not in here]
        rows.append(
            {
                "qry_text": STORED_QUESTION,
                "qry_image_path": file,
                "tgt_text": [colour, *others[:9]],
                "bbox": box,
            }
        )
    return rows


def write_scar(folder: DrawnFolder, file: Path) -> Path:
    return write_parquet(file, scar_rows(folder))


def write_karpathy(folder: DrawnFolder, file: Path, below: str | None = None) -> Path:
    """`dataset_coco.json` of the drawn photos: all but the last in the split `test`."""
    content = json.loads(folder.captions.read_text())
    captions: dict[int, list[str]] = {}
    for one in content["annotations"]:
        captions.setdefault(one["image_id"], []).append(one["caption"])
    images = [
        {
            "filename": one["file_name"],
            "split": "test" if place + 1 < len(content["images"]) else "train",
            "sentences": [{"raw": text + " ."} for text in captions[one["id"]]],
            **({} if below is None else {"filepath": below}),
        }
        for place, one in enumerate(content["images"])
    ]
    file.write_text(json.dumps({"images": images, "dataset": "drawn"}))
    return file


def write_ctrlbench(folder: DrawnFolder, file: Path) -> Path:
    """A photo's colours one by one: the instruction names the colour that the caption has."""
    entries: dict[str, dict[str, str]] = {}
    for image, colour, _, _ in objects_of(folder):
        entry = entries.setdefault(image, {"image": image})
        number = (len(entry) - 1) // 2
        entry |= {f"prompt_{number}": f"what is {colour}", f"desc_{number}": f"the {colour} one in {image}"}
    file.write_text("\n".join(json.dumps(entry) for entry in entries.values()))
    return file
