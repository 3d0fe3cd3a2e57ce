"""A folder of photos, read recursively."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from regionsearch.errors import InvalidRequest

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".mpo"}
)


@dataclass(frozen=True, slots=True)
class SourceImage:
    """A file to index. image_id: its POSIX path below the source's root, NFC."""

    image_id: str
    path: Path


@dataclass(frozen=True, slots=True)
class FolderScan:
    """images: in the order of their paths. unnamed: files whose names cannot be an id, and why."""

    images: list[SourceImage]
    unnamed: list[tuple[str, str]]


def scan_folder(root: Path) -> FolderScan:
    """Finds the image files below `root`, by extension.

    Hidden files and folders (a leading dot) are passed over. A linked file counts; a linked folder is
    not entered, since it may lead back to where it is. Raises InvalidRequest when `root` is no folder,
    cannot be read, or holds no image file.
    """
    if not root.is_dir():
        raise InvalidRequest(
            f"{str(root)!r} is not a folder" if root.exists() else f"there is no folder {str(root)!r}",
            field="source",
        )
    images: dict[str, SourceImage] = {}
    unnamed: list[tuple[str, str]] = []
    for path in _image_files(root):
        relative = path.relative_to(root).as_posix()
        try:
            relative.encode("utf-8")
        except UnicodeEncodeError:
            unnamed.append((ascii(relative), "its name is not valid UTF-8"))
            continue
        image_id = unicodedata.normalize("NFC", relative)
        if image_id in images:
            unnamed.append((relative, "another file has the same name after Unicode normalisation (NFC)"))
            continue
        images[image_id] = SourceImage(image_id, path)
    if not images and not unnamed:
        raise InvalidRequest(
            f"folder {str(root)!r} holds no image; looked for {', '.join(sorted(EXTENSIONS))}",
            field="source",
        )
    return FolderScan([images[image_id] for image_id in sorted(images)], unnamed)


def _image_files(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise InvalidRequest(
            f"cannot read folder {error.filename!r}: {error.strerror}", field="source"
        ) from error

    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS:
                yield Path(folder) / name
