"""The end of a snapshot."""

from __future__ import annotations

import shutil
from pathlib import Path

from regionsearch.collection.snapshots.destinations import writing_errors
from regionsearch.collection.snapshots.verifying import describe
from regionsearch.collection.unfinished_snapshots import PARTIAL


def remove(path: Path) -> None:
    """Deletes a snapshot, which loses its name first. What is none is left alone.

    Raises SnapshotNotFound, DataLoss and UnsupportedFormat (it cannot be told what lies there), ReadOnly.
    """
    describe(Path(path))
    path = Path(path).resolve()  # else a link would go, and not what it leads to
    with writing_errors(path):
        if path.is_file():
            path.unlink()
            return
        leaving = path.with_name(path.name + PARTIAL)
        path.rename(leaving)
        shutil.rmtree(leaving)
