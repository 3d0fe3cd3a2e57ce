"""Pairs to learn from: a picture, mostly with a region, and the caption that belongs to it.

Two formats are read, told apart by the file's name: SCaR's training Parquet, and COCO's `captions.json`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regionsearch.errors import InvalidRequest
from regionsearch.images import load_image

IMAGE_TOKEN = "<|image_pad|>"
STORED_IMAGE_TOKEN = "<|image_1|>"
"""What the published data files write where the picture goes."""
WHOLE_IMAGE_QUERY = f"{IMAGE_TOKEN}\nRetrieve a caption that describes the given image.\n"
"""Asked of captions of whole pictures: the string of the published demonstration."""
_NEEDED = ("qry", "qry_image_path", "pos_text")


@dataclass(frozen=True, slots=True)
class RegionCaption:
    """One pair.

    query: the exact string, with the image token once. target: the bare caption.
    box: x0, y0, x1, y1 in pixels of the picture, None for the whole picture.
    """

    image: Path
    query: str
    target: str
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class CaptionSource:
    """The pairs of one annotation file, in its order; `name` is the file's."""

    name: str
    pairs: tuple[RegionCaption, ...]


def read_sources(
    annotations: Sequence[Path], images: Sequence[Path], limit: int, seed: int
) -> list[CaptionSource]:
    """One source a file; the n-th file's pictures lie below the n-th folder, or all below the only one.

    limit: pairs taken of each file; of a longer one a sample drawn with `seed`, in the file's order.
    Raises InvalidRequest, naming the file, for one that cannot be read, lacks what is needed, holds no
    pair, or names pictures that are not there.
    """
    if len(images) not in (1, len(annotations)):
        raise InvalidRequest(
            f"{len(annotations)} annotation files and {len(images)} folders of images do not pair up: "
            "give one folder for all, or one for each",
            field="images",
        )
    folders = list(images) * len(annotations) if len(images) == 1 else list(images)
    sources = []
    for file, folder in zip(annotations, folders, strict=True):
        if not folder.is_dir():
            raise InvalidRequest(f"there is no folder {folder}", field="images")
        read = _read_coco_captions if file.suffix == ".json" else _read_scar
        pairs = read(file, folder, limit, seed)
        if not pairs:
            raise InvalidRequest(f"{file} holds no pair of picture and caption", field="annotations")
        _check_pictures(pairs, file, folder)
        sources.append(CaptionSource(file.name, tuple(pairs)))
    return sources


def digest_of(sources: Sequence[CaptionSource]) -> str:
    """sha256 (hex) of all pairs in order; the pictures' contents are no part of it."""
    digest = hashlib.sha256()
    for source in sources:
        for pair in source.pairs:
            digest.update(json.dumps([pair.image.name, pair.query, pair.target, pair.box]).encode())
    return digest.hexdigest()


def scar_query(text: str, box: Sequence[float] | None) -> str:
    """The query string of SCaR's training: the stored text and, on a line of its own, the box as Python
    writes a list of its numbers (x0, y0, x1, y1; pixels)."""
    query = text.replace(STORED_IMAGE_TOKEN, IMAGE_TOKEN)
    return query if box is None else f"{query}\nReferring object bbox: {list(box)}"


def _read_scar(file: Path, folder: Path, limit: int, seed: int) -> list[RegionCaption]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(file)
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InvalidRequest(f"{file} cannot be read as Parquet: {reason}", field="annotations") from error
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise InvalidRequest(
            f"{file} is not SCaR's training data: it has no column {', '.join(missing)} "
            f"(it has: {', '.join(table.column_names)})",
            field="annotations",
        )
    columns = [name for name in (*_NEEDED, "bbox") if name in table.column_names]
    chosen = _sample(table.num_rows, limit, seed)
    rows = table.select(columns).take(pyarrow.array(chosen)).to_pylist()
    return [_scar_pair(row, int(number), file, folder) for number, row in zip(chosen, rows, strict=True)]


