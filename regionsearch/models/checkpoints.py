"""Where published weights are found, how they are read, and how they are told apart."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionsearch.errors import ModelUnavailable
from regionsearch.models.quoting import first_line

if TYPE_CHECKING:
    import torch

MODELS_FOLDER = "REGIONSEARCH_MODELS"
"""Environment variable: a folder of model folders, looked into before the hub."""
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_UNFINISHED_TRAINING = "training_state.pt"
"""What `regionsearch train` keeps in its folder until the model is written."""
_HASH_CHUNK = 16 * 1024 * 1024

_log = logging.getLogger("regionsearch.models")
_hashes: dict[tuple[str, int, int], str] = {}
_hashes_lock = threading.Lock()


def locate(location: str, patterns: Sequence[str] | None = None) -> Path:
    """The folder (or single file) that a model's location means.

    Looked for in this order: a path; a folder of that name, or of its last part, below
    $REGIONSEARCH_MODELS; the hub's cache on this machine; the hub itself, unless HF_HUB_OFFLINE is set.
    `patterns` are the files to fetch from the hub (glob), by default all.
    Raises ModelUnavailable, saying where was looked and what can be done.
    """
    path = Path(os.path.expanduser(location))  # noqa: PTH111 - Path's own raises for a user unknown here
    if _exists(path):
        return path
    looked = [str(path)]
    # A folder that has moved is found by its name.
    root = os.environ.get(MODELS_FOLDER)
    if root:
        for name in dict.fromkeys((location.lstrip("/"), path.name)):
            candidate = Path(root) / name
            if name and _exists(candidate):
                return candidate
            looked.append(str(candidate))
    if not _is_hub_name(location):
        raise ModelUnavailable(
            f"there is no model folder {location!r} (looked at {', '.join(looked)}); if it has moved, give "
            f"its new place, or put it {_below_models_folder(path.name)}"
        )
    return _from_hub(location, patterns, looked)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # A name longer than the file system takes, or a folder that may not be looked into.
        return False


def _below_models_folder(name: str) -> str:
    unset = "" if os.environ.get(MODELS_FOLDER) else " (not set)"
    return f"as {name!r} below the folder that {MODELS_FOLDER} names{unset}"


def _is_hub_name(location: str) -> bool:
    return location.count("/") == 1 and not location.startswith((".", "/", "~"))


def _from_hub(name: str, patterns: Sequence[str] | None, looked: Sequence[str]) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    way_out = (
        f"where there is a network, `hf download {name} --local-dir FOLDER`, then give FOLDER, or put it "
        f"{_below_models_folder(name.rpartition('/')[2])}"
    )
    allowed = None if patterns is None else list(patterns)
    cached: Path | None = None
    try:
        cached = Path(huggingface_hub.snapshot_download(name, allow_patterns=allowed, local_files_only=True))
    except HFValidationError:
        raise ModelUnavailable(
            f"there is no model folder {name!r} (looked at {', '.join(looked)}), and the hub cannot have a "
            "model of that name"
        ) from None
    except LocalEntryNotFoundError:
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            raise ModelUnavailable(
                f"{name!r} is not in the cache of the hub, or not all of it, and HF_HUB_OFFLINE forbids to "
                f"fetch it (looked at {', '.join(looked)}); {way_out}"
            ) from None
    if cached is not None and (huggingface_hub.constants.HF_HUB_OFFLINE or _has_weights(cached)):
        return cached
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=allowed))
    # No connection, no such repository, no access: its own errors, and those of the HTTP library below it.
    except Exception as error:
        # The hub's library begins so where it quotes the HTTP library.
        reason = first_line(error).removeprefix("Got: ")
        if cached is not None:
            # Whoever reads it says which file is missing, if one is.
            _log.warning("event=not_fetched model=%s cached=%s reason=%r", name, cached, reason)
            return cached
        raise ModelUnavailable(
            f"{name!r} is neither a folder (looked at {', '.join(looked)}) nor in the cache of the hub, "
            f"and could not be fetched: {reason}; {way_out}"
        ) from error


def _has_weights(folder: Path) -> bool:
    """Whether a folder of the hub's cache is more than the few files that somebody else looked at: there
    are weights, besides the shards of a model that is not all there."""
    partial: set[Path] = set()
    for index in folder.rglob("*.index.json"):
        shards = [index.parent / name for name in _shards(index)]
        if not all(shard.exists() for shard in shards):
            partial.update(shards)
    return any(path.suffix in _WEIGHTS and path not in partial for path in folder.rglob("*"))


def read_json(path: Path) -> dict[str, Any]:
    """Raises ModelUnavailable, naming the file, when it is missing or holds no JSON object, and saying so
    where it is missing because the model's training has not ended."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if path.name == "config.json" and (path.parent / _UNFINISHED_TRAINING).exists():
            raise ModelUnavailable(
                f"{path.parent} holds a training that is not finished: go on with --resume"
            ) from None
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
            shards = _shards(index)
            missing = [name for name in shards if not (folder / name).exists()]
            if missing or not shards:
                raise ModelUnavailable(
                    f"{index} names files that are missing: {', '.join(missing) or 'none'}"
                )
            return [folder / name for name in shards]
        if (folder / f"{stem}.{suffix}").exists():
            return [folder / f"{stem}.{suffix}"]
    raise ModelUnavailable(f"{folder} has no weights: neither model.safetensors nor pytorch_model.bin")


def _shards(index: Path) -> list[str]:
    """The files that a sharded model's index names. Raises ModelUnavailable when it names none."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ModelUnavailable(f"{index} has no weight_map of files")
    return sorted(set(places.values()))


def read_tensors(path: Path) -> dict[str, Any]:
    """What a safetensors file, or one written by torch.save, holds; on the CPU, in its own precision.

    Pickles are read with `weights_only`: they can hold tensors and plain containers, no code.
    Raises ModelUnavailable, naming the file, when it is damaged or holds anything else.
    """
    import safetensors.torch
    import torch

    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Any] = safetensors.torch.load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    # A damaged pickle can raise anything: UnicodeDecodeError, KeyError, IndexError, struct.error, ...
    except Exception as error:
        raise ModelUnavailable(f"weights {path} cannot be read: {first_line(error)}") from error
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
