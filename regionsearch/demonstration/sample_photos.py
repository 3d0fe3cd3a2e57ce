"""The real photos that ship inside scikit-image, for when the user names no folder of their own."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from regionsearch.errors import ModelUnavailable

# Photographs that are in the installed wheel itself (others would be downloaded) and whose terms
# scikit-image documents as free; its diagrams, test patterns and the photo blurred on purpose are left out.
SAMPLE_PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "retina.jpg",
    "rocket.jpg",
)
SAMPLE_WORDS = ("a cup of coffee", "a cat", "a rocket launch at night")
SAMPLE_ADDED_WORDS = "a cat"


def copy_sample_photos(folder: Path) -> Path:
    """Copies them into `folder`, which is made, and returns it.

    Raises ModelUnavailable when scikit-image is not installed or lacks the photos.
    """
    found = find_spec("skimage")
    if found is None or found.origin is None:
        raise ModelUnavailable(
            "the demo's own photos come with scikit-image, which is not installed: "
            "pip install 'regionsearch[compact-runtime]', or name a folder of photos"
        )
    source = Path(found.origin).parent / "data"
    missing = [name for name in SAMPLE_PHOTOS if not (source / name).is_file()]
    if missing:
        raise ModelUnavailable(f"this scikit-image lacks {', '.join(missing)}; name a folder of photos")
    folder.mkdir(parents=True)
    for name in SAMPLE_PHOTOS:
        shutil.copyfile(source / name, folder / name)
    return folder