def _scar_pair(row: dict[str, Any], number: int, file: Path, folder: Path) -> RegionCaption:
    for name in _NEEDED:
        if not isinstance(row[name], str) or not row[name].strip():
            raise InvalidRequest(f"{file}: row {number} has no {name}", field="annotations")
    _check_caption(row["pos_text"], f"pos_text of row {number}", file)
    if row["qry"].count(STORED_IMAGE_TOKEN) + row["qry"].count(IMAGE_TOKEN) != 1:
        raise InvalidRequest(
            f"{file}: qry of row {number} does not hold {STORED_IMAGE_TOKEN} once: {row['qry']!r}",
            field="annotations",
        )
    stored = row.get("bbox")
    box = None
    if stored is not None:
        if not _is_box(stored):
            raise InvalidRequest(
                f"{file}: bbox of row {number} is not [x, y, width, height]: {stored}", field="annotations"
            )
        x, y, width, height = stored
        # Whole numbers stay whole: the string of the query shows them as the file has them.
        box = (x, y, x + width, y + height)
    return RegionCaption(folder / row["qry_image_path"], scar_query(row["qry"], box), row["pos_text"], box)


def _is_box(stored: object) -> bool:
    """Whether it is [x, y, width, height]: finite numbers, the last two above 0."""
    if not isinstance(stored, list) or len(stored) != 4:
        return False
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in stored):
        return False
    return bool(min(stored[2:]) > 0)


def _check_caption(caption: str, where: str, file: Path) -> None:
    """Here, with its place in the file, rather than in the step that would come to it."""
    if IMAGE_TOKEN in caption:
        raise InvalidRequest(f"{file}: {where} holds {IMAGE_TOKEN}: {caption!r}", field="annotations")


def _read_coco_captions(file: Path, folder: Path, limit: int, seed: int) -> list[RegionCaption]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        images = [(int(image["id"]), image["file_name"]) for image in content["images"]]
        captions = [(int(entry["image_id"]), entry["caption"]) for entry in content["annotations"]]
    except OSError as error:
        raise InvalidRequest(f"cannot read {file}: {error.strerror}", field="annotations") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(f"{file} is not a COCO captions file: {error!r}", field="annotations") from error
    names = dict(images)
    for number, name in images:
        if not isinstance(name, str) or name != names[number]:
            raise InvalidRequest(
                f"{file}: image {number} has the file names {name!r} and {names[number]!r}"
                if isinstance(name, str)
                else f"{file}: file_name of image {number} is {name!r}",
                field="annotations",
            )
    for place, (number, caption) in enumerate(captions):
        if number not in names:
            raise InvalidRequest(
                f"{file}: annotation {place} is of image {number}, which images does not name",
                field="annotations",
            )
        if not isinstance(caption, str):
            raise InvalidRequest(f"{file}: caption of annotation {place} is {caption!r}", field="annotations")
        _check_caption(caption, f"caption of annotation {place}", file)
    chosen = [captions[place] for place in _sample(len(captions), limit, seed)]
    # COCO has captions of blanks alone; they say nothing of their picture.
    return [
        RegionCaption(folder / names[number], WHOLE_IMAGE_QUERY, " ".join(caption.split()))
        for number, caption in chosen
        if caption.strip()
    ]


def _sample(count: int, limit: int, seed: int) -> list[int]:
    if count <= limit:
        return list(range(count))
    places: list[int] = np.random.default_rng(seed).choice(count, limit, replace=False).tolist()
    return sorted(places)


def _check_pictures(pairs: Sequence[RegionCaption], file: Path, folder: Path) -> None:
    pictures = dict.fromkeys(pair.image for pair in pairs)
    missing = [path for path in pictures if not path.is_file()]
    if missing:
        first = missing[0].relative_to(folder) if missing[0].is_relative_to(folder) else missing[0]
        raise InvalidRequest(
            f"{len(missing)} of the {len(pictures)} pictures that {file} names are not in {folder}, "
            f"first {first.as_posix()!r}",
            field="images",
        )
    # One is read now: a folder of other files is better found before the model is loaded.
    load_image(next(iter(pictures)))
