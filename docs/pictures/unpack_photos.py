"""Takes the photos of the contact sheets out of Debian's packages, and says whose they are.

    apt-get download gcompris-qt-data lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 puzzle-jigsaw
    for package in *.deb; do dpkg -x "$package" "unpacked/${package%%_*}"; done
    python docs/pictures/unpack_photos.py unpacked photos > sources.md

Taken are photos that their package's copyright file names one by one, under terms that let an altered copy
be passed on with its author's name: public domain, CC0, CC BY, CC BY-SA. Each is stored as a JPEG of at most
720 px. The table of ids, authors and terms goes to stdout.
"""

from __future__ import annotations

import io
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

LONGEST_SIDE = 720
FREE_TERMS = re.compile(r"public-domain|CC0-1\.0|CC-BY(-SA)?-[1-4]\.\d")
PICTURES = (".webp", ".jpg", ".jpeg", ".png")
# The folder of its photos, below which an id is the path; gcompris keeps them in Qt resource files.
RESOURCES = {
    "categorization": "src/activities/categorization/resource/images",
    "explore_world_animals": "src/activities/explore_world_animals/resource",
}
FOLDERS = {
    "lomiri-wallpapers-16.04": ("usr/share/backgrounds", "16.04"),
    "lomiri-wallpapers-20.04": ("usr/share/backgrounds", "20.04"),
    "puzzle-jigsaw": ("usr/share/puzzle-jigsaw/samples", "samples"),
}
# Drawings, textures and blocks with letters, which are no photos of things; and what is drawn on paper.
LEFT_OUT = re.compile(
    r"alphabets|numbers|analogpattern|greentock|umang|Fossa|Infinite-Sea|Painting-Colors|fish2\."
)

_FOLDER_FLAG, _ZLIB_FLAG, _ZSTD_FLAG = 2, 1, 4


@dataclass(frozen=True, slots=True)
class Terms:
    author: str
    licence: str


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    packages, photos = map(Path, arguments)
    rows = []
    for package, name, pixels, terms in found(packages):
        image_id = f"{PurePosixPath(name).with_suffix('.jpg')}"
        target = photos / image_id
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(io.BytesIO(pixels)) as picture:
            upright = picture.convert("RGBA")
            page = Image.new("RGBA", upright.size, "white")
            page.alpha_composite(upright)
            page.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            page.convert("RGB").save(target, quality=90)
        rows.append(f"| {image_id} | {terms.author} | {terms.licence} | {package} |")
    print("| photo | author | terms | package |\n| --- | --- | --- | --- |")
    print("\n".join(sorted(rows)))
    return 0


def found(packages: Path) -> Iterator[tuple[str, str, bytes, Terms]]:
    """(package, id, encoded picture, terms) of every photo that may be taken."""
    package = "gcompris-qt-data"
    known = terms_in(packages / package)
    for resource, folder in RESOURCES.items():
        path = packages / package / "usr/share/gcompris-qt/rcc" / f"{resource}.rcc"
        for name, data in resource_files(path.read_bytes()):
            inside = name.removeprefix("/gcompris/")
            terms = known.get(str(PurePosixPath(inside).with_suffix("")))
            if inside.startswith(folder) and taken(inside, terms) and terms is not None:
                yield package, inside.removeprefix(folder + "/"), data, terms
    for package, (below, named) in FOLDERS.items():
        known = terms_in(packages / package)
        for path in sorted((packages / package / below).iterdir()):
            terms = known.get(f"{named}/{path.stem}", known.get(f"{named}/*"))
            if taken(path.name, terms) and terms is not None:
                yield package, f"wallpapers/{path.name}", path.read_bytes(), terms


def taken(name: str, terms: Terms | None) -> bool:
    return (
        terms is not None
        and FREE_TERMS.fullmatch(terms.licence) is not None
        and name.lower().endswith(PICTURES)
        and LEFT_OUT.search(name) is None
    )


def terms_in(unpacked: Path) -> dict[str, Terms]:
    """By path without its ending (photos were converted since): who made it, and under which terms."""
    (path,) = unpacked.glob("usr/share/doc/*/copyright")
    terms = {}
    for paragraph in path.read_text("utf-8").split("\n\n"):
        fields = {}
        for name, first, more in re.findall(
            r"^([A-Z][\w-]*):[ ]*(.*)((?:\n[ ].*)*)", paragraph, re.MULTILINE
        ):
            fields[name] = [line.strip() for line in (first + more).split("\n") if line.strip()]
        if {"Files", "Copyright", "License"} <= fields.keys():
            author = re.sub(
                r"\"| <[^>]*>|^\d{4}[\d ,.-]*|, \d{4}$", "", "; ".join(fields["Copyright"])
            ).strip()
            for pattern in " ".join(fields["Files"]).split():
                terms[str(PurePosixPath(pattern).with_suffix(""))] = Terms(author, fields["License"][0])
    return terms


def resource_files(content: bytes) -> Iterator[tuple[str, bytes]]:
    """(path, content) of every file in a Qt resource file (`.rcc`) that is not compressed with zstd.

    The format: https://github.com/qt/qtbase/blob/dev/src/tools/rcc/rcc.cpp
    """
    if content[:4] != b"qres":
        raise ValueError("no Qt resource file")
    version, tree, data, names = struct.unpack_from(">IIII", content, 4)
    node_size = 14 if version == 1 else 22

    def walk(node: int, above: str) -> Iterator[tuple[str, bytes]]:
        at = tree + node * node_size
        name_at, flags = struct.unpack_from(">IH", content, at)
        path = above
        if node:
            (length,) = struct.unpack_from(">H", content, names + name_at)
            start = names + name_at + 6
            path += "/" + content[start : start + 2 * length].decode("utf-16-be")
        if flags & _FOLDER_FLAG:
            count, first = struct.unpack_from(">II", content, at + 6)
            for child in range(first, first + count):
                yield from walk(child, path)
        elif not flags & _ZSTD_FLAG:
            (offset,) = struct.unpack_from(">I", content, at + 10)
            (length,) = struct.unpack_from(">I", content, data + offset)
            stored = content[data + offset + 4 : data + offset + 4 + length]
            yield path, zlib.decompress(stored[4:]) if flags & _ZLIB_FLAG else stored

    yield from walk(0, "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
