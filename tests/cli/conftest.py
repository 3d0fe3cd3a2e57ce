"""What tests of `regionsearch search` ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from served_photos import Served, served_photos


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Collections `c` and `bare`, with thumbnails and without pixels."""
    with served_photos(tmp_path_factory.mktemp("search"), {"c": "thumbnail", "bare": "none"}) as served:
        yield served
