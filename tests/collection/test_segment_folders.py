"""Files of dropped collections go, whoever else removes them at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from regionsearch.collection.segment_folders import remove_segment_files, segment_folder


def test_two_drops_at_once_remove_the_same_files(tmp_path: Path) -> None:
    for number in range(5):
        for segment in range(40):
            folder = segment_folder(tmp_path, number) / str(segment)
            folder.mkdir(parents=True)
            for name in ("entities", "images", "rows"):
                (folder / name).write_bytes(b"x")
        together = threading.Barrier(4)

        def remove(_: int, number: int = number, together: threading.Barrier = together) -> None:
            together.wait(10)
            remove_segment_files(tmp_path, number)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(remove, range(4)))
        assert not segment_folder(tmp_path, number).exists()
    remove_segment_files(tmp_path, 99)


def test_files_that_cannot_be_removed_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment_folder(tmp_path, 1).mkdir(parents=True)

    def refuse(*said: object, **how: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr("os.rmdir", refuse)
    with pytest.raises(PermissionError):
        remove_segment_files(tmp_path, 1)
