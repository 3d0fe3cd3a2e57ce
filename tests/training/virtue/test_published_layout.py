"""The files of a trained model, and a disk that does not take them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from full_disk import files_end_at
from tiny_virtue import write_tiny_virtue

from regionsearch.errors import RegionSearchError
from regionsearch.training.virtue.published_layout import write_published


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_virtue(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def others_of_the_group_may_read() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def write(model: Path, folder: Path) -> None:
    sam = sorted((model / "sam2").glob("*.safetensors"))
    write_published(folder, model, {}, {}, {}, {"enabled": True}, sam)


@pytest.mark.usefixtures("others_of_the_group_may_read")
def test_all_files_are_for_whom_the_umask_lets_read(model: Path, tmp_path: Path) -> None:
    write(model, tmp_path / "out")
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert "model.safetensors" in modes
    assert set(modes.values()) == {0o640}


def test_a_full_disk_is_said_and_leaves_no_model_that_is_half_there(model: Path, tmp_path: Path) -> None:
    write(model, tmp_path / "out")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.*")}
    for size in (1000, 50_000):  # the tokenizer's file does not fit, the weights' does not
        with (
            files_end_at(size),
            pytest.raises(RegionSearchError, match=r"out cannot be written.*--resume writes the model again"),
        ):
            write(model, tmp_path / "out")
        assert not (tmp_path / "out" / "config.json").exists()
    write(model, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.*")} == whole
