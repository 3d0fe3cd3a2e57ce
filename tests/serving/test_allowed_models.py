"""Which models a client may make a collection with."""

from __future__ import annotations

from pathlib import Path

import pytest

from regionsearch.collection import DataDirectory
from regionsearch.config import Limits
from regionsearch.errors import InvalidRequest, ModelNotFound, ModelUnavailable
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


def test_a_client_learns_nothing_of_the_folders_of_the_server(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "config.json").write_text('{"model_type": "hidden"}')
    clip = tmp_path / "clip"
    clip.mkdir()
    (clip / "config.json").write_text('{"model_type": "clip"}')
    models = ModelRegistry(1)
    with DataDirectory(tmp_path / "data", "write") as directory:
        allowed = frozenset({str(clip)})
        backend = Backend(directory, models, SearchEngine(models, Limits()), Limits(), allowed)
        told = []
        for name in ("secret", "nowhere", "clip,context=0.5"):
            with pytest.raises(ModelNotFound, match="does not offer") as refused:
                backend.check_allowed("embedder", str(tmp_path / name))
            told.append(refused.value.message.replace(name, "X"))
        assert len(set(told)) == 1
        backend.check_allowed("embedder", str(clip))
        backend.check_allowed("embedder", f"dual_encoder:{clip}")


@pytest.mark.parametrize(
    ("allowed", "error"),
    [("virtue:", InvalidRequest), ("/nowhere", ModelUnavailable), ("clap:/x", ModelNotFound)],
)
def test_a_misspelt_allowed_model_keeps_the_server_from_starting(
    tmp_path: Path, allowed: str, error: type[Exception]
) -> None:
    models = ModelRegistry(1)
    with DataDirectory(tmp_path / "data", "write") as directory:
        engine = SearchEngine(models, Limits())
        with pytest.raises(error):
            Backend(directory, models, engine, Limits(), frozenset({allowed})).load()
        Backend(directory, models, engine, Limits(), frozenset({"sam2", "abc", "dummy"})).load()
