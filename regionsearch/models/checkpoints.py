"""Where published weights are found, how they are read, and how they are told apart."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionsearch.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch

MODELS_FOLDER = "REGIONSEARCH_MODELS"
"""Environment variable: a folder of model folders, looked into before the hub."""
_HASH_CHUNK = 16 * 1024 * 1024

_hashes: dict[tuple[str, int, int], str] = {}
_hashes_lock = threading.Lock()


def locate(location: str, patterns: Sequence[str] | None = None) -> Path:
    """The folder (or single file) that a model's location means.

    Looked for in this order: a path; a folder of that name, or of its last part, below
    $REGIONSEARCH_MODELS; the hub's cache on this machine; the hub itself, unless HF_HUB_OFFLINE is set.
    `patterns` are the files to fetch from the hub (glob), by default all.
    Raises ModelUnavailable, saying where was looked.
    """
    path = Path(location).expanduser()
    if path.exists():
        return path
    looked = [str(path)]
    # A folder that has moved is found by its name.
    root = os.environ.get(MODELS_FOLDER)
    if root:
        for name in dict.fromkeys((location.lstrip("/"), path.name)):
            candidate = Path(root) / name
            if candidate.exists():
                return candidate
            looked.append(str(candidate))
    if not _is_hub_name(location):
        raise ModelUnavailable(f"there is no model folder {location!r} (looked at {', '.join(looked)})")
    return _from_hub(location, patterns, looked)


def _is_hub_name(location: str) -> bool:
    return location.count("/") == 1 and not location.startswith((".", "/", "~"))


def _from_hub(name: str, patterns: Sequence[str] | None, looked: Sequence[str]) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    allowed = None if patterns is None else list(patterns)
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=allowed, local_files_only=True))
    except LocalEntryNotFoundError:
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            raise ModelUnavailable(
                f"{name!r} is not in the cache of the hub, and HF_HUB_OFFLINE forbids to fetch it "
                f"(looked at {', '.join(looked)})"
            ) from None
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=allowed))
    except (OSError, ValueError) as error:
        # All that the hub raises is one of the two: no connection, no such repository, no access.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelUnavailable(
            f"{name!r} is neither a folder (looked at {', '.join(looked)}) nor in the cache of the hub, "
            f"and could not be fetched: {reason}; download it where there is a network and name the folder"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Raises ModelUnavailable, naming the file, when it is missing or holds no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelUnavailable(
            f"{path.parent} is no model folder of this kind: it has no {path.name}"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelUnavailable(f"{path} holds no JSON object")
    return content


def weight_files(folder: Path) -> list[Path]:
    """The files of a model saved by transformers, sharded or not; safetensors before `.bin`.

    Raises ModelUnavailable when there are none, or when a shard that the index names is missing.
    """
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        index = folder / f"{stem}.{suffix}.index.json"
        if index.exists():
            shards = sorted(set(read_json(index).get("weight_map", {}).values()))
            missing = [name for name in shards if not (folder / name).exists()]
            if missing or not shards:
                raise ModelUnavailable(
                    f"{index} names files that are missing: {', '.join(missing) or 'none'}"
                )
            return [folder / name for name in shards]
        if (folder / f"{stem}.{suffix}").exists():
            return [folder / f"{stem}.{suffix}"]
    raise ModelUnavailable(f"{folder} has no weights: neither model.safetensors nor pytorch_model.bin")


def read_tensors(path: Path) -> dict[str, Any]:
    """What a safetensors file, or one written by torch.save, holds; on the CPU, in its own precision.

    Pickles are read with `weights_only`: they can hold tensors and plain containers, no code.
    Raises ModelUnavailable, naming the file, when it is damaged or holds anything else.
    """
    import pickle

    import safetensors
    import safetensors.torch
    import torch

    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Any] = safetensors.torch.load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, safetensors.SafetensorError, pickle.UnpicklingError) as error:
        raise ModelUnavailable(f"weights {path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(tensors, dict):
        raise ModelUnavailable(f"weights {path} hold no tensors by name")
    return tensors


def iterate_tensors(files: Sequence[Path]) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor of every file in turn, one file in memory at a time."""
    for path in files:
        yield from read_tensors(path).items()


def weights_hash(files: Sequence[Path], settings: Mapping[str, object]) -> str:
    """sha256 (hex) over the contents of the files, in this order, and over the settings that change
    what the model gives. Names and places of the files are no part of it. A file is read once a
    process, unless it changes."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(bytes.fromhex(_file_hash(path)))
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()


def _file_hash(path: Path) -> str:
    real = path.resolve()
    status = real.stat()
    key = (str(real), status.st_size, status.st_mtime_ns)
    with _hashes_lock:
        if key in _hashes:
            return _hashes[key]
    digest = hashlib.sha256()
    with real.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            digest.update(chunk)
    with _hashes_lock:
        _hashes[key] = digest.hexdigest()
    return digest.hexdigest()
