"""A tiny ABC, written once."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from tiny_abc import write_tiny_abc

from regionsearch.models.abc.embedder import AbcEmbedder
from regionsearch.models.registry import ModelRegistry


@pytest.fixture(scope="session")
def abc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_abc(tmp_path_factory.mktemp("models") / "tiny-abc")


@pytest.fixture(scope="session")
def abc_embedder(abc_folder: Path) -> AbcEmbedder:
    """With few tokens a picture, as found by its folder."""
    return cast(AbcEmbedder, ModelRegistry().embedder(f"{abc_folder},min_tokens=4,max_tokens=16"))
