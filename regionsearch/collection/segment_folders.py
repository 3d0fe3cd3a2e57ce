"""Where the files of index segments lie: DIR/segments/<collection number>/<segment number>/."""

from __future__ import annotations

import shutil
from pathlib import Path

SEGMENTS = "segments"


def segment_folder(directory: Path, collection: int) -> Path:
    """Of all segments of one collection, known by its number."""
    return directory / SEGMENTS / str(collection)


def remove_segment_files(directory: Path, collection: int) -> None:
    """Of a collection that has no name any more. Searches that have a file mapped keep what they see; what
    another drop removes at the same time is gone as well."""
    shutil.rmtree(segment_folder(directory, collection), onerror=_unless_gone)


def _unless_gone(function: object, path: object, raised: tuple[object, BaseException, object]) -> None:
    if not isinstance(raised[1], FileNotFoundError):
        raise raised[1]
