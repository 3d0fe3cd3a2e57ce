"""Photos with COCO annotations: what is in which image, read from `instances.json` and `captions.json`.

The format is COCO's (https://cocodataset.org/#format-data). Objects with `iscrowd` are left out: one
box around many things says where none of them is.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regionsearch.errors import InvalidRequest

LARGE_BOX_AREA = 0.02
"""An object is large when its box is over this fraction of its image."""

Rings = tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True, slots=True)
class AnnotatedObject:
    """One thing that somebody outlined.

    box: [x0, y0, x1, y1) pixels, clipped to the image. box_area: fraction of the image. rings: its
    polygons in pixels, none when the outline was given in another way.
    """

    class_name: str
    box: tuple[float, float, float, float]
    box_area: float
    rings: Rings

    @property
    def is_large(self) -> bool:
        return self.box_area > LARGE_BOX_AREA


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One photo: `image_id` as it is indexed, its file, its size in pixels, what is in it, and how
    people described it."""

    image_id: str
    path: Path
    width: int
    height: int
    objects: tuple[AnnotatedObject, ...]
    captions: tuple[str, ...] = ()

    @property
    def classes(self) -> frozenset[str]:
        return frozenset(thing.class_name for thing in self.objects)

    def of_class(self, class_name: str) -> tuple[AnnotatedObject, ...]:
        return tuple(thing for thing in self.objects if thing.class_name == class_name)


@dataclass(frozen=True, slots=True)
class AnnotatedPhotos:
    """Photos in the order of their ids, and the classes by which they are annotated, by name."""

    images: tuple[AnnotatedImage, ...]
    classes: tuple[str, ...]

    def without(self, image_ids: frozenset[str]) -> AnnotatedPhotos:
        return replace(self, images=tuple(i for i in self.images if i.image_id not in image_ids))


def read_folders(
    folders: Sequence[Path], annotations: Sequence[Path], captions: Sequence[Path] = ()
) -> AnnotatedPhotos:
    """The photos of one or several folders, the n-th annotated by the n-th files.

    One folder: an image's id is its `file_name`. Several: the id is prefixed by as much of the end of
    the folder's path as tells the folders apart. Classes of the same name are one class.
    Raises InvalidRequest when a file is not COCO's, names an id that it does not define or defines one
    twice, gives an image no size, or names photos that are not in the folder.
    """
    if len(folders) != len(annotations) or (captions and len(captions) != len(folders)):
        raise InvalidRequest(
            f"{len(folders)} folders, {len(annotations)} annotation files and {len(captions)} caption "
            "files do not pair up"
        )
    prefixes = _prefixes(folders)
    images: list[AnnotatedImage] = []
    classes: set[str] = set()
    for position, (folder, file) in enumerate(zip(folders, annotations, strict=True)):
        found, names = read_instances(folder, file)
        if captions:
            found = add_captions(found, captions[position])
        classes |= names
        images += [replace(image, image_id=prefixes[position] + image.image_id) for image in found.values()]
    return AnnotatedPhotos(
        images=tuple(sorted(images, key=lambda image: image.image_id)), classes=tuple(sorted(classes))
    )


