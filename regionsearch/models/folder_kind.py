"""Which kind of model lies in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from regionsearch.errors import ModelUnavailable
from regionsearch.models.checkpoints import locate, read_json

Role = Literal["embedder", "segmenter"]

_BY_MODEL_TYPE = {
    "clip": "dual_encoder",
    "siglip": "dual_encoder",
    "siglip2": "dual_encoder",
    "qwen2_vl": "vlm",
    "regionsearch_connector": "connector",
}


def folder_kind(role: Role, folder: Path) -> str:
    """The registered kind that can read this folder, told from its files.

    VIRTUE: `config.json` has `virtue_sam`. ABC: a Qwen2-VL base with `adapters/pretrain` beside it.
    Others: by `model_type`. SAM 2: `model_type` sam2 or sam2_video, or Meta's own `.pt` file.
    A folder that has moved is looked for as `checkpoints.locate` does.
    Raises ModelUnavailable, naming what was found, when nothing here reads it.
    """
    try:
        # Absolute: no path is a name on the hub.
        folder = locate(str(folder.absolute()))
    except ModelUnavailable as error:
        error.field = role
        raise
    if role == "segmenter" and (folder.suffix == ".pt" or _has_official_sam(folder)):
        return "sam2"
    if not folder.is_dir():
        raise ModelUnavailable(f"there is no model folder {str(folder)!r}", field=role)
    config = read_json(folder / "config.json")
    model_type = str(config.get("model_type", ""))
    if role == "segmenter":
        if model_type in ("sam2", "sam2_video"):
            return "sam2"
    elif "virtue_sam" in config:
        return "virtue"
    elif (folder / "adapters" / "pretrain").is_dir():
        return "abc"
    elif model_type in _BY_MODEL_TYPE:
        return _BY_MODEL_TYPE[model_type]
    raise ModelUnavailable(
        f"{folder} holds a model of type {model_type!r}, which is no {role} here", field=role
    )


def _has_official_sam(folder: Path) -> bool:
    return folder.is_dir() and not (folder / "config.json").exists() and any(folder.glob("sam2*.pt"))
