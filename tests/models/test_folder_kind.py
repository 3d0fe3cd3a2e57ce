"""Which kind of model lies in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regionsearch.errors import ModelUnavailable
from regionsearch.models.folder_kind import folder_kind
from regionsearch.models.registry import EMBEDDERS, SEGMENTERS, resolve
from regionsearch.training.training_state import FILE as STATE_FILE


def folder_of(root: Path, config: dict[str, object]) -> Path:
    root.mkdir(exist_ok=True)
    (root / "config.json").write_text(json.dumps(config))
    return root


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "clip"}, "dual_encoder"),
        ({"model_type": "siglip"}, "dual_encoder"),
        ({"model_type": "siglip2"}, "dual_encoder"),
        ({"model_type": "qwen2_vl"}, "vlm"),
        ({"model_type": "qwen2_vl", "virtue_sam": {}}, "virtue"),
    ],
)
def test_an_embedder_is_told_by_its_config(tmp_path: Path, config: dict[str, object], kind: str) -> None:
    folder = folder_of(tmp_path, config)
    assert folder_kind("embedder", folder) == kind
    assert kind in EMBEDDERS
    assert str(resolve("embedder", f"{folder},b=2,a=1")) == f"{kind}:{folder},a=1,b=2"


def test_abc_is_a_base_model_with_its_adapter_beside_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"model_type": "qwen2_vl"})
    (folder / "adapters" / "pretrain").mkdir(parents=True)
    assert folder_kind("embedder", folder) == "abc"


def test_sam_2_is_told_by_its_config_or_by_the_authors_own_file(tmp_path: Path) -> None:
    for model_type in ("sam2", "sam2_video"):
        assert (
            folder_kind("segmenter", folder_of(tmp_path / model_type, {"model_type": model_type})) == "sam2"
        )
    official = tmp_path / "official"
    official.mkdir()
    (official / "sam2.1_hiera_tiny.pt").write_bytes(b"")
    assert folder_kind("segmenter", official) == "sam2"
    assert folder_kind("segmenter", official / "sam2.1_hiera_tiny.pt") == "sam2"
    assert "sam2" in SEGMENTERS


@pytest.mark.parametrize("role", ["embedder", "segmenter"])
def test_a_folder_of_something_else_is_refused_by_its_type(tmp_path: Path, role: str) -> None:
    with pytest.raises(ModelUnavailable, match=f"type 'blip', which is no {role} here"):
        folder_kind(role, folder_of(tmp_path / "b", {"model_type": "blip"}))  # type: ignore[arg-type]
    with pytest.raises(ModelUnavailable, match=f"type '', which is no {role} here"):
        folder_kind(role, folder_of(tmp_path / "c", {}))  # type: ignore[arg-type]
    with pytest.raises(ModelUnavailable, match="there is no model folder"):
        folder_kind(role, tmp_path / "nothing")  # type: ignore[arg-type]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelUnavailable, match=r"it has no config\.json"):
        folder_kind(role, tmp_path / "empty")  # type: ignore[arg-type]


def test_a_folder_that_has_moved_is_told_by_its_files_where_it_lies_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path / "clip", {"model_type": "clip"})
    monkeypatch.setenv("REGIONSEARCH_MODELS", str(tmp_path))
    assert folder_kind("embedder", Path("/no/such/place/clip")) == "dual_encoder"


def test_a_training_that_has_not_ended_is_named(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_bytes(b"")
    with pytest.raises(ModelUnavailable, match="a training that is not finished: go on with --resume"):
        folder_kind("embedder", tmp_path)


def test_an_embedder_is_no_segmenter(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="type 'clip', which is no segmenter here"):
        folder_kind("segmenter", folder_of(tmp_path / "clip", {"model_type": "clip"}))
    with pytest.raises(ModelUnavailable, match="type 'sam2', which is no embedder here"):
        folder_kind("embedder", folder_of(tmp_path / "sam", {"model_type": "sam2"}))
