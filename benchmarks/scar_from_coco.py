"""Rows in the form of SCaR, made from photos with COCO instances and captions. This is not SCaR.

    python -m benchmarks.scar_from_coco --images DIR --annotations FILE --captions FILE --out DIR

SCaR's captions were written and checked by people with the help of a language model; these are put
together from annotations, so figures on them compare ways of scoring with each other and nothing else.
One query for each photo and class with a large object: its largest box. Two subsets, ten captions each,
the first true, with the same seed always the same:

* `object_scene.parquet`: "a {class}, {caption}". Five distractors name another class (first those that
  the photo has as well, which only the region can tell apart), four have another photo's caption.
* `object_relation_scene.parquet`: "a {class} {left of|right of|above|below} a {other class}, {caption}",
  where the photo has another class. Three distractors change the class, three the relation, three the
  caption: SCaR's recipe. A model that does not read relations cannot tell four of the ten apart.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from regionsearch.evaluation.coco_annotations import (
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedPhotos,
    read_folders,
)

QUESTION = (
    "<|image_1|>\nFind the caption that best describes the segmented object, considering both local details "
    "and global context in the given image."
)
RELATIONS = ("left of", "right of", "above", "below")
SEED = 0
CAPTIONS = 10

Row = dict[str, object]


def rows_of(photos: AnnotatedPhotos, describe: Describe) -> list[Row]:
    """One row for each photo and class of which it has a large object, where `describe` finds captions."""
    rows: list[Row] = []
    for photo in photos.images:
        for name in sorted(photo.classes):
            thing = max(photo.of_class(name), key=lambda one: one.box_area)
            if not thing.is_large or not photo.captions:
                continue
            captions = describe(photos, photo, thing, random.Random(f"{SEED} {photo.image_id} {name}"))
            if captions is None:
                continue
            x0, y0, x1, y1 = thing.box
            rows.append(
                {
                    "qry_text": QUESTION,
                    "qry_image_path": photo.image_id,
                    "tgt_text": captions,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                }
            )
    return rows


Describe = Callable[[AnnotatedPhotos, AnnotatedImage, AnnotatedObject, random.Random], list[str] | None]


def object_and_scene(
    photos: AnnotatedPhotos, photo: AnnotatedImage, thing: AnnotatedObject, draw: random.Random
) -> list[str] | None:
    """The true caption, five of other classes, four of other scenes."""
    scene = scene_of(photo)
    true = f"{named(thing.class_name)}, {scene}"
    objects = [f"{named(name)}, {scene}" for name in other_classes(photos, photo, thing, draw, 5)]
    scenes = [f"{named(thing.class_name)}, {other}" for other in other_scenes(photos, photo, draw, 4)]
    return [true, *objects, *scenes]


def object_relation_and_scene(
    photos: AnnotatedPhotos, photo: AnnotatedImage, thing: AnnotatedObject, draw: random.Random
) -> list[str] | None:
    """The true caption, three of other classes, three of other relations, three of other scenes; None when
    the photo has no other class."""
    others = [one for one in photo.objects if one.class_name != thing.class_name]
    if not others:
        return None
    other = max(others, key=lambda one: one.box_area)
    place, scene = relation(thing, other), scene_of(photo)
    to = named(other.class_name)

    def caption(name: str, where: str, around: str) -> str:
        return f"{named(name)} {where} {to}, {around}"

    names = [name for name in other_classes(photos, photo, thing, draw, 4) if name != other.class_name][:3]
    return [
        caption(thing.class_name, place, scene),
        *(caption(name, place, scene) for name in names),
        *(caption(thing.class_name, where, scene) for where in RELATIONS if where != place),
        *(caption(thing.class_name, place, around) for around in other_scenes(photos, photo, draw, 3)),
    ]


def other_classes(
    photos: AnnotatedPhotos,
    photo: AnnotatedImage,
    thing: AnnotatedObject,
    draw: random.Random,
    count: int,
) -> list[str]:
    """Other classes: first those of the same photo, then drawn ones."""
    here = sorted(photo.classes - {thing.class_name})
    elsewhere = sorted(set(photos.classes) - photo.classes)
    draw.shuffle(here)
    draw.shuffle(elsewhere)
    return [*here, *elsewhere][:count]


def other_scenes(
    photos: AnnotatedPhotos, photo: AnnotatedImage, draw: random.Random, count: int
) -> list[str]:
    described = [one for one in photos.images if one.captions and one is not photo]
    return [scene_of(one) for one in draw.sample(described, count)]


def scene_of(photo: AnnotatedImage) -> str:
    """The photo's first caption, without capital and full stop."""
    caption = photo.captions[0].rstrip(" .")
    return caption[:1].lower() + caption[1:]


def relation(thing: AnnotatedObject, other: AnnotatedObject) -> str:
    """Where the thing's centre lies from the other's, along the axis on which they are farther apart."""
    x = (thing.box[0] + thing.box[2] - other.box[0] - other.box[2]) / 2
    y = (thing.box[1] + thing.box[3] - other.box[1] - other.box[3]) / 2
    if abs(x) >= abs(y):
        return "right of" if x > 0 else "left of"
    return "below" if y > 0 else "above"


def named(class_name: str) -> str:
    return f"{'an' if class_name[0] in 'aeiou' else 'a'} {class_name}"


def write_rows(rows: Sequence[Row], file: Path) -> None:
    if any(len(set(row["tgt_text"])) != CAPTIONS for row in rows if isinstance(row["tgt_text"], list)):
        raise AssertionError(f"a query of {file} has not {CAPTIONS} different captions")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--captions", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    arguments = parser.parse_args()
    photos = read_folders([arguments.images], [arguments.annotations], [arguments.captions])
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, describe in (
        ("object_scene", object_and_scene),
        ("object_relation_scene", object_relation_and_scene),
    ):
        rows = rows_of(photos, describe)
        write_rows(rows, arguments.out / f"{name}.parquet")
        print(f"{name}.parquet: {len(rows)} queries")


if __name__ == "__main__":
    main()
