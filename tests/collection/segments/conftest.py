"""A directory whose segments are kept by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from regionsearch.collection import DataDirectory
from regionsearch.collection.segments.upkeep import UpkeepSettings


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path / "data", "write", upkeep=UpkeepSettings.small(background=False)) as opened:
        yield opened