def read_instances(folder: Path, file: Path) -> tuple[dict[int, AnnotatedImage], set[str]]:
    """Images by the id that the file gives them, and the names of its categories."""
    content = _read_json(file)
    try:
        names = {number: str(entry["name"]) for number, entry in _by_id(content, "categories", file).items()}
        entries = _by_id(content, "images", file)
        for number, entry in entries.items():
            _check_size(number, entry, file)
        things: dict[int, list[AnnotatedObject]] = {number: [] for number in entries}
        for annotation in content["annotations"]:
            _check_ids(annotation, entries, names, file)
            if not annotation.get("iscrowd", 0):
                number = int(annotation["image_id"])
                things[number].append(_object(annotation, names, entries[number]))
        images = {
            number: AnnotatedImage(
                image_id=unicodedata.normalize("NFC", str(entry["file_name"])),
                path=folder / str(entry["file_name"]),
                width=int(entry["width"]),
                height=int(entry["height"]),
                objects=tuple(things[number]),
            )
            for number, entry in entries.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(
            f"{file} is not a COCO instances file: {error!r}", field="annotations"
        ) from error
    _check_files(folder, images)
    return images, set(names.values())


def add_captions(images: dict[int, AnnotatedImage], file: Path) -> dict[int, AnnotatedImage]:
    """The same images with their captions, in the order of the file."""
    content = _read_json(file)
    texts: dict[int, list[str]] = {number: [] for number in images}
    try:
        for annotation in content["annotations"]:
            number = int(annotation["image_id"])
            if number not in images:
                raise InvalidRequest(
                    f"{file}: caption {annotation.get('id')} is of image {number}, which the instances file "
                    "does not name",
                    field="captions",
                )
            texts[number].append(" ".join(str(annotation["caption"]).split()))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(f"{file} is not a COCO captions file: {error!r}", field="captions") from error
    return {number: replace(image, captions=tuple(texts[number])) for number, image in images.items()}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(f"cannot read {file}: {error.strerror}", field="annotations") from error
    except ValueError as error:
        raise InvalidRequest(f"{file} is not JSON: {error}", field="annotations") from error
    if not isinstance(content, dict):
        raise InvalidRequest(f"{file} holds no JSON object", field="annotations")
    return content


def _by_id(content: dict[str, Any], key: str, file: Path) -> dict[int, dict[str, Any]]:
    entries: dict[int, dict[str, Any]] = {}
    for entry in content[key]:
        number = int(entry["id"])
        if number in entries:
            raise InvalidRequest(f"{file}: two of its {key} have the id {number}", field="annotations")
        entries[number] = entry
    return entries


def _check_size(number: int, image: dict[str, Any], file: Path) -> None:
    width, height = int(image["width"]), int(image["height"])
    if width < 1 or height < 1:
        raise InvalidRequest(f"{file}: image {number} is {width} × {height} pixels", field="annotations")


def _check_ids(
    annotation: dict[str, Any], images: dict[int, dict[str, Any]], names: dict[int, str], file: Path
) -> None:
    for key, known in (("image_id", images), ("category_id", names)):
        if int(annotation[key]) not in known:
            raise InvalidRequest(
                f"{file}: annotation {annotation.get('id')} has {key} {annotation[key]}, which the file does "
                "not define",
                field="annotations",
            )


def _object(annotation: dict[str, Any], names: dict[int, str], image: dict[str, Any]) -> AnnotatedObject:
    x, y, box_width, box_height = (float(value) for value in annotation["bbox"])
    width, height = int(image["width"]), int(image["height"])
    x0, x1 = (min(max(value, 0.0), float(width)) for value in (x, x + box_width))
    y0, y1 = (min(max(value, 0.0), float(height)) for value in (y, y + box_height))
    outline = annotation.get("segmentation")
    rings: Rings = ()
    if isinstance(outline, list):
        rings = tuple(
            tuple((float(ring[i]), float(ring[i + 1])) for i in range(0, len(ring) - 1, 2))
            for ring in outline
            if len(ring) >= 6
        )
    return AnnotatedObject(
        class_name=names[int(annotation["category_id"])],
        box=(x0, y0, x1, y1),
        box_area=max(x1 - x0, 0.0) * max(y1 - y0, 0.0) / (width * height),
        rings=rings,
    )


def _check_files(folder: Path, images: dict[int, AnnotatedImage]) -> None:
    if not folder.is_dir():
        raise InvalidRequest(f"there is no folder {folder}", field="images")
    missing = [image.image_id for image in images.values() if not image.path.is_file()]
    if missing:
        raise InvalidRequest(
            f"{len(missing)} of {len(images)} annotated photos are not in {folder}, first {missing[0]!r}",
            field="images",
        )
    if not images:
        raise InvalidRequest(f"the annotations of {folder} name no image", field="annotations")
    if len({image.image_id for image in images.values()}) < len(images):
        raise InvalidRequest(f"the annotations of {folder} name a file twice", field="annotations")


def _prefixes(folders: Sequence[Path]) -> list[str]:
    if len(folders) == 1:
        return [""]
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise InvalidRequest("the same folder is given twice", field="images")
    length = 1
    while len({part[-length:] for part in parts}) < len(parts):
        length += 1
    return ["/".join(part[-length:]).lstrip("/") + "/" for part in parts]
