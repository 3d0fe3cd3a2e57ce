"""What makes files and their names last through a power cut."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sync(path: Path) -> None:
    """The content of a file, or the names in a folder, are on disk when this returns. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_by_json(path: Path, unfinished: Path, values: Mapping[str, Any]) -> None:
    """`path` is a line of JSON, on disk, when this returns; until then it is what it was.

    unfinished: written first, beside it. Raises OSError.
    """
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(values, file)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync(path.parent)
