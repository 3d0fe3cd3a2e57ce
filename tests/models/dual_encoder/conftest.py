"""One tiny model of each family, written and loaded once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_dual_encoder import FAMILIES, Family, write_tiny_dual_encoder

from regionsearch.models.embedder import Embedder
from regionsearch.models.registry import ModelRegistry


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Family, Path]:
    root = tmp_path_factory.mktemp("dual_encoders")
    return {family: write_tiny_dual_encoder(root / family, family) for family in FAMILIES}


@pytest.fixture(scope="session")
def embedders(folders: dict[Family, Path]) -> dict[Family, Embedder]:
    registry = ModelRegistry()
    return {family: registry.embedder(str(folder)) for family, folder in folders.items()}
