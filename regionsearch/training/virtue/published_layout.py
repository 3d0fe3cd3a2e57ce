"""A trained model in the layout in which VIRTUE's checkpoints are published.

Merged weights under Qwen2-VL's first names in safetensors, `config.json` with `virtue_sam`, the files of
the tokenizer, and `sam2_reducer_and_vlm_layer.pth`. What was not trained is copied as it is.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from regionsearch.errors import InvalidRequest, ModelUnavailable
from regionsearch.models.checkpoints import read_json, read_tensors, weight_files
from regionsearch.models.virtue.loading import CONFIG_ENTRY, CONNECTOR_FILE, SAM_FOLDER
from regionsearch.training.training_state import MODEL_NOT_WRITTEN, make_folder, not_written

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf")
# (as transformers 4.52 and later may write it, as published)
_RENAMED = (
    ("model.language_model.", "model."),
    ("model.visual.", "visual."),
    ("language_model.model.", "model."),
)


def write_published(
    folder: Path,
    source: Path,
    language_model: Mapping[str, torch.Tensor],
    reducer: Mapping[str, torch.Tensor],
    connector: Mapping[str, torch.Tensor],
    virtue_sam: Mapping[str, Any],
    sam: Sequence[Path] = (),
) -> None:
    """source: the folder that training began from. language_model: the merged weights, by their names in
    transformers' `Qwen2VLTextModel`; they are written in the precision that the source has them in.
    sam: the weights of SAM 2, which then go into the folder too; none where they are the stock ones.

    `config.json` is written last: a folder without it is not a model, so a broken one is never loaded.
    Raises ModelUnavailable if the source lacks one of the weights, RegionSearchError for what the disk
    refuses.
    """
    if folder.resolve() == source.resolve():
        raise InvalidRequest(f"{folder} is the model that training began from; give another --out")
    config = read_json(source / "config.json")
    config[CONFIG_ENTRY] = dict(virtue_sam)
    segment = {"sam2_reducer": _on_cpu(reducer), "sam2vlm_layer": _on_cpu(connector)}
    make_folder(folder)
    with not_written(folder, MODEL_NOT_WRITTEN):
        (folder / "config.json").unlink(missing_ok=True)
        _copy_plain_files(source, folder)
        _write_weights(folder, source, language_model)
        torch.save(segment, folder / CONNECTOR_FILE)
        if sam:
            _copy_sam(sam, folder / SAM_FOLDER)
        unfinished = folder / "config.json.unfinished"
        unfinished.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for path in folder.rglob("*"):
            if path.is_file():
                _to_disk(path)
        unfinished.replace(folder / "config.json")


def published_name(name: str) -> str:
    """The name of a weight of Qwen2-VL in published checkpoints, from that in any version."""
    for ours, theirs in _RENAMED:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _copy_plain_files(source: Path, folder: Path) -> None:
    for path in sorted(source.iterdir()):
        weights = path.suffix in _WEIGHT_SUFFIXES or path.name.endswith(".index.json")
        hidden = path.name.startswith(".")
        if path.is_file() and not weights and not hidden and path.name != "config.json":
            shutil.copyfile(path, folder / path.name)


def _copy_sam(files: Sequence[Path], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    described = files[0].parent / "config.json"
    indexes = sorted(files[0].parent.glob("*.index.json")) if len(files) > 1 else []
    for path in (*files, *indexes, *([described] if described.exists() else [])):
        # Meta's own file is known by its name.
        name = path.name if path.suffix != ".pt" or path.name.startswith("sam2") else "sam2.pt"
        if path.resolve() != (folder / name).resolve():
            shutil.copyfile(path, folder / name)


def _write_weights(folder: Path, source: Path, trained: Mapping[str, torch.Tensor]) -> None:
    import safetensors.torch

    files = weight_files(source)
    names = [
        "model.safetensors" if len(files) == 1 else f"model-{number:05d}-of-{len(files):05d}.safetensors"
        for number in range(1, len(files) + 1)
    ]
    left = dict(trained)
    places: dict[str, str] = {}
    size = 0
    for path, name in zip(files, names, strict=True):
        tensors: dict[str, torch.Tensor] = {}
        for stored, tensor in read_tensors(path).items():
            published = published_name(stored)
            ours = (
                left.pop(published.removeprefix("model."), None) if published.startswith("model.") else None
            )
            new = tensor if ours is None else ours.detach().to("cpu", tensor.dtype)
            # A copy: tied weights share their memory, which safetensors refuses to write.
            tensors[published] = new.clone(memory_format=torch.contiguous_format)
            places[published] = name
            size += new.nbytes
        # safetensors lets the owner alone read its files; these are read by whom the umask lets.
        (folder / name).touch()
        mode = (folder / name).stat().st_mode
        safetensors.torch.save_file(tensors, folder / name, metadata={"format": "pt"})
        (folder / name).chmod(mode)
    if left:
        raise ModelUnavailable(f"weights in {source} lack {', '.join(sorted(left)[:5])}")
    if len(files) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _on_cpu(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu").clone() for name, tensor in tensors.items()}


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
