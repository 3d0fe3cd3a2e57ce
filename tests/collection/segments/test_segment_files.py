"""Files of segments: which lie on the disk, and how long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from segments_oracle import Oracle, segment_files
from stored_images import spec

from regionsearch.collection import DataDirectory
from regionsearch.collection.segments import rewriting
from regionsearch.collection.segments.building import build_index
from regionsearch.collection.segments.upkeep import UpkeepSettings
from regionsearch.errors import StorageFull

BY_HAND = UpkeepSettings.small(background=False)


def test_files_that_a_crash_left_are_swept_and_those_in_use_stay(
    tmp_path: Path, random: np.random.Generator
) -> None:
    path = tmp_path / "data"
    oracle = Oracle(random)
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory:
        collection = directory.create_collection(spec())
        oracle.upsert(collection, [f"{each}" for each in range(20)])
        collection.seal()
        folder = path / "segments" / str(collection.number)
    kept = segment_files(path)
    for name in ("7.partial", "8", "../99/1"):
        (folder / name).mkdir(parents=True)
        (folder / name / "rows").write_bytes(b"half")
    with DataDirectory(path, "read") as directory:
        oracle.assert_found(directory.collection("photos"))
    assert len(segment_files(path)) == len(kept) + 3
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory:
        assert segment_files(path) == kept
        oracle.assert_found(directory.collection("photos"))
        directory.drop_collection("photos")
    assert segment_files(path) == []


def test_a_segment_of_which_the_disk_kept_less_is_never_published(
    directory: DataDirectory, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAISS says nothing when closing a file fails."""
    collection = directory.create_collection(spec())
    oracle = Oracle(random)
    oracle.upsert(collection, [f"{each}" for each in range(20)])

    def cut(path: Path, *given: Any, **named: Any) -> Any:
        built = build_index(path, *given, **named)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 1)
        return built

    monkeypatch.setattr(rewriting, "build_index", cut)
    with pytest.raises(StorageFull, match="cut"):
        collection.seal()
    oracle.assert_found(collection)
    assert (collection.stats.segments, segment_files(directory.path)) == ((), [])
    monkeypatch.undo()
    collection.seal()
    oracle.assert_found(collection)
