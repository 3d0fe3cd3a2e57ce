"""What a user hears who has installed less than a command needs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import PIL.Image
import pytest

from regionsearch.cli import main
from regionsearch.cli.main import COMPACT_WEIGHTS, extra_with, installing
from regionsearch.errors import ModelUnavailable, RegionSearchError
from regionsearch.models.registry import ModelRegistry


@pytest.mark.parametrize(
    ("module", "extra"),
    [("lmdb", "server"), ("onnxruntime.capi", "compact-runtime"), ("faiss", "faiss-cpu"), ("numpy", None)],
)
def test_each_package_is_known_by_the_extra_that_brings_it(module: str, extra: str | None) -> None:
    assert extra_with(module) == extra


def test_a_command_without_its_packages_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("regionsearch.collection", "indexer"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    words = ["search", "--data", str(tmp_path), "--collection", "c", "--text", "x"]
    assert main(words) == 1
    printed = capsys.readouterr().err
    assert "'lmdb'" in printed
    assert "regionsearch[server]" in printed
    assert "in a checkout: pip install -e '.[server]'" in printed
    assert len(printed.splitlines()) == 1


def test_a_model_without_its_packages_is_unavailable_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("regionsearch.models.compact")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelUnavailable, match=r"'compact'.*'onnx'"):
        ModelRegistry().embedder("compact")


def test_the_line_for_the_compact_models_is_that_of_the_quickstart(repository: Path) -> None:
    line = installing("compact-runtime")
    assert "'.[compact-runtime]'" in line
    assert COMPACT_WEIGHTS in line
    assert COMPACT_WEIGHTS in (repository / "docs" / "quickstart.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("more", "explained"), [([], True), (["--segmenter", "compact"], False)])
def test_a_missing_segmenter_that_nobody_named_is_explained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    explained: bool,
) -> None:
    def missing(*_: object) -> RegionSearchError:
        raise ModelUnavailable("the compact models need packages")

    monkeypatch.setattr(importlib.import_module("regionsearch.models.compact"), "load_segmenter", missing)
    (tmp_path / "photos").mkdir()
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "photos" / "one.png")
    words = ["index", str(tmp_path / "photos"), "--collection", "c", "--data", str(tmp_path / "data")]
    assert main([*words, "--embedder", "dummy", *more]) == 1
    printed = capsys.readouterr().err
    assert "the compact models need packages" in printed
    assert ("no --segmenter was given" in printed) is explained
