"""Fills the disk that a folder lies on, deletes, writes again; says what came of it. A program of the tests.

python story_on_a_full_disk.py FOLDER BYTES_AN_IMAGE
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
from stored_images import record, spec

from regionsearch.collection import Collection, DataDirectory
from regionsearch.errors import StorageFull

IMAGES_A_CALL = 100


def filled(collection: Collection, size: int) -> tuple[int, str]:
    """Images that were taken until one alone was refused, and what was said then."""
    random = np.random.default_rng(0)
    count, at_once, said = 0, IMAGES_A_CALL, ""
    while at_once:
        numbers = range(count, count + at_once)
        try:
            collection.upsert([record(random, f"{n:06}", pixels=random.bytes(size)) for n in numbers])
            count += at_once
        except StorageFull as error:
            said = error.message
            at_once //= 4
    return count, said


def wrote_again(collection: Collection, size: int) -> bool:
    random = np.random.default_rng(1)
    try:
        for number in range(10):
            collection.upsert([record(random, f"new {number}", pixels=random.bytes(size))])
    except StorageFull:
        return False
    return True


def told(path: Path, size: int) -> dict[str, object]:
    with DataDirectory(path, "write") as directory:
        collection = directory.create_collection(spec())
        count, said = filled(collection, size)
        # Somebody else takes what is left.
        with contextlib.suppress(OSError), (path.parent / "filling").open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        fill, warnings = collection.stats.fill, collection.stats.warnings
        ids = [f"{number:06}" for number in range(count // 2)]
        deleted = sum(collection.delete(ids[at : at + 50]) for at in range(0, len(ids), 50))
        after = collection.stats.fill
        first = wrote_again(collection, size)
    with DataDirectory(path, "write") as directory:
        collection = directory.collection("photos")
        second = wrote_again(collection, size)
        images = collection.stats.images
    return {
        "count": count, "said": said, "fill": fill, "warnings": warnings, "deleted": deleted,
        "fill after": after, "wrote again": first, "wrote after opening again": second, "images": images,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(told(Path(sys.argv[1]) / "data", int(sys.argv[2]))))
