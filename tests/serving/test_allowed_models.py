"""Which models a client may make a collection with."""

from __future__ import annotations

from pathlib import Path

import pytest

from regionsearch.collection import DataDirectory
from regionsearch.config import Limits
from regionsearch.errors import ModelNotFound
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.backend import Backend


def test_a_client_cannot_make_the_server_read_a_folder_or_fetch_weights(tmp_path: Path) -> None:
    models = ModelRegistry(1)
    with DataDirectory(tmp_path / "data", "write") as directory:
        allowed = frozenset({"dual_encoder:owner/clip"})
        backend = Backend(directory, models, SearchEngine(models, Limits()), Limits(), allowed)
        backend.check_allowed("embedder", "compact")
        backend.check_allowed("embedder", "dual_encoder:owner/clip")
        for name in ("dual_encoder:/etc", "dual_encoder:owner/other", "abc", "dual_encoder:owner/clip,x=1"):
            with pytest.raises(ModelNotFound, match="does not offer"):
                backend.check_allowed("embedder", name)
        with pytest.raises(ModelNotFound, match="dual_encoder:owner/clip"):
            backend.check_allowed("embedder", "virtue:/elsewhere")
